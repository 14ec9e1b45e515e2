//! The `shim6` command.
fn main() {}
