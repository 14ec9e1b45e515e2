//! Tests of the Shim6 stack.
