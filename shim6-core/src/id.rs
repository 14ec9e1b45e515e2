//! The name of a context.

use core::fmt;

/// Names a context within one [`Endpoint`](crate::Endpoint), for ever: a later context gets another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextId(pub(crate) u64);

impl ContextId {
    /// The number, for people and logs.
    pub fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ContextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
