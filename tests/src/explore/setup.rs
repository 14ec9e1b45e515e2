//! What a small world consists of, and what can happen in it.

use std::fmt::{self, Debug};
use std::rc::Rc;

use shim6_core::wire::MessageType;

/// How often something that does not happen by itself may happen.
#[derive(Debug, Clone, Default, Hash, PartialEq, Eq)]
pub(super) struct Budget {
    /// Exchanges begun, by each host.
    pub(super) establish: [u8; 2],
    /// Packets lost.
    pub(super) lose: u8,
    /// Packets duplicated.
    pub(super) duplicate: u8,
    /// Losses of all state, by each host.
    pub(super) crash: [u8; 2],
    /// Contexts closed, by their owners or because nothing passes, by each host.
    pub(super) close: [u8; 2],
    /// Payload packets of a context on another pair than its ULIDs, so that they bear its tag; by each host.
    pub(super) payload: [u8; 2],
    /// Changes of this host's locators, of which the third one comes or goes, by each host.
    pub(super) update: [u8; 2],
    /// Forked contexts begun, by each host.
    pub(super) fork: [u8; 2],
    /// First locators that stop working at their host, by each host.
    pub(super) locator: [u8; 2],
    /// Timeouts of hosts without an exchange under way, which can go on for ever; an exchange gives up after a few.
    pub(super) timeouts: u8,
}

/// A small world.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) budget: Budget,
    /// The ULID pairs that contexts are wanted for, by the position of the locator at each host.
    pub(super) ulids: Vec<[usize; 2]>,
    /// Packets in flight at a time.
    pub(super) in_flight: usize,
    /// A host that crashed draws the same random numbers again, so that it gives out tags that it has given out before.
    pub(super) same_tags: bool,
    /// Messages of this type never arrive: shows that the check can fail.
    pub(super) ignored: Option<MessageType>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            budget: Budget::default(),
            ulids: vec![[0, 0]],
            in_flight: 4,
            same_tags: false,
            ignored: None,
        }
    }
}

/// What can happen next.
#[derive(Clone)]
pub(super) enum Action {
    /// A host begins the exchange for one of the ULID pairs.
    Establish(usize, usize),
    /// A packet arrives; the text says which.
    Deliver(usize, Rc<str>),
    /// A packet is lost.
    Lose(usize, Rc<str>),
    /// A packet is there twice.
    Duplicate(usize, Rc<str>),
    /// A host's clock comes to its next timeout.
    Timeout(usize),
    /// A host forgets everything.
    Crash(usize),
    /// A host closes one of its contexts, the oldest first.
    Close(usize, usize),
    /// A host gets or loses its third locator.
    Update(usize),
    /// A host begins an exchange for a fork of the first ULID pair.
    Fork(usize),
    /// The link of a host's first locator goes down.
    Locator(usize),
    /// A host sends payload of an established context, the oldest first, on another pair than its ULIDs.
    Payload(usize, usize),
}

impl Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Establish(host, pair) => write!(f, "host {host} begins an exchange for ULID pair {pair}"),
            Self::Deliver(_, what) => write!(f, "arrives: {what}"),
            Self::Lose(_, what) => write!(f, "is lost: {what}"),
            Self::Duplicate(_, what) => write!(f, "is duplicated: {what}"),
            Self::Timeout(host) => write!(f, "host {host} has a timeout"),
            Self::Crash(host) => write!(f, "host {host} loses its state"),
            Self::Close(host, context) => write!(f, "host {host} closes context {context}"),
            Self::Update(host) => write!(f, "host {host} changes its locators"),
            Self::Fork(host) => write!(f, "host {host} begins an exchange for a fork"),
            Self::Locator(host) => write!(f, "host {host} loses the link of its first locator"),
            Self::Payload(host, context) => write!(f, "host {host} sends payload of context {context} with its tag"),
        }
    }
}
