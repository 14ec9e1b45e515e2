//! Bad messages on the wire are counted under their reason, and nothing else changes.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use shim6_core::wire::{NO_NEXT_HEADER, PROTOCOL, checksum};
use shim6_tests::{binary, isolated};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::{self, Locators, Stage};
use shim6_tun::demo::traffic::bulk;
use shim6_tun::lab::Namespace;
use shim6_tun::status::Status;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{Instant, sleep};

/// How long the daemon may take to count what it got.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often each bad message is sent. Two of them are answered with an Error, of which a site gets five a second.
const REPEATS: u64 = 2;

/// A control message with a right length and checksum.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![NO_NEXT_HEADER, 0, kind, 0, 0, 0];
    octets.extend(body);
    octets.resize(octets.len().next_multiple_of(8), 0);
    octets[1] = u8::try_from(octets.len() / 8 - 1).expect("short messages");
    let sum = checksum(&octets).to_be_bytes();
    octets[4..6].copy_from_slice(&sum);
    octets
}

/// An I1: context tag, nonce, options.
fn i1(options: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1, 2, 3, 4, 5, 9, 9, 9, 9];
    body.extend(options);
    message(1, &body)
}

/// Messages with the reason each has to be counted under.
fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let mut past_end = i1(&[]);
    past_end[1] = 200;
    let mut bad_checksum = i1(&[]);
    bad_checksum[15] ^= 1;
    let mut s_bit = i1(&[]);
    s_bit[3] |= 1;
    // One bit less in the sum for one more in the octets.
    let sum = u16::from_be_bytes([s_bit[4], s_bit[5]]).wrapping_sub(1);
    s_bit[4..6].copy_from_slice(&sum.to_be_bytes());
    vec![
        ("truncated", i1(&[])[..7].to_vec()),
        ("length_past_end", past_end),
        ("bad_checksum", bad_checksum),
        ("s_bit_set", s_bit),
        ("unknown_message_type", message(99, &[0; 10])),
        ("below_minimum_length", message(2, &[0; 2])),
        // Type 0x3fff with the critical bit, length 4.
        ("unknown_critical_option", i1(&[0x7f, 0xff, 0, 4, 1, 2, 3, 4])),
        // The same without the critical bit is ignored, the length past the end is not.
        ("option_past_end", i1(&[0x7f, 0xfe, 0, 99, 1, 2, 3, 4])),
        // A payload header of a context that does not exist, around nothing.
        ("in_no_context", vec![NO_NEXT_HEADER, 0, 0x80, 1, 2, 3, 4, 5]),
    ]
}

/// Sends raw packets of protocol 140 from `source`; the kernel adds the IPv6 header.
fn send(from: &Namespace, source: Ipv6Addr, to: SocketAddrV6, octets: &[u8]) {
    let sent = from.run(|| {
        let protocol = Protocol::from(i32::from(PROTOCOL));
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(protocol))?;
        socket.bind(&SocketAddrV6::new(source, 0, 0, to.scope_id()).into())?;
        for _ in 0..REPEATS {
            socket.send_to(octets, &to.into())?;
        }
        std::io::Result::Ok(())
    });
    sent.expect("a namespace").expect("raw sockets work in the lab");
}

async fn status(stage: &Stage) -> Status {
    let daemon = stage.daemon_a().expect("it runs");
    daemon
        .status()
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", stage.logs()))
}

/// The counters of what was dropped: of control messages, and of payload without a context.
fn drops(status: &Status) -> BTreeMap<&str, u64> {
    let discards = status.counters.discards.iter();
    let payload = status
        .counters
        .dataplane
        .iter()
        .filter(|(name, _)| *name == "in_no_context");
    discards
        .chain(payload)
        .map(|(name, count)| (name.as_str(), *count))
        .collect()
}

/// Waits until the counter of `reason` has grown by [`REPEATS`] and checks that no other has.
async fn assert_counted(stage: &Stage, before: &Status, reason: &str) -> Status {
    let mut expected = drops(before);
    let counter = expected.get_mut(reason);
    *counter.unwrap_or_else(|| panic!("no counter `{reason}` in {:?}", before.counters)) += REPEATS;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = status(stage).await;
        if drops(&now)[reason] >= expected[reason] || Instant::now() >= deadline {
            assert_eq!(drops(&now), expected, "{reason}\n{}", stage.logs());
            return now;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// What must not change: the contexts, by identity and state, and the uplinks.
fn essence(status: &Status) -> Vec<String> {
    let contexts = status.contexts.iter().map(|c| {
        format!(
            "{} {:?} {} {:?} {} {:?} {}",
            c.id, c.ulids, c.state, c.locators, c.steered, c.peer_locators, c.failovers
        )
    });
    let uplinks = status.uplinks.iter().map(|uplink| format!("{uplink:?}"));
    contexts.chain(uplinks).collect()
}

/// A stage with a context between both hosts.
async fn established() -> (Stage, Locators) {
    let live = Arc::new(Live::default());
    let mut stage = Stage::build(binary::shim6(), live).await.expect("a lab");
    stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
    let ulids = stage.ulids().await.expect("addresses");
    let topology = stage.topology();
    let (listener, server) = stage::listen(&topology.b, ulids[1], None).expect("a listener");
    let client = stage::tcp_client(&topology.a, ulids[0]).expect("a socket");
    let window = Duration::from_millis(200);
    let traffic = tokio::task::spawn_blocking(move || bulk::measure(&listener, client, server, Duration::ZERO, window));
    traffic.await.expect("no panic").expect("the network works");
    stage
        .wait_established(ulids, Instant::now() + PATIENCE)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    (stage, ulids)
}

async fn every_bad_message() {
    let (mut stage, ulids) = established().await;
    let start = status(&stage).await;
    let mut last = start.clone();
    let [_, plain_b] = stage.plain();
    let to = SocketAddrV6::new(ulids[0], 0, 0, 0);
    for (reason, octets) in cases() {
        send(&stage.topology().b.namespace, plain_b, to, &octets);
        last = assert_counted(&stage, &last, reason).await;
        assert_eq!(essence(&last), essence(&start), "{reason}");
    }
    stage.stop().await.unwrap_or_else(|error| panic!("{error:#}"));
}

async fn multicast_destination() {
    let (mut stage, _) = established().await;
    let start = status(&stage).await;
    let host = &stage.topology().a;
    let isp = stage.topology().isp(host, 0).expect("an ISP");
    let netlink = isp.netlink().expect("netlink");
    let access = netlink.link("access").await.expect("the access link");
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let to = SocketAddrV6::new(all_nodes, 0, 0, access.index);
    send(isp, host.uplinks[0].gateway, to, &i1(&[]));
    let end = assert_counted(&stage, &start, "multicast").await;
    assert_eq!(essence(&end), essence(&start));
    stage.stop().await.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn bad_message_is_counted_and_changes_nothing() {
    isolated(
        "bad_input::bad_message_is_counted_and_changes_nothing",
        every_bad_message,
    );
}

#[test]
fn message_to_a_multicast_address_is_counted_and_changes_nothing() {
    isolated(
        "bad_input::message_to_a_multicast_address_is_counted_and_changes_nothing",
        multicast_destination,
    );
}
