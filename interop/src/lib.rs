//! Independent checks of the Shim6 stack.
//!
//! A protocol that was only ever held against itself proves little. This crate has what is not the stack, for the stack
//! to be held against: other people's packet libraries, and a second reading of the RFCs' figures.
//!
//! - [`packet`] builds real IPv6 packets and checks them, over etherparse.
//! - [`reader`] reads Shim6 headers without `shim6-core`, over libpnet.
//! - [`writer`] writes them, with all that receivers have to ignore.
//! - [`capture`] writes packets to pcapng files, and reads them with another library.
#![forbid(unsafe_code)]
// libpnet's packet macro asks for a feature of its own, and the lint looks at that before any attribute of a module.
#![allow(unexpected_cfgs)]

pub mod capture;
pub mod packet;
pub mod reader;
pub mod writer;
