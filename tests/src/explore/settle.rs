//! How a state ends when nothing is lost any more.
//!
//! From then on packets arrive in order, timeouts come when they are due, and each end that has an established context sends
//! payload, of which the other end knows by the tag in it whether it has the context, too. Then both have to have the same contexts.

use std::collections::HashSet;
use std::sync::Arc;

use shim6_core::{ContextState, Flow};

use super::world::{Host, World};

/// More than any world takes to come to rest.
const STEPS: usize = 400;
/// Steps that are told of a fault.
const SHOWN: usize = 40;
/// How often payload is sent.
const ROUNDS: usize = 3;

/// The states of which it is known that they end well.
#[derive(Debug, Default)]
pub(super) struct Settled {
    known: HashSet<u64>,
}

impl Settled {
    /// Why a state does not end well.
    pub(super) fn check(&mut self, world: &World) -> Result<(), String> {
        let mut visited = Vec::new();
        let mut world = world.clone();
        let mut rounds = 0;
        let mut steps = Vec::new();
        for _ in 0..STEPS {
            // What comes next depends on nothing but the state, and on how much payload was sent already.
            let state = world.fingerprint(false);
            if rounds == 0 {
                if self.known.contains(&state) {
                    self.known.extend(visited);
                    return Ok(());
                }
                visited.push(state);
            }
            world.check()?;
            if let Some(what) = step(&mut world) {
                steps.push(what);
                continue;
            }
            if rounds == ROUNDS || world.hosts.iter().all(|host| host.flows().is_empty()) {
                agree(&world).map_err(|difference| told(&steps, "ends without agreement", &difference))?;
                self.known.extend(visited);
                return Ok(());
            }
            rounds += 1;
            steps.push("both ends send payload".to_owned());
            for host in [0, 1] {
                let contexts = world.hosts[host].flows().len();
                (0..contexts).for_each(|context| world.send_payload(host, context));
            }
        }
        Err(told(&steps, "does not come to rest", &summary(&world)))
    }
}

/// The next thing that happens by itself, if any: the oldest packet arrives, or the earliest timeout comes, and time passes
/// at both ends.
fn step(world: &mut World) -> Option<String> {
    if let Some(what) = world.next_packet() {
        world.deliver(0);
        return Some(what);
    }
    let next = [0, 1]
        .into_iter()
        .filter_map(|host| Some((world.hosts[host].timeout_in()?, host)))
        .min();
    let (wait, host) = next?;
    world.pass(wait);
    world.time_out(host);
    Some(format!("host {host} has a timeout after {wait:?}"))
}

/// What happened once nothing was lost any more, as far as one wants to read it, and how it ended.
fn told(steps: &[String], end: &str, state: &str) -> String {
    let shown = steps.len().min(SHOWN);
    let more = match steps.len() - shown {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    format!(
        "then, without losses: {}{more}; it {end}: {state}",
        steps[..shown].join("; ")
    )
}

/// Whether both ends have the same contexts, or none.
fn agree(world: &World) -> Result<(), String> {
    let [one, other] = &world.hosts;
    for (own, peer) in [(one, other), (other, one)] {
        let unfinished = own
            .endpoint
            .contexts()
            .find(|context| context.state != ContextState::Established);
        if let Some(context) = unfinished {
            return Err(format!("{} is left for {}", context.state, context.ulids));
        }
        for flow in own.flows() {
            if !peer.flows().iter().any(|other| are_ends(own, flow, peer, other)) {
                return Err(summary(world));
            }
        }
    }
    Ok(())
}

/// Whether two flows are the two ends of one context, with each other's tags and locators.
fn are_ends(own: &Host, flow: &Arc<Flow>, peer: &Host, other: &Arc<Flow>) -> bool {
    let knows = |host: &Host, flow: &Flow, of: &Host| {
        let known = host.endpoint.context(flow.context).map(|context| context.peer_locators);
        let sorted = |locators: &[_]| {
            let mut locators = locators.to_vec();
            locators.sort_unstable();
            locators
        };
        known.is_some_and(|known| sorted(&known) == sorted(of.endpoint.identity().locators()))
    };
    flow.ulids == other.ulids.seen_by_peer()
        && flow.forked_instance == other.forked_instance
        && (flow.local_tag, flow.peer_tag) == (other.peer_tag, other.local_tag)
        && knows(own, flow, peer)
        && knows(peer, other, own)
}

fn summary(world: &World) -> String {
    let host = |host: &Host| {
        let contexts = host.endpoint.contexts().map(|context| {
            let tags = host.flows().iter().find(|flow| flow.context == context.id);
            let tags = tags.map(|flow| format!(" {} here, {} there", flow.local_tag, flow.peer_tag));
            format!("{} for {}{}", context.state, context.ulids, tags.unwrap_or_default())
        });
        contexts.collect::<Vec<_>>().join(", ")
    };
    format!(
        "host 0 has [{}], host 1 has [{}]",
        host(&world.hosts[0]),
        host(&world.hosts[1])
    )
}
