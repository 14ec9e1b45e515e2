//! System calls that have no safe wrapper elsewhere: the only place in this crate with `unsafe` code.

pub mod netns;
