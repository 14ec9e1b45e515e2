//! The demo: the same download with and without Shim6, side by side, over an uplink that is cut.
//!
//! [`scenario`] holds the steps (lab, daemons, transfers, cut, shutdown) and is shared with the
//! end-to-end tests and `netbench`; [`traffic`] moves the data over ordinary kernel sockets;
//! [`live`] is what both write into while it happens, for [`view`] to draw and [`report`] to plot.

pub mod daemon;
pub mod live;
pub mod report;
pub mod scenario;
pub mod snapshot;
pub mod stage;
pub mod summary;
pub mod traffic;
pub mod view;
