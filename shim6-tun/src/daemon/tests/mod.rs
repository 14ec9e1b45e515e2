//! The daemon against a kernel of its own.

mod run;
mod taps;
