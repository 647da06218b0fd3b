//! The parts of the command line that `handfast` and `handfastd` share.
//!
//! * [`keys`], [`Layers`]: every option and configuration key, and the values given for each.
//! * [`NodeLocation`]: a node's network, directory and RPC addresses, which every command needs.
//! * [`usage`]: the options of a command, and the one-line error of a wrong command line.
//! * [`signals`], [`output`]: signals from the user, and output to the user.
//!
//! The settings that only `run` needs are in `handfastd`.

mod directory;
mod error;
mod file;
mod foreign;
pub mod keys;
mod layers;
mod location;
pub mod output;
mod running;
pub mod signals;
pub mod usage;
pub mod values;

pub use directory::{check_datadir, testnet_dir};
pub use error::SettingsError;
pub use file::add_config_file;
pub use layers::{Given, Layers, Origin};
pub use location::{
    Hints, NodeLocation, bad_datadir, datadir, location_to_call, network_called, node_location,
    reachable,
};

pub use running::{chosen_by, running_in};

/// The environment variable with the version of `handfast`, by which `handfastd` refuses to start
/// for another version before anything is read or written.
pub const FRONT_VERSION: &str = "HANDFAST_FRONT_VERSION";
