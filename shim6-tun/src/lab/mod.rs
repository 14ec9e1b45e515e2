//! A network laboratory in one process tree: hosts and routers as network namespaces, links as
//! virtual Ethernet, built by an ordinary user without any installed tool.

mod error;
mod isolation;
mod namespace;
mod testing;
#[cfg(test)]
mod tests;

pub use error::LabError;
pub use isolation::{enter_user_namespace, reexec, support};
pub use namespace::Namespace;
pub use testing::{isolated, skip};
