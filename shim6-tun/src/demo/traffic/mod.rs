//! Traffic over ordinary kernel sockets, with everything a test wants to know about it.
//!
//! The functions take sockets that exist already: make them inside a lab namespace with
//! `namespace.run(|| sockets::listen(..))`, they stay in that namespace for life.

pub mod bulk;
pub mod download;
pub mod pattern;
pub mod request;
pub mod series;
pub mod sockets;

pub use download::{Download, Transfer, download, serve};
pub use pattern::Pattern;
pub use request::{Dialogue, Exchange, converse, echo};
pub use series::Series;
