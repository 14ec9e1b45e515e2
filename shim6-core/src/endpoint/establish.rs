//! The four-way exchange, both roles (RFC 5533 sections 7.3 to 7.16).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use rand_core::Rng;
use shim6_reap::{Cause, Instant, LocatorPair, Reap};

use super::verify::{Claim, Refusal, is_locator, method_offset};
use super::{Arrival, Endpoint, monitor};
use crate::context::{Context, ContextState, Established, Initiation, Phase};
use crate::dataplane::{Activity, DataplaneUpdate, Flow};
use crate::event::{CloseReason, Event};
use crate::id::ContextId;
use crate::validator::Exchange;
use crate::wire::{Announcement, ContextTag, Discard, ErrorCode, I1, I2, Message, R1, R2, UlidPair};

/// What an I2 or R2 tells of its sender.
struct PeerDescription {
    tag: ContextTag,
    locators: Vec<Ipv6Addr>,
    keepalive: monitor::Announced,
}

impl Endpoint {
    /// Starts the exchange as the initiator.
    pub(super) fn initiate(&mut self, now: Instant, ulids: LocatorPair) -> ContextId {
        let id = self.allocate_id();
        let local_tag = self.allocate_tag();
        let nonce = self.allocate_nonce();
        let deadline = self.backoff(now, self.config.establishment.i1_timeout, 0);
        let initiation = Initiation {
            nonce,
            i1_retries: 0,
            i2_retries: 0,
            deadline,
        };
        let phase = Phase::I1Sent(initiation);
        self.insert(Context {
            id,
            ulids,
            forked_instance: 0,
            local_tag,
            created: now,
            phase,
            timer: None,
        });
        self.send_i1(id);
        self.reschedule(id);
        id
    }

    /// I1 (section 7.9).
    pub(super) fn handle_i1(&mut self, arrival: Arrival<'_>, i1: &I1) -> Result<(), Discard> {
        let Arrival { now, on, .. } = arrival;
        let (ulids, forked_instance) = self.identify(on, i1.ulid_pair, i1.forked_instance)?;
        let Some(&id) = self.by_ulids.get(&(ulids, forked_instance)) else {
            return self.send_r1(now, on, ulids, i1);
        };
        let Some(context) = self.contexts.get(&id) else {
            return Err(Discard::NoContext);
        };
        match context.established() {
            Some(established) => {
                // Without the option the initiator uses the ULIDs, which always belong to the context.
                let in_set = i1.ulid_pair.is_none() || established.peer_locators.contains(&on.peer);
                if in_set && established.peer_tag == i1.initiator_context_tag {
                    self.send_r2(now, on, id, i1.initiator_nonce)
                } else {
                    self.send_r1(now, on, ulids, i1)
                }
            }
            // Concurrent establishment (section 7.4).
            None => self.send_r2(now, on, id, i1.initiator_nonce),
        }
    }

    /// R1 (section 7.11).
    pub(super) fn handle_r1(&mut self, arrival: Arrival<'_>, r1: &R1) -> Result<(), Discard> {
        let Arrival { now, on, .. } = arrival;
        let id = self.initiator(on, r1.initiator_nonce)?;
        let deadline = self.backoff(now, self.config.establishment.i2_timeout, 0);
        let context = self.contexts.get_mut(&id).ok_or(Discard::NoMatchingInitiator)?;
        let Phase::I1Sent(initiation) = &context.phase else {
            return Err(Discard::WrongState);
        };
        let initiation = Initiation {
            i2_retries: 0,
            deadline,
            ..initiation.clone()
        };
        let (responder_nonce, validator) = (r1.responder_nonce, r1.validator.clone());
        context.phase = Phase::I2Sent {
            initiation,
            responder_nonce,
            validator,
        };
        self.send_i2(id);
        self.reschedule(id);
        Ok(())
    }

    /// I2 (section 7.13).
    pub(super) fn handle_i2(&mut self, arrival: Arrival<'_>, i2: &I2) -> Result<(), Discard> {
        let Arrival { now, on, .. } = arrival;
        let (ulids, forked_instance) = self.identify(on, i2.ulid_pair, i2.forked_instance)?;
        let tag = i2.initiator_context_tag;
        let exchange = Exchange {
            initiator_context_tag: tag,
            ulids,
            locators: on,
            forked_instance,
        };
        self.validator
            .check(now, i2.responder_nonce, &i2.validator, &exchange)?;
        let existing = self.by_ulids.get(&(ulids, forked_instance)).copied();
        if existing.is_none() && !self.has_room_for(ulids.peer) {
            return Err(Discard::ContextLimit);
        }
        let locators = self.accept_locators(
            arrival,
            ulids.peer,
            Claim {
                list: i2.announcement.locators.as_ref(),
                parameters: i2.announcement.cga_parameters.as_deref(),
                signature: i2.announcement.cga_signature.as_deref(),
            },
        )?;
        let keepalive =
            monitor::Announced::new(i2.announcement.keepalive_timeout, i2.announcement.keepalive_timeout_ms);
        let peer = PeerDescription {
            tag,
            locators,
            keepalive,
        };
        let id = match existing {
            None => self.accept(now, on, ulids, forked_instance, peer),
            Some(id) => self.renew(now, on, id, peer)?,
        };
        self.send_r2(now, on, id, i2.initiator_nonce)
    }

    /// R2 (section 7.16).
    pub(super) fn handle_r2(&mut self, arrival: Arrival<'_>, r2: &R2) -> Result<(), Discard> {
        let Arrival { now, on, .. } = arrival;
        let id = self.initiator(on, r2.initiator_nonce)?;
        let ulid = self.contexts.get(&id).ok_or(Discard::NoMatchingInitiator)?.ulids.peer;
        let locators = self.accept_locators(
            arrival,
            ulid,
            Claim {
                list: r2.announcement.locators.as_ref(),
                parameters: r2.announcement.cga_parameters.as_deref(),
                signature: r2.announcement.cga_signature.as_deref(),
            },
        )?;
        let keepalive =
            monitor::Announced::new(r2.announcement.keepalive_timeout, r2.announcement.keepalive_timeout_ms);
        let peer = PeerDescription {
            tag: r2.responder_context_tag,
            locators,
            keepalive,
        };
        self.become_established(now, on, id, peer, true);
        Ok(())
    }

    /// The retransmission timer of an initiator has run out (sections 7.8, 7.12).
    pub(super) fn retransmit(&mut self, now: Instant, id: ContextId) {
        let timers = self.config.establishment.clone();
        let jitter = self.rng.next_u32();
        let Some(context) = self.contexts.get_mut(&id) else {
            return;
        };
        match &mut context.phase {
            Phase::I2Sent { initiation, .. } if initiation.i2_retries < timers.i2_retries_max => {
                initiation.i2_retries += 1;
                initiation.deadline = backoff(now, timers.i2_timeout, initiation.i2_retries, jitter);
                self.send_i2(id);
            }
            Phase::I1Sent(initiation) | Phase::I2Sent { initiation, .. }
                if initiation.i1_retries < timers.i1_retries_max =>
            {
                let mut initiation = initiation.clone();
                initiation.i1_retries += 1;
                initiation.deadline = backoff(now, timers.i1_timeout, initiation.i1_retries, jitter);
                context.phase = Phase::I1Sent(initiation);
                self.send_i1(id);
            }
            Phase::I1Sent(_) | Phase::I2Sent { .. } => {
                let ulids = context.ulids;
                self.hold_down(now, ulids.peer);
                self.remove(id, None);
                self.events.push_back(Event::NoAnswer { ulids });
            }
            Phase::Established(_) => {}
        }
        self.reschedule(id);
    }

    /// The ULID pair and Forked Instance Identifier that an I1 or I2 is about.
    fn identify(
        &self,
        on: LocatorPair,
        option: Option<UlidPair>,
        forked_instance: Option<u32>,
    ) -> Result<(LocatorPair, u32), Discard> {
        let ulids = option.map_or(on, |pair| LocatorPair {
            local: pair.receiver,
            peer: pair.sender,
        });
        if !self.identity.is_ulid(ulids.local) || self.identity.contains(ulids.peer) || !is_locator(ulids.peer) {
            return Err(Discard::LocatorNotInSet);
        }
        Ok((ulids, forked_instance.unwrap_or(0)))
    }

    /// The context that waits for an R1 or R2 with this nonce on this pair. Both are answered on the addresses that the
    /// I1 or I2 was sent on, which are the ULIDs.
    fn initiator(&self, on: LocatorPair, nonce: u32) -> Result<ContextId, Discard> {
        let id = *self.by_nonce.get(&nonce).ok_or(Discard::NoMatchingInitiator)?;
        let context = self.contexts.get(&id).ok_or(Discard::NoMatchingInitiator)?;
        if context.ulids == on {
            Ok(id)
        } else {
            Err(Discard::NoMatchingInitiator)
        }
    }

    fn accept_locators(
        &mut self,
        arrival: Arrival<'_>,
        ulid: Ipv6Addr,
        claim: Claim<'_>,
    ) -> Result<Vec<Ipv6Addr>, Discard> {
        let on = arrival.on;
        match self.verify_locators(arrival.now, ulid, claim) {
            Ok(locators) if locators.contains(&on.peer) || ulid == on.peer => Ok(locators),
            Ok(_) => Err(Discard::LocatorNotInSet),
            Err(Refusal::Silent(reason)) => Err(reason),
            Err(Refusal::Method(index)) => {
                if let Some(offset) = method_offset(arrival.octets, index) {
                    self.report_error(arrival, ErrorCode::VERIFICATION_METHOD, offset);
                }
                Err(Discard::UnsupportedVerificationMethod)
            }
        }
    }

    /// Sends an R1 and keeps nothing (section 7.10).
    fn send_r1(&mut self, now: Instant, on: LocatorPair, ulids: LocatorPair, i1: &I1) -> Result<(), Discard> {
        if !self.limits.r1.allow(now) {
            return Err(Discard::RateLimited);
        }
        let forked_instance = i1.forked_instance.unwrap_or(0);
        let exchange = Exchange {
            initiator_context_tag: i1.initiator_context_tag,
            ulids,
            locators: on,
            forked_instance,
        };
        let (responder_nonce, validator) = self.validator.issue(now, &exchange);
        let r1 = R1 {
            initiator_nonce: i1.initiator_nonce,
            responder_nonce,
            validator: validator.to_vec(),
        };
        self.send(on, Message::R1(r1));
        Ok(())
    }

    fn send_i1(&mut self, id: ContextId) {
        let Some(context) = self.contexts.get(&id) else { return };
        let Some(initiation) = context.initiation() else { return };
        let i1 = I1 {
            initiator_context_tag: context.local_tag,
            initiator_nonce: initiation.nonce,
            ulid_pair: None,
            forked_instance: (context.forked_instance != 0).then_some(context.forked_instance),
        };
        self.send(context.ulids, Message::I1(i1));
    }

    fn send_i2(&mut self, id: ContextId) {
        let Some(context) = self.contexts.get(&id) else { return };
        let Phase::I2Sent {
            initiation,
            responder_nonce,
            validator,
        } = &context.phase
        else {
            return;
        };
        let announced = monitor::Announced::ours(&self.config.reap);
        let i2 = I2 {
            initiator_context_tag: context.local_tag,
            initiator_nonce: initiation.nonce,
            responder_nonce: *responder_nonce,
            validator: validator.clone(),
            ulid_pair: None,
            forked_instance: (context.forked_instance != 0).then_some(context.forked_instance),
            announcement: Announcement {
                locators: Some(self.identity.locator_list()),
                preferences: None,
                cga_parameters: self.identity.parameters(context.ulids.local).map(<[u8]>::to_vec),
                cga_signature: self.identity.signature().map(<[u8]>::to_vec),
                keepalive_timeout: announced.seconds,
                keepalive_timeout_ms: announced.milliseconds,
            },
        };
        self.send(context.ulids, Message::I2(i2));
    }

    /// Sends an R2 on the reversed addresses of what it answers (section 7.14).
    fn send_r2(&mut self, now: Instant, on: LocatorPair, id: ContextId, nonce: u32) -> Result<(), Discard> {
        if !self.limits.r2.allow(now) {
            return Err(Discard::RateLimited);
        }
        let context = self.contexts.get(&id).ok_or(Discard::NoContext)?;
        let announced = monitor::Announced::ours(&self.config.reap);
        let r2 = R2 {
            responder_context_tag: context.local_tag,
            initiator_nonce: nonce,
            announcement: Announcement {
                locators: Some(self.identity.locator_list()),
                preferences: None,
                cga_parameters: self.identity.parameters(context.ulids.local).map(<[u8]>::to_vec),
                cga_signature: self.identity.signature().map(<[u8]>::to_vec),
                keepalive_timeout: announced.seconds,
                keepalive_timeout_ms: announced.milliseconds,
            },
        };
        self.send(on, Message::R2(r2));
        Ok(())
    }

    /// Makes the context of a valid I2 from a peer that this host has none with.
    fn accept(
        &mut self,
        now: Instant,
        on: LocatorPair,
        ulids: LocatorPair,
        forked_instance: u32,
        peer: PeerDescription,
    ) -> ContextId {
        let id = self.allocate_id();
        let local_tag = self.allocate_tag();
        // The phase is a placeholder for the few lines until `become_established` replaces it.
        let initiation = Initiation {
            nonce: self.allocate_nonce(),
            i1_retries: 0,
            i2_retries: 0,
            deadline: now,
        };
        let phase = Phase::I1Sent(initiation);
        self.insert(Context {
            id,
            ulids,
            forked_instance,
            local_tag,
            created: now,
            phase,
            timer: None,
        });
        self.become_established(now, on, id, peer, false);
        id
    }

    /// A valid I2 for a context that exists (section 7.13, STATE other than IDLE).
    fn renew(
        &mut self,
        now: Instant,
        on: LocatorPair,
        id: ContextId,
        peer: PeerDescription,
    ) -> Result<ContextId, Discard> {
        let context = self.contexts.get(&id).ok_or(Discard::NoContext)?;
        match context.state() {
            ContextState::I1Sent => self.become_established(now, on, id, peer, false),
            ContextState::Established if context.established().is_some_and(|e| e.peer_tag == peer.tag) => {
                // The R2 was lost and this is the I2 again: there is nothing new in it.
            }
            // The peer lost its context and made a new one (figure 7), or both initiate at once (figure 5).
            ContextState::Established => self.become_established(now, on, id, peer, false),
            ContextState::I2Sent => {
                // The state stays I2-SENT until our own R2 arrives; what the peer said comes with it again.
            }
        }
        Ok(id)
    }

    /// Records what the peer said and enters ESTABLISHED, with REAP started on the ULIDs, or, where the exchange used
    /// other locators, on those, which have just been shown to work.
    fn become_established(
        &mut self,
        now: Instant,
        on: LocatorPair,
        id: ContextId,
        peer: PeerDescription,
        initiator: bool,
    ) {
        self.resolve_confusion(id, &peer);
        let Some(context) = self.contexts.get_mut(&id) else {
            return;
        };
        if let Some(initiation) = context.initiation() {
            self.by_nonce.remove(&initiation.nonce);
        }
        let old_tag = context.established().map(|established| established.peer_tag);
        let activity = context
            .established()
            .map_or_else(|| Arc::new(Activity::default()), |e| e.activity.clone());
        let ulids = context.ulids;
        let reap_config = peer.keepalive.reap_config(&self.config.reap);
        let pairs = exploration_order(ulids, self.identity.locators(), &peer.locators);
        let mut reap = Reap::new(reap_config, pairs, on);
        for &locator in &self.unusable {
            reap.set_usable(locator, false);
        }
        let flow = Arc::new(Flow {
            context: id,
            ulids,
            forked_instance: context.forked_instance,
            locators: on,
            local_tag: context.local_tag,
            peer_tag: peer.tag,
            activity: activity.clone(),
        });
        context.phase = Phase::Established(Box::new(Established {
            peer_tag: peer.tag,
            peer_locators: peer.locators,
            reap,
            // What passed before says nothing about this exchange's outcome.
            reported: activity.take_snapshot(),
            activity,
            next_look: None,
            flow: flow.clone(),
            failovers: 0,
            last_failover: None,
        }));
        if let Some(tag) = old_tag {
            self.forget_peer_tag(tag, id);
        }
        self.by_peer_tag.entry(peer.tag).or_default().push(id);
        self.updates.push_back(DataplaneUpdate::Insert(flow));
        self.events.push_back(Event::Established {
            context: id,
            ulids,
            initiator,
        });
        // An address that went away during the exchange has been reported before there was anyone to tell.
        let is_lost = self.unusable.contains(&on.local);
        self.with_reap(now, id, |reap, rng| {
            if is_lost {
                reap.explore(now, Cause::LocalHint, rng);
            }
        });
    }

    /// Discards contexts with other ULIDs for which the same peer used this tag: it has lost them (section 7.15).
    fn resolve_confusion(&mut self, id: ContextId, peer: &PeerDescription) {
        let confused: Vec<_> = self.by_peer_tag.get(&peer.tag).map_or_else(Vec::new, |ids| {
            let overlaps = |other: &ContextId| {
                self.contexts
                    .get(other)
                    .and_then(Context::established)
                    .is_some_and(|established| {
                        established
                            .peer_locators
                            .iter()
                            .any(|locator| peer.locators.contains(locator))
                    })
            };
            ids.iter()
                .copied()
                .filter(|other| *other != id && overlaps(other))
                .collect()
        });
        for other in confused {
            self.remove(other, Some(CloseReason::Confusion));
        }
    }

    /// Remembers that a peer does not answer, within bounds.
    fn hold_down(&mut self, now: Instant, peer: Ipv6Addr) {
        if self.holddowns.len() >= self.config.limits.holddowns {
            self.holddowns.retain(|_, until| *until > now);
        }
        if self.holddowns.len() < self.config.limits.holddowns {
            self.holddowns
                .insert(peer, now + self.config.establishment.no_r1_holddown);
        }
    }

    fn backoff(&mut self, now: Instant, nominal: Duration, retries: u32) -> Instant {
        backoff(now, nominal, retries, self.rng.next_u32())
    }
}

/// Binary exponential backoff, then randomised between 0.5 and 1.5 of the value (section 14).
fn backoff(now: Instant, nominal: Duration, retries: u32, jitter: u32) -> Instant {
    let backed_off = nominal.saturating_mul(1_u32.checked_shl(retries).unwrap_or(u32::MAX));
    let half = backed_off / 2;
    let span = backed_off.as_micros().saturating_mul(u128::from(jitter)) >> 32;
    now + half + Duration::from_micros(u64::try_from(span).unwrap_or(u64::MAX))
}

/// All pairs in the order in which exploration tries them: the ULIDs, then those that share neither address with the
/// ULIDs, since they avoid a failure at either end, then the rest, each in both ends' order of preference.
fn exploration_order(ulids: LocatorPair, local: &[Ipv6Addr], peer: &[Ipv6Addr]) -> Vec<LocatorPair> {
    let mut pairs: Vec<_> = local
        .iter()
        .flat_map(|&local| peer.iter().map(move |&peer| LocatorPair { local, peer }))
        .collect();
    pairs.sort_by_key(|pair| match (pair.local == ulids.local, pair.peer == ulids.peer) {
        (true, true) => 0,
        (false, false) => 1,
        _ => 2,
    });
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_and_stays_between_half_and_one_and_a_half() {
        let now = Instant::from_micros(0);
        for (retries, nominal) in [(0, 4), (1, 8), (4, 64)] {
            let at = |jitter| (backoff(now, Duration::from_secs(4), retries, jitter) - now).as_secs_f64();
            assert_eq!(at(0), f64::from(nominal) * 0.5);
            assert!((at(u32::MAX) - f64::from(nominal) * 1.5).abs() < 0.001);
        }
        assert!(backoff(now, Duration::from_secs(4), 200, u32::MAX) > now);
    }

    #[test]
    fn exploration_tries_disjoint_pairs_right_after_the_ulids() {
        let address = |n| Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 1);
        let pair = |local, peer| LocatorPair {
            local: address(local),
            peer: address(peer),
        };
        let order = exploration_order(pair(1, 11), &[address(1), address(2)], &[address(11), address(12)]);
        assert_eq!(order, [pair(1, 11), pair(2, 12), pair(1, 12), pair(2, 11)]);
    }
}
