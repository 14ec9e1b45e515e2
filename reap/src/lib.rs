#![no_std]
#![forbid(unsafe_code)]
//! REAP.
extern crate alloc;
