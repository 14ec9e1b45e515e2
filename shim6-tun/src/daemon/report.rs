//! What the daemon says of itself: the status document and events.

use std::collections::BTreeMap;

use serde_json::json;
use shim6_core::{Cause, CloseReason, ContextInfo, ContextState, Endpoint, Event, Instant, LocatorPair, ReapState};

use crate::status;

/// The name of a REAP state in documents.
pub(crate) fn reap_state(state: ReapState) -> &'static str {
    match state {
        ReapState::Operational => "operational",
        ReapState::Exploring => "exploring",
        ReapState::InboundOk => "inbound-ok",
    }
}

/// Why a path was left, in words.
pub(crate) fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::SendTimeout => "nothing came back for the Send Timeout",
        Cause::PeerReport => "the peer reported a failure",
        Cause::LocalHint => "the local link or address went away",
        Cause::IcmpError => "a router could not send packets on",
        Cause::Requested => "on request",
        Cause::TransportHint => "the transport made no progress",
        Cause::Preferred => "a preferred path works again",
    }
}

pub(crate) fn pair(pair: LocatorPair) -> status::PairStatus {
    status::PairStatus {
        local: pair.local,
        peer: pair.peer,
    }
}

/// One context for the status document.
pub(crate) fn context(info: &ContextInfo, now: Instant) -> status::ContextStatus {
    let volume = |(packets, octets)| status::Volume { packets, octets };
    let activity = info.activity.as_deref();
    status::ContextStatus {
        id: info.id.value(),
        ulids: pair(info.ulids),
        state: info.state.as_str().to_owned(),
        reap: reap_state(info.reap).to_owned(),
        locators: pair(info.locators),
        preferred: pair(info.preferred),
        steered: info.locators != info.ulids,
        rtt_us: info.rtt.map(|rtt| rtt.as_micros() as u64),
        send_timeout_ms: info.send_timeout.as_millis() as u64,
        peer_locators: info.peer_locators.clone(),
        age_ms: millis_since(info.created, now),
        sent: activity.map_or_else(Default::default, |activity| volume(activity.sent())),
        received: activity.map_or_else(Default::default, |activity| volume(activity.received())),
        failovers: info.failovers,
        last_failover: info.last_failover.map(|failover| status::FailoverStatus {
            cause: cause(failover.cause).to_owned(),
            from: pair(failover.from),
            to: pair(failover.to),
            ago_ms: millis_since(failover.at, now),
        }),
    }
}

/// The peers that are left alone, for the status document; the one that was first comes first.
pub(crate) fn failures(endpoint: &Endpoint, now: Instant) -> Vec<status::FailureStatus> {
    let failure = |(peer, state, until): (_, ContextState, _)| status::FailureStatus {
        peer,
        state: state.as_str().to_owned(),
        ends_in_ms: millis_since(now, until),
    };
    let mut failures: Vec<_> = endpoint.failures().map(failure).collect();
    failures.sort_by_key(|failure| (failure.ends_in_ms, failure.peer));
    failures
}

/// The counters for the status document.
pub(crate) fn counters(endpoint: &Endpoint, dataplane: BTreeMap<String, u64>) -> status::Counters {
    let counters = endpoint.counters();
    status::Counters {
        received: counters
            .received()
            .map(|(kind, count)| (kind.to_string(), count))
            .collect(),
        sent: counters.sent().map(|(kind, count)| (kind.to_string(), count)).collect(),
        discards: counters
            .discards()
            .map(|(reason, count)| (reason.to_string(), count))
            .collect(),
        dataplane,
    }
}

/// An event of the protocol as people and programs read it.
pub(crate) fn event(event: &Event, at_ms: u64) -> status::Event {
    let (kind, context, message, detail) = match event {
        Event::Established {
            context,
            ulids,
            initiator,
        } => (
            "established",
            Some(context),
            format!("context {context} established: {ulids} survives a failed path from now on"),
            json!({ "ulids": pair(*ulids), "initiator": initiator }),
        ),
        Event::NoAnswer { ulids } => (
            "no-answer",
            None,
            format!("no context for {ulids}: the peer does not answer, so it probably does not speak Shim6"),
            json!({ "ulids": pair(*ulids) }),
        ),
        Event::NoSupport { ulids } => (
            "no-support",
            None,
            format!("no context for {ulids}: the peer's host says that it does not speak Shim6"),
            json!({ "ulids": pair(*ulids) }),
        ),
        Event::Recovering { context } => (
            "recovering",
            Some(context),
            format!("context {context}: the peer has lost it, most likely in a restart, and is being told of it again"),
            json!({}),
        ),
        Event::PeerUpdated { context } => (
            "peer-updated",
            Some(context),
            format!("context {context}: the peer has other locators, or prefers them in another way"),
            json!({}),
        ),
        Event::UpdateRefused { context, code } => (
            "update-refused",
            Some(context),
            format!("context {context}: the peer does not take this host's new locators or preferences: {code}"),
            json!({ "code": code.0 }),
        ),
        Event::Reachability {
            context,
            from,
            to,
            cause: why,
        } => (
            "reachability",
            Some(context),
            reachability(*to, *why),
            json!({ "from": reap_state(*from), "to": reap_state(*to), "cause": cause(*why) }),
        ),
        Event::PathChanged {
            context,
            from,
            to,
            cause: why,
        } => (
            if *why == Cause::Preferred {
                "failback"
            } else {
                "failover"
            },
            Some(context),
            format!("path moved from {from} to {to}: {}", cause(*why)),
            json!({ "from": pair(*from), "to": pair(*to), "cause": cause(*why) }),
        ),
        Event::Closed { context, ulids, reason } => {
            let why = match reason {
                CloseReason::Requested => "on request",
                CloseReason::Confusion => "the peer has lost it and uses its tag for another",
                CloseReason::Quiescent => "nothing has passed for long",
                CloseReason::Evicted => "it made room for another, since nothing had passed lately; see [limits]",
                CloseReason::NoAnswer => "the peer has lost it, and does not answer",
            };
            let detail = json!({ "ulids": pair(*ulids), "reason": why });
            (
                "closed",
                Some(context),
                format!("context {context} closed: {why}"),
                detail,
            )
        }
        Event::LocatorRefused { peer, locator } => (
            "locator-refused",
            None,
            format!("{peer} claims the locator {locator} but cannot prove it; nothing was set up"),
            json!({ "peer": peer, "locator": locator }),
        ),
    };
    status::Event {
        at_ms,
        kind: kind.to_owned(),
        context: context.map(|id| id.value()),
        message,
        detail,
    }
}

fn reachability(to: ReapState, why: Cause) -> String {
    match to {
        ReapState::Exploring => format!("looking for another path: {}", cause(why)),
        ReapState::InboundOk => format!("hears the peer, but not yet heard by it: {}", cause(why)),
        ReapState::Operational => "both directions work".to_owned(),
    }
}

fn millis_since(then: Instant, now: Instant) -> u64 {
    u64::try_from((now - then).as_millis()).unwrap_or(u64::MAX)
}
