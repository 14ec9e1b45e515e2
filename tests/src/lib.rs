//! Tests of the Shim6 stack: what the test and bench programs of this package share.

pub mod binary;
pub mod compare;
