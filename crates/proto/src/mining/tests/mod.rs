//! Templates against real blocks and against the `bitcoin` crate; the machine in a small test
//! world.

mod generating;
mod mining;
mod proposals;
mod templates;
mod world;
