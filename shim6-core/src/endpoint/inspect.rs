//! All that an endpoint's future depends on, written out for checkers that compare states.
//!
//! Nothing is left out by `..`, so that whoever adds a field has to decide here whether it belongs to the state.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::Endpoint;
use crate::context::{Association, Context, Exchange, PeerLocators, Update};

impl Endpoint {
    /// Writes the state in the form of [`Debug`](fmt::Debug), tags, nonces and validators included. What is not in it: the
    /// configuration, the generator and what is drawn from it in the future, the validator's secret, the rate limits and the
    /// counters.
    #[doc(hidden)]
    pub fn write_state(&self, out: &mut dyn Write) -> fmt::Result {
        let Self {
            config: _,
            identity,
            former,
            rng: _,
            clock,
            validator: _,
            tags: _,
            contexts,
            failures,
            unusable,
            never,
            limits: _,
            reap_configs: _,
            experience,
            // Rates, and names of contexts whose probes are in what is written of them.
            probes: _,
            asked,
            trials: _,
            spreads: _,
            transmits,
            deliveries,
            updates,
            events: _,
            counters: _,
            past: _,
        } = self;
        let is_drained = transmits.is_empty() && deliveries.is_empty() && updates.is_empty();
        assert!(is_drained, "drain an endpoint before looking at it");
        let (generation, former) = (identity.generation(), former.len());
        write!(
            out,
            "generation: {generation} {former} {clock:?} {unusable:?} {never:?} {asked:?}"
        )?;
        for id in contexts.ids() {
            contexts.get(id).map_or(Ok(()), |context| write_context(context, out))?;
        }
        let mut failures: Vec<_> = failures.iter().collect();
        failures.sort_unstable();
        write!(out, "{failures:?} {:?}", experience.findings())
    }
}

fn write_context(context: &Context, out: &mut dyn Write) -> fmt::Result {
    let Context {
        id: _,
        ulids,
        forked_instance,
        local_tag,
        created: _,
        identity,
        exchange,
        association,
        was_established: _,
        in_use,
        timer,
        place: _,
    } = context;
    write!(out, "{ulids:?} {forked_instance} {local_tag:?} {in_use} {timer:?}")?;
    write!(out, "generation: {} ", identity.generation())?;
    if let Some(exchange) = exchange {
        let Exchange {
            nonce,
            on,
            step,
            // Only a round-trip time follows from it.
            started: _,
            i1_retries,
            deadline,
            has_told,
            announced,
        } = &**exchange;
        write!(
            out,
            "nonce: {nonce} {on:?} {step:?} {i1_retries} {deadline:?} {has_told} generation: {:?}",
            announced.as_ref().map(|identity| identity.generation())
        )?;
    }
    association
        .as_deref()
        .map_or(Ok(()), |association| write_association(association, out))
}

fn write_association(association: &Association, out: &mut dyn Write) -> fmt::Result {
    let Association {
        peer_tag,
        peer,
        reap,
        activity,
        reported,
        next_look,
        quiescence_check,
        flow,
        announced,
        issued,
        update,
        acknowledged,
        told_again: _,
        unwanted,
        pinned,
        wished,
        // How long a failure took follows from it, and nothing else.
        disturbed: _,
        waiting,
        away,
        failovers: _,
        last_failover: _,
    } = association;
    let announced = announced.as_ref().map(|identity| identity.generation());
    write!(
        out,
        "{peer_tag:?} {reap:?} {next_look:?} {quiescence_check:?} {:?}",
        flow.locators
    )?;
    let PeerLocators {
        locators,
        listed,
        generation,
        preferences,
        // They follow from the ULID.
        parameters: _,
    } = peer;
    write!(out, "{locators:?} {listed} generation: {generation:?} {preferences:?}")?;
    write!(
        out,
        "generation: {announced:?} {unwanted} {pinned} {wished:?} {waiting:?} {away:?}"
    )?;
    // Which one it is says when that was, and time goes on.
    write!(out, " {} {}", issued.is_some(), acknowledged.is_some())?;
    if let Some(update) = update {
        let Update {
            nonce,
            list,
            preferences,
            // It lengthens the time to the next one, and that is all.
            retries: _,
            deadline,
        } = &**update;
        write!(out, "nonce: {nonce} {list} {preferences} {deadline:?}")?;
    }
    // How much has passed does not matter, but whether REAP knows of it, and when it was for quiescence.
    let snapshot = activity.snapshot();
    let (sent, received) = (
        snapshot.sent_packets != reported.0,
        snapshot.received_packets != reported.1,
    );
    let (unanswered, unreplied) = (snapshot.first_unanswered, snapshot.first_unreplied);
    let last = association.last_payload();
    write!(out, "{sent} {received} {unanswered:?} {unreplied:?} {last:?}")
}
