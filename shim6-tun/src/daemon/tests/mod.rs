//! The daemon against a kernel of its own.

mod identity;
mod run;
mod taps;
