//! Templates against real blocks and against the `bitcoin` crate; the machine in a world of
//! its own.

mod generating;
mod mining;
mod proposals;
mod templates;
mod world;
