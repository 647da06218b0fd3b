//! What the command lines of both programs, `handfast` and `handfastd`, share.
//!
//! * [`keys`], [`Layers`]: every option and configuration key, and what was said about each.
//! * [`Place`]: where a node is, which every command has to know.
//! * [`usage`]: the options of a command, and one line about a command line that is wrong.
//! * [`signals`], [`output`]: what the user sends and reads besides.
//!
//! What `run` alone has to know is settled by `handfastd`.

mod directory;
mod error;
mod file;
mod foreign;
pub mod keys;
mod layers;
pub mod output;
mod place;
mod running;
pub mod signals;
pub mod usage;
pub mod values;

pub use directory::{check_datadir, testnet_dir};
pub use error::SettingsError;
pub use file::add_config_file;
pub use layers::{Given, Layers, Origin};
pub use place::{
    Hints, Place, bad_datadir, datadir, network_called, place, place_to_call, reachable,
};

pub use running::{chosen_by, running_in};

/// The variable by which `handfast` tells `handfastd` its own version, so that programs of two
/// versions are told from each other before anything is read or written.
pub const FRONT_VERSION: &str = "HANDFAST_FRONT_VERSION";
