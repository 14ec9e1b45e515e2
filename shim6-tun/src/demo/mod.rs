//! The demo.
pub mod live;
pub mod traffic;
