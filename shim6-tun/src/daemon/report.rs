//! What the daemon says of itself: the status document and events.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use shim6_core::{
    Cause, CloseReason, ContextInfo, ContextState, Endpoint, Event, Instant, LocatorPair, PathError, PathInfo,
    ReapState,
};

use crate::control::Objection;
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
        _ => "for another reason",
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
        forked_instance: info.forked_instance,
        state: info.state.as_str().to_owned(),
        reap: reap_state(info.reap).to_owned(),
        locators: pair(info.locators),
        preferred: pair(info.preferred),
        steered: info.forked_instance != 0 || info.locators != info.ulids,
        rtt_us: info.rtt.map(micros),
        send_timeout_ms: millis(info.send_timeout),
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
            took_ms: failover.took.map(millis),
        }),
        pinned: info.pinned,
    }
}

/// One locator pair; `uplink` is the interface of its local address.
pub(crate) fn path(info: &PathInfo, uplink: Option<&str>, now: Instant) -> status::PathStatus {
    let state = match info {
        PathInfo { usable: false, .. } => "down",
        PathInfo { doubts: 1.., .. } => "in-doubt",
        PathInfo { users: 1.., .. } => "working",
        PathInfo { confirmed, failed, .. } if confirmed > failed => "working",
        PathInfo { failed: Some(_), .. } => "failed",
        _ => "unknown",
    };
    let (lost, of) = info.recent_losses;
    let since = |then: Option<Instant>| then.map(|then| millis_since(then, now));
    status::PathStatus {
        pair: pair(info.pair),
        uplink: uplink.map(str::to_owned),
        state: state.to_owned(),
        used_by: info.named_users.iter().map(|id| id.value()).collect(),
        users: info.users as u64,
        rtt_us: info.rtt.map(micros),
        probes_sent: info.probes_sent,
        probes_answered: info.probes_answered,
        loss_permille: (of > 0).then(|| 1_000 * lost / of),
        answered_ago_ms: since(info.confirmed),
        failed_ago_ms: since(info.failed),
        heard_ago_ms: since(info.heard),
    }
}

/// Why a pair was not probed or taken, with what to do.
pub(crate) fn path_refused(context: u64, error: PathError, now: Instant) -> Objection {
    let pairs;
    let advice = match error {
        PathError::NoContext => return Objection::NoSuchContext { context },
        PathError::NotEstablished => "try again when its state is established",
        PathError::NotAPair(_) => {
            pairs = format!("choose one of those that it has: shim6 paths {context}");
            pairs.as_str()
        }
        PathError::Unusable(_) => "choose a pair with another address of this host",
        PathError::Searching => "try again when it is operational",
        PathError::TooSoon { .. } => "tests without a pause would hide a failure of the path in use",
        // Busy, and whatever there will be.
        _ => "try again in a moment",
    };
    let retry_ms = match error {
        PathError::TooSoon { at } => Some(millis_since(now, at)),
        _ => None,
    };
    let wait = retry_ms.map_or(String::new(), |wait| format!(", the next can be sent in {wait} ms"));
    Objection::PathRefused {
        context,
        message: format!("{error}{wait}; {advice}"),
        retry_ms,
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
            took,
        } => {
            let kind = match why {
                Cause::Preferred => "failback",
                Cause::Requested => "move",
                _ => "failover",
            };
            let took = took.map(millis);
            let after = took.map_or(String::new(), |took| format!(", after {took} ms without a path"));
            let detail = json!({ "from": pair(*from), "to": pair(*to), "cause": cause(*why), "why": why.to_string(), "took_ms": took });
            let message = format!("path moved from {from} to {to}: {}{after}", cause(*why));
            (kind, Some(context), message, detail)
        }
        Event::ProbeAnswered { context, pair: on, rtt } => {
            let rtt_us = rtt.map(micros);
            let after = rtt.map_or(String::new(), |rtt| format!(" after {:.1} ms", rtt.as_secs_f64() * 1e3));
            let detail = json!({ "pair": pair(*on), "rtt_us": rtt_us });
            (
                "probe",
                Some(context),
                format!("a probe on {on} was answered{after}"),
                detail,
            )
        }
        Event::Closed { context, ulids, reason } => {
            let why = match reason {
                CloseReason::Requested => "on request",
                CloseReason::Confusion => "the peer has lost it and uses its tag for another",
                CloseReason::Quiescent => "nothing has passed for long",
                CloseReason::Evicted => "it made room for another, since nothing had passed lately; see [limits]",
                CloseReason::NoAnswer => "the peer has lost it, and does not answer",
                _ => "for another reason",
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
        other => ("other", None, format!("{other:?}"), json!({})),
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn millis_since(then: Instant, now: Instant) -> u64 {
    millis(now - then)
}
