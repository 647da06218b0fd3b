//! How the actors work together. Documentation only: there is no code here.

pub mod credits;
pub mod ordering;
pub mod shutdown;
