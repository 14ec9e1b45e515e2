//! What this host tells of itself, in as much room as there is (RFC 5533 section 5.1).

use alloc::sync::Arc;

use shim6_reap::LocatorPair;

use super::{Endpoint, monitor};
use crate::identity::{Extent, Identity};
use crate::wire::option::Announcement;
use crate::wire::{Discard, MAX_MESSAGE, Message};

impl Endpoint {
    /// Builds a message with all options about this host's locators, or with as many as fit. What is left out follows in
    /// an Update Request, where there is room for it: the second result is the identity if nothing was left out.
    ///
    /// What takes the room is a Responder Validator that has to be carried back.
    pub(super) fn announce(
        &self,
        identity: &Arc<Identity>,
        ulids: LocatorPair,
        build: impl Fn(Announcement) -> Message,
    ) -> Result<(Message, Option<Arc<Identity>>), Discard> {
        for extent in identity.extents() {
            let message = build(self.announcement(identity, ulids, extent));
            if message.buffer_len() <= MAX_MESSAGE {
                let announced = (extent == Extent::Whole).then(|| identity.clone());
                return Ok((message, announced));
            }
        }
        Err(Discard::TooLong)
    }

    fn announcement(&self, identity: &Identity, ulids: LocatorPair, extent: Extent) -> Announcement {
        let (profile, reap) = self.config.reap_towards(ulids.peer);
        let ours = monitor::Announced::ours(profile, reap);
        Announcement {
            keepalive_timeout: ours.seconds,
            keepalive_timeout_ms: ours.milliseconds,
            ..identity.announcement(ulids.local, extent)
        }
    }
}
