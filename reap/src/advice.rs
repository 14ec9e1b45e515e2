//! What the caller knows of pairs from elsewhere.

use alloc::vec::Vec;

use crate::LocatorPair;

/// What was found out about pairs elsewhere: by other contexts between the same two hosts.
///
/// It only says in which order to try pairs; see [`Reap::advise`](crate::Reap::advise). A pair in both lists counts as
/// failing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// What we send on these arrives.
    pub works: Vec<LocatorPair>,
    /// What we send on these does not arrive.
    pub fails: Vec<LocatorPair>,
}
