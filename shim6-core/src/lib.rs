#![no_std]
#![forbid(unsafe_code)]
//! Shim6 without I/O.
extern crate alloc;

pub mod wire;
