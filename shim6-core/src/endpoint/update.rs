//! Telling the peer of other locators and preferences, and being told (RFC 5533 section 10).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use rand_core::Rng;
use shim6_cga::CgaParametersRef;
use shim6_reap::{Instant, LocatorPair};

use super::initiate::randomised;
use super::verify::{Claim, Fault, Refusal};
use super::{Arrival, Endpoint, monitor};
use crate::context::{PeerLocators, Update};
use crate::event::Event;
use crate::id::ContextId;
use crate::identity::{Extent, Identity};
use crate::wire::option::Announcement;
use crate::wire::{Discard, LocatorList, Message, UpdateAcknowledgement, UpdateRequest, VerificationMethod};

impl Endpoint {
    /// Takes another identity, and starts to tell the peers.
    pub(super) fn change_identity(&mut self, now: Instant, identity: Identity) {
        let identity = Arc::new(identity);
        self.identity = identity.clone();
        let ids = self.contexts.ids();
        for &id in &ids {
            self.contexts.modify(id, |context| {
                if identity.is_ulid(context.ulids.local) {
                    context.identity = identity.clone();
                }
            });
        }
        self.former = self.former_identities();
        for id in ids {
            // First the pairs: the request must not come from a locator that is gone.
            self.refresh_pairs(now, id);
            self.update_if_behind(now, id);
        }
        let unusable = core::mem::take(&mut self.unusable);
        self.unusable = unusable.into_iter().filter(|&locator| self.is_local(locator)).collect();
    }

    /// The identities that contexts still live with, or that their peers still know.
    fn former_identities(&self) -> Vec<Arc<Identity>> {
        let mut former: Vec<Arc<Identity>> = Vec::new();
        for context in self.contexts.iter() {
            let announced = context.association.as_ref().and_then(|a| a.announced.as_ref());
            for identity in [Some(&context.identity), announced].into_iter().flatten() {
                let is_known = Arc::ptr_eq(identity, &self.identity) || former.iter().any(|f| Arc::ptr_eq(f, identity));
                if !is_known {
                    former.push(identity.clone());
                }
            }
        }
        former
    }

    /// Sends an Update Request if the peer does not know of this host's locators or preferences what it is to know. One that
    /// is under way is abandoned for one that tells all (section 10.3).
    pub(super) fn update_if_behind(&mut self, now: Instant, id: ContextId) {
        let Some(context) = self.contexts.get(id) else { return };
        let Some(association) = context.association.as_deref() else {
            return;
        };
        let (list, preferences) = match &association.announced {
            None => (true, true),
            Some(known) if known.generation() != context.identity.generation() => (true, true),
            Some(known) => (
                false,
                known.locator_preferences() != context.identity.locator_preferences(),
            ),
        };
        // What an abandoned update told may have arrived, or not.
        let pending = association.update.as_deref();
        let list = list || pending.is_some_and(|update| update.list);
        let preferences = preferences || pending.is_some_and(|update| update.preferences);
        let update = (list || preferences).then(|| Update {
            nonce: self.rng.next_u32(),
            list,
            preferences,
            retries: 0,
            deadline: now,
        });
        let is_behind = update.is_some();
        self.contexts.modify(id, |context| {
            let identity = context.identity.clone();
            if let Some(association) = context.association.as_deref_mut() {
                association.update = update.map(Box::new);
                if !is_behind {
                    // The same in another object.
                    association.announced = Some(identity);
                }
            }
        });
        if is_behind {
            self.send_update(now, id);
        }
    }

    /// The Update Request's retransmission timer, if it has run out (section 10.2).
    pub(super) fn retransmit_update(&mut self, now: Instant, id: ContextId) {
        let is_due = self.contexts.modify(id, |context| {
            let update = context.association.as_deref_mut()?.update.as_deref_mut()?;
            (update.deadline <= now).then(|| update.retries = update.retries.saturating_add(1))
        });
        if is_due.flatten().is_some() {
            self.send_update(now, id);
        }
    }

    /// Sends the Update Request that is not acknowledged yet, on the pair in use or, if that is gone, on the most preferred
    /// one. Without any, it is for the timer to try again.
    fn send_update(&mut self, now: Instant, id: ContextId) {
        let jitter = self.rng.next_u32();
        let timers = &self.config.update;
        let built = self.contexts.modify(id, |context| {
            let (identity, ulid) = (&context.identity, context.ulids.local);
            let association = context.association.as_deref_mut()?;
            let update = association.update.as_deref_mut()?;
            let backed_off = timers
                .timeout
                .saturating_mul(1_u32.checked_shl(update.retries).unwrap_or(u32::MAX));
            update.deadline = now + randomised(backed_off.min(timers.max_timeout), jitter);
            let mut announcement = match update.list {
                true => identity.announcement(ulid, Extent::Locators),
                false => Announcement::default(),
            };
            announcement.preferences = match identity.locator_preferences() {
                // Nothing is to be said of the new list, but something was said of the one before.
                None if update.preferences && !update.list => Some(identity.no_preferences()),
                preferences => preferences.filter(|_| update.preferences),
            };
            let request = UpdateRequest {
                receiver_context_tag: association.peer_tag,
                request_nonce: update.nonce,
                announcement,
            };
            let reap = &association.reap;
            let pairs = [reap.current_pair()].into_iter().chain(reap.pairs().iter().copied());
            let on = pairs.into_iter().find(|&pair| reap.is_usable(pair));
            Some((on, Message::UpdateRequest(request)))
        });
        if let Some((Some(on), message)) = built.flatten() {
            self.send(on, message);
            self.note_control_sent(now, id);
        }
    }

    /// Update Request (section 10.4).
    pub(super) fn handle_update_request(
        &mut self,
        arrival: Arrival<'_>,
        request: &UpdateRequest,
    ) -> Result<(), Discard> {
        let Arrival { now, on, .. } = arrival;
        let id = self.addressed_context(arrival, request.receiver_context_tag)?;
        self.note_control_received(now, id);
        let announcement = &request.announcement;
        let peer = match self.verify_update(now, id, announcement) {
            Ok(peer) => peer,
            Err(Refusal::Silent(reason)) => return Err(reason),
            Err(Refusal::Error(fault, reason)) => {
                self.report_fault(arrival, fault);
                return Err(reason);
            }
            Err(Refusal::Unproven(index, reason)) => {
                self.report_fault(arrival, Fault::Method(index));
                return Err(reason);
            }
        };
        self.repeat_exchange(now, id);
        let keepalive = monitor::Announced::new(announcement.keepalive_timeout, announcement.keepalive_timeout_ms);
        let ulid = self.contexts.get(id).map(|context| context.ulids.peer);
        let ulid = ulid.filter(|_| keepalive.is_some());
        let reap_config = ulid.map(|ulid| self.reap_config(ulid, keepalive));
        let changed = self.contexts.modify(id, |context| {
            let association = context.association.as_deref_mut()?;
            if let Some(config) = reap_config {
                association.reap.set_config(config);
            }
            let is_new = association.peer != peer;
            association.peer = peer;
            Some((is_new, association.peer_tag))
        });
        let Some((is_new, peer_tag)) = changed.flatten() else {
            return Err(Discard::NoContext);
        };
        let acknowledgement = UpdateAcknowledgement {
            receiver_context_tag: peer_tag,
            request_nonce: request.request_nonce,
        };
        self.send(on, Message::UpdateAcknowledgement(acknowledgement));
        self.note_control_sent(now, id);
        if is_new {
            self.resolve_confusion(now, id, peer_tag);
            self.events.push_back(Event::PeerUpdated { context: id });
            self.refresh_pairs(now, id);
        }
        Ok(())
    }

    /// Ls(peer) as an Update Request wants it.
    fn verify_update(
        &mut self,
        now: Instant,
        id: ContextId,
        announcement: &Announcement,
    ) -> Result<PeerLocators, Refusal> {
        let context = self.contexts.get(id).ok_or(Refusal::Silent(Discard::NoContext))?;
        let association = context.association.as_deref();
        let known = association.ok_or(Refusal::Silent(Discard::WrongState))?.peer.clone();
        let ulid = context.ulids.peer;
        let parameters = announcement.cga_parameters.as_deref();
        let mut peer = match &announcement.locators {
            // A repetition, most likely because the acknowledgement was lost: it costs no verification again.
            Some(list) if is_listed(&known, list) && is_known(&known, parameters) => known,
            Some(_) => {
                let claim = Claim {
                    list: announcement.locators.as_ref(),
                    parameters: parameters.or(known.parameters.as_deref()),
                    signature: announcement.cga_signature.as_deref(),
                    preferences: None,
                };
                self.verify_locators(now, ulid, claim)?
            }
            None => {
                if let Some(parameters) = parameters.filter(|_| !is_known(&known, parameters)) {
                    self.verify_ulid(now, ulid, parameters)?;
                }
                known
            }
        };
        if let Some(preferences) = &announcement.preferences {
            peer.prefer(preferences)?;
        }
        Ok(peer)
    }

    /// Update Acknowledgement (section 10.5).
    pub(super) fn handle_update_acknowledgement(
        &mut self,
        arrival: Arrival<'_>,
        acknowledgement: &UpdateAcknowledgement,
    ) -> Result<(), Discard> {
        let now = arrival.now;
        let id = self.addressed_context(arrival, acknowledgement.receiver_context_tag)?;
        self.note_control_received(now, id);
        self.repeat_exchange(now, id);
        let nonce = acknowledgement.request_nonce;
        let is_acknowledged = self.contexts.modify(id, |context| {
            let identity = context.identity.clone();
            let association = context.association.as_deref_mut()?;
            association.update.take_if(|update| update.nonce == nonce)?;
            association.announced = Some(identity);
            association.acknowledged = Some(nonce);
            Some(())
        });
        if is_acknowledged.flatten().is_none() {
            self.tell_again(now, id, nonce);
            return Err(Discard::NoMatchingUpdate);
        }
        // Locators that the peer has just learned of can be sources from now on.
        self.refresh_pairs(now, id);
        Ok(())
    }

    /// The peer acknowledged an update that nobody waits for. Unless that was the last one, an abandoned request has come late,
    /// or was sent again by somebody who saw it, and has taken the place of the newer one: generations have no order. So
    /// the peer is told all again, but no more often than an update is repeated.
    fn tell_again(&mut self, now: Instant, id: ContextId, nonce: u32) {
        let pause = self.config.update.timeout;
        let update = Update {
            nonce: self.rng.next_u32(),
            list: true,
            preferences: true,
            retries: 0,
            deadline: now,
        };
        let is_told = self.contexts.modify(id, |context| {
            let association = context.association.as_deref_mut()?;
            let is_due = association.told_again.is_none_or(|at| now - at >= pause);
            if association.update.is_some() || association.acknowledged == Some(nonce) || !is_due {
                return None;
            }
            association.told_again = Some(now);
            association.update = Some(Box::new(update));
            Some(())
        });
        if is_told.flatten().is_some() {
            self.send_update(now, id);
        }
    }

    /// The peer cannot take an update: it is not repeated for ever (section 10.2).
    pub(super) fn give_up_update(&mut self, id: ContextId) {
        self.contexts.modify(id, |context| {
            if let Some(association) = context.association.as_deref_mut() {
                association.update = None;
            }
        });
    }

    /// Tells the peer all again: it lacks the list that preferences were for.
    pub(super) fn repeat_update_with_list(&mut self, now: Instant, id: ContextId) {
        let nonce = self.rng.next_u32();
        self.contexts.modify(id, |context| {
            if let Some(update) = context.association.as_deref_mut().and_then(|a| a.update.as_deref_mut()) {
                *update = Update {
                    nonce,
                    list: true,
                    ..update.clone()
                };
            }
        });
        self.send_update(now, id);
    }

    /// The context whose Update Request this is, if it is the one that waits for an acknowledgement.
    pub(super) fn updating_context(&self, on: LocatorPair, request: &UpdateRequest) -> Option<ContextId> {
        let is_waiting = |update: &Update| update.nonce == request.request_nonce;
        let id = self.sender(on, request.receiver_context_tag)?;
        let update = self.contexts.get(id)?.association.as_deref()?.update.as_deref();
        update.is_some_and(is_waiting).then_some(id)
    }
}

/// Whether a list is the one that is known, as far as it is kept.
fn is_listed(known: &PeerLocators, list: &LocatorList) -> bool {
    let listed = list.locators.iter().map(|(_, locator)| locator);
    known.generation == Some(list.generation)
        && usize::from(known.listed) == list.locators.len()
        && known.locators.iter().eq(listed.take(known.locators.len()))
        && can_be_shown(known, list)
}

/// Whether each method of a list goes with the parameters that are known: the locators may have been shown by other methods,
/// but a list with one that is not supported is refused as a whole (section 7.2).
fn can_be_shown(known: &PeerLocators, list: &LocatorList) -> bool {
    let parameters = known.parameters.as_deref();
    let Some(parameters) = parameters.and_then(|octets| CgaParametersRef::parse(octets).ok()) else {
        return false;
    };
    let set = parameters.multi_prefix();
    list.locators.iter().all(|(method, _)| match *method {
        VerificationMethod::HBA => set.is_some(),
        VerificationMethod::CGA => set.is_none_or(|set| set.has_public_key()),
        _ => false,
    })
}

fn is_known(known: &PeerLocators, parameters: Option<&[u8]>) -> bool {
    parameters.is_none_or(|parameters| known.parameters.as_deref() == Some(parameters))
}
