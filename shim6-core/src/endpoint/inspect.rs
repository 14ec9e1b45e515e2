//! All that an endpoint's future depends on, written out for checkers that compare states.
//!
//! Nothing is left out by `..`, so that whoever adds a field has to decide here whether it belongs to the state.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::Endpoint;
use crate::context::{Context, Established, Phase};

impl Endpoint {
    /// Writes the state in the form of [`Debug`](fmt::Debug), tags, nonces and validators included. What is not in it: the
    /// configuration, the generator and the validator's secret, the rate limits and the counters.
    #[doc(hidden)]
    pub fn write_state(&self, out: &mut dyn Write) -> fmt::Result {
        let Self {
            config: _,
            identity,
            rng: _,
            clock,
            validator: _,
            contexts,
            next_id: _,
            // These follow from the contexts.
            by_ulids: _,
            by_local_tag: _,
            by_peer_tag: _,
            by_nonce: _,
            per_peer: _,
            timers: _,
            holddowns,
            unusable,
            limits: _,
            transmits,
            updates,
            events: _,
            counters: _,
        } = self;
        assert!(
            transmits.is_empty() && updates.is_empty(),
            "drain an endpoint before looking at it"
        );
        write!(out, "{:?} {clock:?} {unusable:?}", identity.locators())?;
        let mut contexts: Vec<_> = contexts.values().collect();
        contexts.sort_unstable_by_key(|context| context.id);
        for context in contexts {
            write_context(context, out)?;
        }
        let mut holddowns: Vec<_> = holddowns.iter().collect();
        holddowns.sort_unstable();
        write!(out, "{holddowns:?}")
    }
}

fn write_context(context: &Context, out: &mut dyn Write) -> fmt::Result {
    let Context {
        id: _,
        ulids,
        forked_instance,
        local_tag,
        created: _,
        phase,
        timer,
    } = context;
    write!(out, "{ulids:?} {forked_instance} {local_tag:?} {timer:?}")?;
    match phase {
        Phase::Established(established) => write_established(established, out),
        other => write!(out, "{other:?}"),
    }
}

fn write_established(established: &Established, out: &mut dyn Write) -> fmt::Result {
    let Established {
        peer_tag,
        peer_locators,
        reap,
        activity,
        reported,
        next_look,
        flow,
        failovers: _,
        last_failover: _,
    } = established;
    write!(
        out,
        "{peer_tag:?} {peer_locators:?} {reap:?} {next_look:?} {:?}",
        flow.locators
    )?;
    // How much has passed does not matter, but whether REAP knows of it.
    let snapshot = activity.snapshot();
    let sent = snapshot.sent_packets != reported.sent_packets;
    let received = snapshot.received_packets != reported.received_packets;
    let (unanswered, unreplied) = (snapshot.first_unanswered, snapshot.first_unreplied);
    let last = (sent || received).then_some((snapshot.last_sent, snapshot.last_received));
    write!(out, "{sent} {received} {unanswered:?} {unreplied:?} {last:?}")
}
