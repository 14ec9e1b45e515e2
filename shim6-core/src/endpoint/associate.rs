//! What follows once a peer has proved its locators: the context is established, or hears from its peer (RFC 5533
//! sections 7.13, 7.15, 7.16).

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::Ipv6Addr;
use core::time::Duration;

use shim6_reap::{Cause, Instant, LocatorPair, Reap};

use super::verify::{Claim, Refusal};
use super::{Arrival, Endpoint, monitor, paths};
use crate::context::{Association, ContextState, PeerLocators};
use crate::dataplane::{Activity, DataplaneUpdate, Flow};
use crate::event::{CloseReason, Event};
use crate::id::ContextId;
use crate::identity::Identity;
use crate::wire::option::Announcement;
use crate::wire::{ContextTag, Discard};

/// What an I2, I2bis or R2 tells of its sender, verified.
pub(super) struct PeerDescription {
    /// When the validator of an I2 or I2bis was issued; `None` of an R2.
    pub(super) issued: Option<Instant>,
    /// The round-trip time that the exchange has shown.
    pub(super) rtt: Option<Duration>,
    tag: ContextTag,
    locators: PeerLocators,
    keepalive: monitor::Announced,
}

impl Endpoint {
    /// Verifies what a message tells of its sender, whose ULID is `ulid`.
    pub(super) fn describe(
        &mut self,
        arrival: Arrival<'_>,
        ulid: Ipv6Addr,
        tag: ContextTag,
        announcement: &Announcement,
    ) -> Result<PeerDescription, Discard> {
        let claim = Claim {
            list: announcement.locators.as_ref(),
            parameters: announcement.cga_parameters.as_deref(),
            signature: announcement.cga_signature.as_deref(),
            preferences: announcement.preferences.as_ref(),
        };
        let locators = match self.verify_locators(arrival.now, ulid, claim) {
            Ok(locators) => locators,
            Err(Refusal::Silent(reason) | Refusal::Unproven(_, reason)) => return Err(reason),
            Err(Refusal::Error(fault, reason)) => {
                self.report_fault(arrival, fault);
                return Err(reason);
            }
        };
        if !locators.locators.contains(&arrival.on.peer) && ulid != arrival.on.peer {
            return Err(Discard::LocatorNotInSet);
        }
        let keepalive = monitor::Announced::new(announcement.keepalive_timeout, announcement.keepalive_timeout_ms);
        Ok(PeerDescription {
            issued: None,
            rtt: None,
            tag,
            locators,
            keepalive,
        })
    }

    /// Enters ESTABLISHED: records what the peer said and starts REAP on the pair that the exchange used, which has just been
    /// shown to work.
    pub(super) fn associate(&mut self, now: Instant, on: LocatorPair, id: ContextId, peer: PeerDescription) {
        let exchange = self.contexts.modify(id, |context| context.exchange.take()).flatten();
        let is_initiator = peer.issued.is_none();
        // The R2 that is about to answer the peer tells it all; if it gets lost, the peer asks again.
        let announced = match exchange {
            Some(exchange) if is_initiator => exchange.announced,
            _ => self.contexts.get(id).map(|context| context.identity.clone()),
        };
        self.take_over(now, on, id, peer, announced);
        let Some(ulids) = self.contexts.modify(id, |context| {
            context.was_established = true;
            context.ulids
        }) else {
            return;
        };
        self.events.push_back(Event::Established {
            context: id,
            ulids,
            initiator: is_initiator,
        });
        self.begin(now, on, id);
    }

    /// Records what the peer said in an I2 or I2bis in the middle of an exchange of ours: its state stays (section 7.13).
    pub(super) fn hear_from(&mut self, now: Instant, on: LocatorPair, id: ContextId, peer: PeerDescription) {
        let announced = self.contexts.get(id).map(|context| context.identity.clone());
        self.take_over(now, on, id, peer, announced);
        self.begin(now, on, id);
    }

    /// Makes or replaces the association.
    fn take_over(
        &mut self,
        now: Instant,
        on: LocatorPair,
        id: ContextId,
        peer: PeerDescription,
        announced: Option<Arc<Identity>>,
    ) {
        let tag = peer.tag;
        let Some(ulid) = self.contexts.get(id).map(|context| context.ulids.peer) else {
            return;
        };
        let config = self.reap_config(ulid, peer.keepalive);
        let Some(context) = self.contexts.get(id) else {
            return;
        };
        let old = context.association.as_deref();
        let activity = old.map_or_else(|| Arc::new(Activity::default()), |old| old.activity.clone());
        let wished = old.and_then(|old| old.wished);
        let (failovers, last_failover) = old.map_or((0, None), |old| (old.failovers, old.last_failover.clone()));
        let pairs = paths::exploration_order(
            &paths::Ends {
                ulids: context.ulids,
                ours: &context.identity,
                known: announced.as_deref(),
                peer: &peer.locators,
                wished,
            },
            &mut self.rng,
        );
        let mut reap = Reap::new(config, pairs, on);
        if let Some(rtt) = peer.rtt {
            reap.note_rtt(rtt);
        }
        for &locator in &self.unusable {
            reap.set_usable(locator, false);
        }
        let flow = Arc::new(Flow {
            context: id,
            ulids: context.ulids,
            forked_instance: context.forked_instance,
            locators: on,
            local_tag: context.local_tag,
            peer_tag: peer.tag,
            activity: activity.clone(),
            holding: false,
        });
        let association = Association {
            peer_tag: peer.tag,
            peer: peer.locators,
            reap,
            // What passed before says nothing about this exchange's outcome.
            reported: {
                let snapshot = activity.take_snapshot();
                (snapshot.sent_packets, snapshot.received_packets)
            },
            activity,
            next_look: None,
            quiescence_check: now + self.config.quiescence,
            flow: flow.clone(),
            announced,
            issued: peer.issued,
            update: None,
            acknowledged: None,
            told_again: None,
            unwanted: 0,
            pinned: false,
            wished,
            disturbed: None,
            waiting: None,
            away: None,
            failovers,
            last_failover,
        };
        self.contexts
            .modify(id, |context| context.association = Some(Box::new(association)));
        self.updates.push_back(DataplaneUpdate::Insert(flow));
        self.resolve_confusion(now, id, tag);
    }

    /// Catches up with what happened while there was no association to be told.
    fn begin(&mut self, now: Instant, on: LocatorPair, id: ContextId) {
        // An address that went away during the exchange has been reported before there was anyone to tell.
        let is_lost = self.unusable.contains(&on.local);
        self.with_reap(now, id, |reap, rng| {
            if is_lost {
                reap.explore(now, Cause::LocalHint, rng);
            }
        });
        self.plan_failback(now, id);
        self.update_if_behind(now, id);
    }

    /// Discards contexts with another ULID pair or instance for which the same peer used this tag: it has lost them
    /// (section 7.15). One with recent traffic is set up again at once.
    ///
    /// To be called when the context's CT(peer) or Ls(peer) is new.
    pub(super) fn resolve_confusion(&mut self, now: Instant, id: ContextId, tag: ContextTag) {
        let peer = |id| Some(&self.contexts.get(id)?.association.as_deref()?.peer);
        let overlaps = |other: &ContextId| {
            let (Some(one), Some(other)) = (peer(id), peer(*other)) else {
                return false;
            };
            other.locators.iter().any(|locator| one.locators.contains(locator))
        };
        let mut confused = self.contexts.by_peer_tag(tag);
        confused.retain(|other| *other != id && overlaps(other));
        for other in confused {
            let Some(context) = self.contexts.get(other) else {
                continue;
            };
            let (ulids, forked_instance) = (context.ulids, context.forked_instance);
            let last = context
                .association
                .as_ref()
                .and_then(|association| association.last_payload());
            let is_wanted = context.state() == ContextState::Established
                && (context.in_use || last.is_some_and(|last| now - last < self.config.quiescence));
            self.remove(other, CloseReason::Confusion);
            if is_wanted {
                // Without room there is none: the owner knows that it is closed.
                let _ = self.initiate(now, ulids, forked_instance);
            }
        }
    }
}
