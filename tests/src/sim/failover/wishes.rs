//! What hosts prefer, as an order of pairs that knows nothing of how the stack makes its own.

use shim6_core::LAST_RESORT;
use shim6_core::wire::Preference;

use crate::sim::pool::Locator;

/// What each host says of each of its locators.
#[derive(Debug)]
pub(super) struct Wishes(Vec<Vec<Preference>>);

/// Less is better.
type Rank = (bool, u8, u8, bool, bool);

impl Wishes {
    pub(super) fn new(preferences: Vec<Vec<Preference>>) -> Self {
        Self(preferences)
    }

    /// Whether a host would rather send from and to these locators than those. `home` are the ULIDs.
    pub(super) fn prefers(&self, pair: (Locator, Locator), than: (Locator, Locator), home: (Locator, Locator)) -> bool {
        (self.rank(pair), pair != home) < (self.rank(than), than != home)
    }

    /// Whether a session stays on its ULIDs while they work, whatever else is wished for.
    pub(super) fn keeps(&self, home: (Locator, Locator)) -> bool {
        let (_, own, other, ..) = self.rank(home);
        own.max(other) != LAST_RESORT
    }

    /// A locator that does not work comes last, then own wishes come before the peer's, numbers before what lasts.
    fn rank(&self, (local, peer): (Locator, Locator)) -> Rank {
        let [own, other] = [local, peer].map(|locator| self.0[locator.host][locator.index]);
        (
            own.flags.is_broken() || other.flags.is_broken(),
            own.priority,
            other.priority,
            own.flags.is_transient(),
            other.flags.is_transient(),
        )
    }
}
