//! Material for the tests of this module.
