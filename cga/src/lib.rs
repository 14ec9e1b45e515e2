#![no_std]
#![forbid(unsafe_code)]
//! CGA and HBA.
extern crate alloc;
