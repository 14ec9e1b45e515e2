//! Independent checks of the Shim6 stack.
