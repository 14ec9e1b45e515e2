//! What the functions do, on two hosts.

use std::ptr;

use super::call;
use super::network::{A, B, MS, Net, SECOND, default_config, ends, identity, is_control};
use crate::*;

fn path(net: &Net, host: usize, context: u64, index: usize) -> Option<PathInfo> {
    let mut info = std::mem::MaybeUninit::<PathInfo>::uninit();
    let shim = net.hosts[host].shim;
    let status = call!(shim6_path(
        shim,
        context,
        index,
        info.as_mut_ptr(),
        size_of::<PathInfo>()
    ));
    // SAFETY: it was written.
    (status == Status::Ok).then(|| unsafe { info.assume_init() })
}

#[test]
fn traffic_sets_up_a_context_and_goes_on_when_its_path_is_cut() {
    let mut net = Net::new(&default_config());
    let flow = net.flow(A, 1000, 53);
    net.run(2 * SECOND, &[flow]);
    let session = net.hosts[A].session(&flow).expect("a context");
    assert_eq!(session.state, ContextState::Established);
    assert_eq!((session.locators, session.ulids), (flow.ulids, flow.ulids));
    let established = net.has_event(B, EventKind::Established).expect("told");
    assert_eq!(established.pair.local, flow.ulids.peer);
    assert_eq!(net.hosts[A].counters().rewritten, 0);
    let cut_at = net.now;
    net.cut(flow.ulids);
    net.run(3 * SECOND, &[flow]);
    for host in [A, B] {
        assert!(net.longest_gap(host, cut_at) < 400 * MS, "host {host}");
        let moved = net.has_event(host, EventKind::PathChanged).expect("told");
        let ulids = net.pair(host, 0, 0);
        assert_eq!((moved.former, moved.initiator), (ulids, 0));
        assert!(moved.pair != ulids && moved.cause != Cause::Unknown && moved.duration < 400 * MS);
    }
    let counters = net.hosts[A].counters();
    assert!(counters.rewritten > 100 && counters.restored > 100 && counters.received > counters.restored);
    assert!(counters.control_sent > 2 && counters.control_received > 2);
    assert_eq!((counters.contexts, counters.established, counters.moved), (1, 1, 1));
    assert_eq!(
        (counters.discarded, counters.malformed_in, counters.held_octets),
        (0, 0, 0)
    );
    let session = net.hosts[A].session(&flow).expect("a context");
    assert_ne!(session.locators, flow.ulids);
    assert!(session.failovers == 1 && session.rtt < 20 * MS && session.sent_packets > 200);
    let paths: Vec<_> = (0..).map_while(|index| path(&net, A, session.context, index)).collect();
    assert_eq!(paths.len(), 4);
    let current: Vec<_> = paths.iter().filter(|path| path.current == 1).collect();
    assert_eq!((current.len(), current[0].pair), (1, session.locators));
    assert!(
        paths
            .iter()
            .any(|path| path.pair == flow.ulids && path.failed < net.now)
    );
    // The upper layers see ULIDs only.
    assert!(
        net.hosts[A]
            .got
            .iter()
            .all(|(_, packet)| ends(packet) == [flow.ulids.peer, flow.ulids.local])
    );
}

#[test]
fn without_contexts_a_cut_path_is_the_end() {
    let config = Config {
        trigger_packets: 0,
        ..default_config()
    };
    let mut net = Net::new(&config);
    let flow = net.flow(A, 1000, 53);
    net.run(2 * SECOND, &[flow]);
    let cut_at = net.now;
    net.cut(flow.ulids);
    net.run(3 * SECOND, &[flow]);
    assert!(net.longest_gap(B, cut_at) > 2_900 * MS);
    assert!(net.hosts[A].session(&flow).is_none());
}

#[test]
fn a_context_is_moved_back_and_preferred_by_hand() {
    let mut net = Net::new(&default_config());
    let flow = net.flow(A, 1000, 53);
    let (mut context, at) = (0, net.now);
    let shim = net.hosts[A].shim;
    assert_eq!(
        call!(shim6_establish(shim, at, &raw const flow.ulids, &raw mut context)),
        Status::Ok
    );
    net.drain(A);
    let again = call!(shim6_establish(shim, at, &raw const flow.ulids, ptr::null_mut()));
    assert_eq!(again, Status::Exists);
    net.run(SECOND, &[flow]);
    let (mut names, mut count) = ([0; 4], 0);
    assert_eq!(
        call!(shim6_contexts(shim, names.as_mut_ptr(), 4, &raw mut count)),
        Status::Ok
    );
    assert_eq!((names[0], count), (context, 1));
    let (other, now) = (net.pair(A, 1, 0), net.now);
    let probed = call!(shim6_probe(shim, now, context, &raw const other, now + SECOND));
    assert_eq!(probed, Status::Pending);
    net.drain(A);
    net.run(SECOND, &[flow]);
    let answered = net.has_event(A, EventKind::ProbeAnswered).expect("told");
    assert_eq!((answered.pair, answered.duration < 20 * MS), (other, true));
    let now = net.now;
    let moved = call!(shim6_move_to(shim, now, context, &raw const other, now + SECOND));
    assert_eq!(moved, Status::Ok, "it worked a moment ago");
    net.drain(A);
    net.run(SECOND, &[flow]);
    let session = net.hosts[A].session(&flow).expect("a context");
    assert_eq!((session.locators, session.pinned), (other, 1));
    let now = net.now;
    let strange = net.pair(B, 0, 0);
    let wrong = call!(shim6_prefer(shim, now, context, &raw const strange));
    assert_eq!(wrong, Status::NotAPair);
    assert_eq!(call!(shim6_prefer(shim, now, context, &raw const other)), Status::Ok);
    assert_eq!(net.hosts[A].session(&flow).expect("a context").wished, other);
    assert_eq!(call!(shim6_prefer(shim, now, context, ptr::null())), Status::Ok);
    assert_eq!(net.hosts[A].session(&flow).expect("a context").wished, Pair::default());
    assert_eq!(call!(shim6_release(shim, now, context)), Status::Ok);
    net.drain(A);
    // The way back, which the release made free: ten seconds without a failure.
    net.run(15 * SECOND, &[flow]);
    assert_eq!(net.hosts[A].session(&flow).expect("a context").locators, flow.ulids);
    let now = net.now;
    assert_eq!(call!(shim6_close(shim, now, context)), Status::Ok);
    assert_eq!(call!(shim6_close(shim, now, context)), Status::NoContext);
    net.drain(A);
    let closed = net.has_event(A, EventKind::Closed).expect("told");
    assert_eq!((closed.context, closed.reason), (context, CloseReason::Requested));
}

#[test]
fn two_flows_between_the_same_hosts_take_two_paths() {
    let mut net = Net::new(&default_config());
    let (one, other) = (net.flow(A, 1000, 53), net.flow(A, 2000, 53));
    net.run(SECOND, &[one, other]);
    let (shim, now, mut fork) = (net.hosts[A].shim, net.now, 0);
    assert_eq!(
        call!(shim6_fork(shim, now, &raw const other, &raw mut fork)),
        Status::Ok
    );
    assert_eq!(
        call!(shim6_fork(shim, now, &raw const other, ptr::null_mut())),
        Status::Exists
    );
    net.drain(A);
    net.run(SECOND, &[one, other]);
    let (second, now) = (net.pair(A, 1, 1), net.now);
    let moved = call!(shim6_move_to(shim, now, fork, &raw const second, now + SECOND));
    assert_eq!(moved, Status::Pending);
    net.drain(A);
    net.run(SECOND, &[one, other]);
    let sessions = [one, other].map(|flow| net.hosts[A].session(&flow).expect("a context"));
    assert_eq!((sessions[0].locators, sessions[1].locators), (one.ulids, second));
    assert_eq!((sessions[1].context, net.hosts[A].counters().forked_flows), (fork, 1));
    assert_eq!(net.hosts[B].counters().forked_flows, 1, "the peer follows");
    assert_eq!(call!(shim6_join(shim, &raw const other)), Status::Ok);
    assert_eq!(
        net.hosts[A].session(&other).expect("the first").context,
        sessions[0].context
    );
}

#[test]
fn a_host_that_is_not_to_follow_forks_answers_on_the_common_context() {
    let config = Config {
        follow_forks: 0,
        ..default_config()
    };
    let mut net = Net::new(&config);
    let flow = net.flow(A, 1000, 53);
    net.run(SECOND, &[flow]);
    let (shim, now) = (net.hosts[A].shim, net.now);
    assert_eq!(
        call!(shim6_fork(shim, now, &raw const flow, ptr::null_mut())),
        Status::Ok
    );
    net.drain(A);
    net.run(SECOND, &[flow]);
    assert_eq!([A, B].map(|host| net.hosts[host].counters().forked_flows), [1, 0]);
}

#[test]
fn a_pair_that_shall_have_no_context_goes_on_without_one() {
    let mut net = Net::new(&default_config());
    let flow = net.flow(A, 1000, 53);
    let (shim, now, never) = (net.hosts[A].shim, net.now, Protection::Never as u32);
    assert_eq!(
        call!(shim6_set_protection(shim, now, &raw const flow.ulids, never)),
        Status::Ok
    );
    net.run(2 * SECOND, &[flow]);
    assert!(net.hosts[A].session(&flow).is_none() && net.hosts[A].got.len() > 50);
    let now = net.now;
    let refused = call!(shim6_establish(shim, now, &raw const flow.ulids, ptr::null_mut()));
    assert_eq!(refused, Status::Never);
    let policy = Protection::ByPolicy as u32;
    assert_eq!(
        call!(shim6_set_protection(shim, now, &raw const flow.ulids, policy)),
        Status::Ok
    );
    // Until the peer is not left alone any more, after its silence.
    net.run(70 * SECOND, &[flow]);
    assert!(net.hosts[A].session(&flow).is_some());
}

#[test]
fn a_stalled_transport_and_a_lost_interface_make_it_look_for_a_path_at_once() {
    let mut net = Net::new(&default_config());
    let flow = net.flow(A, 1000, 53);
    net.run(2 * SECOND, &[flow]);
    let (shim, now) = (net.hosts[A].shim, net.now);
    let context = net.hosts[A].session(&flow).expect("a context").context;
    let hint = Hint::Stalled as u32;
    assert_eq!(call!(shim6_handle_hint(shim, now, context, hint)), Status::Ok);
    assert_eq!(call!(shim6_handle_hint(shim, now, context, 2)), Status::BadArgument);
    let sent = net.packets.len();
    net.drain(A);
    assert!(net.packets.len() > sent && net.packets.values().any(|packet| is_control(packet)));
    net.run(SECOND, &[flow]);
    let (now, lost) = (net.now, flow.ulids.local);
    net.cut(net.pair(A, 0, 0));
    net.cut(net.pair(A, 0, 1));
    assert_eq!(call!(shim6_handle_locator(shim, now, &raw const lost, 0)), Status::Ok);
    net.drain(A);
    net.run(SECOND, &[flow]);
    assert!(net.longest_gap(A, now) < 100 * MS);
    assert_ne!(net.hosts[A].session(&flow).expect("a context").locators.local, lost);
}

#[test]
fn the_peer_is_told_of_other_locators_and_preferences() {
    let mut net = Net::new(&default_config());
    let flow = net.flow(A, 1000, 53);
    net.run(2 * SECOND, &[flow]);
    let (shim, now) = (net.hosts[A].shim, net.now);
    let preferences = [Preference {
        locator: flow.ulids.local,
        priority: 3,
        ..Preference::default()
    }];
    let told = call!(shim6_set_preferences(shim, now, preferences.as_ptr(), 1));
    assert_eq!(told, Status::Ok);
    net.drain(A);
    net.run(SECOND, &[flow]);
    let updates = |net: &Net| {
        let is_update = |event: &&Event| event.kind == EventKind::PeerUpdated;
        net.hosts[B].events.iter().filter(is_update).count()
    };
    assert_eq!(updates(&net), 1);
    let now = net.now;
    assert_eq!(call!(shim6_set_preferences(shim, now, ptr::null(), 0)), Status::Ok);
    net.drain(A);
    net.run(SECOND, &[flow]);
    assert_eq!(updates(&net), 2);
    let (identity, now) = (identity(1), net.now);
    assert_eq!(call!(shim6_set_identity(shim, now, identity)), Status::Ok);
    call!(shim6_identity_free(identity));
    net.drain(A);
    net.run(SECOND, &[flow]);
    assert_eq!(updates(&net), 3);
}

#[test]
fn a_context_in_use_is_not_torn_down_however_quiet_it_is() {
    let config = Config {
        quiescence: 5 * SECOND,
        ..default_config()
    };
    let mut net = Net::new(&config);
    let flow = net.flow(A, 1000, 53);
    net.run(2 * SECOND, &[flow]);
    let (shim, now) = (net.hosts[A].shim, net.now);
    let context = net.hosts[A].session(&flow).expect("a context").context;
    assert_eq!(call!(shim6_set_in_use(shim, now, context, 1)), Status::Ok);
    net.run(20 * SECOND, &[]);
    assert!(net.hosts[A].session(&flow).is_some());
    assert!(
        net.has_event(B, EventKind::Closed)
            .is_some_and(|event| event.reason == CloseReason::Quiescent)
    );
}

#[test]
fn a_hosts_randomness_comes_from_its_seed_alone() {
    let sent = |host: usize| {
        let mut net = Net::new(&default_config());
        let (flow, now) = (net.flow(host, 1000, 53), net.now);
        let made = call!(shim6_establish(
            net.hosts[host].shim,
            now,
            &raw const flow.ulids,
            ptr::null_mut()
        ));
        assert_eq!(made, Status::Ok);
        net.drain(host);
        net.packets.into_values().next().expect("an I1")
    };
    assert_eq!(sent(A), sent(A));
    // Behind the addresses: the tag and the nonce.
    assert_ne!(sent(A)[46..], sent(B)[46..]);
}

#[test]
fn a_transmit_buffer_that_is_too_short_loses_nothing() {
    let net = Net::new(&default_config());
    let flow = net.flow(A, 1000, 53);
    let (shim, now) = (net.hosts[A].shim, net.now);
    let made = call!(shim6_establish(shim, now, &raw const flow.ulids, ptr::null_mut()));
    assert_eq!(made, Status::Ok);
    let (mut buffer, mut length) = ([0; SHIM6_LEAST_BUFFER], 7);
    let out = buffer.as_mut_ptr();
    let short = call!(shim6_poll_transmit(shim, out, SHIM6_LEAST_BUFFER - 1, &raw mut length));
    assert_eq!((short, length), (Status::BufferTooShort, 7));
    let enough = call!(shim6_poll_transmit(shim, out, SHIM6_LEAST_BUFFER, &raw mut length));
    assert_eq!((enough, is_control(&buffer)), (Status::Ok, true));
    let none = call!(shim6_poll_transmit(shim, out, SHIM6_LEAST_BUFFER, &raw mut length));
    assert_eq!(none, Status::None);
}
