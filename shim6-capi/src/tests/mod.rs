//! The functions as a C program calls them.

mod arguments;
mod garbage;
mod header;
mod hosts;
mod identities;
mod network;

/// Calls functions of the interface.
macro_rules! call {
    ($call:expr) => {
        // SAFETY: the pointers are to live values of these tests, or null, or of handles that are refused for their alignment.
        unsafe { $call }
    };
}
use call;
