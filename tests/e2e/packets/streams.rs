//! TCP with all that it can do: offloads, small writes, urgent data, its options, ECN and losses.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::MsgFlags;
use shim6_tests::isolated;
use shim6_tun::demo::traffic::Pattern;
use shim6_tun::lab::{Direction, Impairment, Share, Topology};
use shim6_tun::sys::ancillary::option;
use socket2::{SockRef, Type};

use super::lab::{LIMIT, Lab, Pair, address_of, octets};

/// The options of a connection, in `struct tcp_info`.
const TCPI_OPTIONS: usize = 5;
/// Segments that were told to have met congestion, there.
const TCPI_DELIVERED_CE: usize = 196;
const TCP_INFO_OCTETS: usize = 256;
/// Timestamps, SACK, window scaling.
const USUAL_OPTIONS: u8 = 7;
const ECN_OPTION: u8 = 8;
/// Octets of the headers of a segment with timestamps.
const TCP_HEADERS: i32 = 72;

/// A connection: the end that asked for it, and the one that was asked. `client` has a source of its own choice unless it is
/// bound.
pub(crate) fn connected(pair: &Pair, is_bound: bool) -> [TcpStream; 2] {
    let listener = pair.to.socket(Type::STREAM, libc::IPPROTO_TCP);
    listener.listen(8).expect("a listener");
    let to = address_of(&listener);
    let listener = TcpListener::from(listener);
    let address = is_bound.then_some(pair.from.address);
    let client = pair.from.unbound(Type::STREAM, libc::IPPROTO_TCP, address);
    client
        .connect_timeout(&to.into(), LIMIT)
        .unwrap_or_else(|error| panic!("no connection {}: {error}", pair.name));
    let (server, _) = listener.accept().expect("a connection");
    let client = TcpStream::from(client);
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        stream.set_write_timeout(Some(LIMIT)).expect("a timeout");
    }
    [client, server]
}

/// Sends so many octets of a pattern each way at once, and looks at each that arrives.
pub(crate) fn exchange(pair: &Pair, [one, other]: [&TcpStream; 2], total: usize) {
    thread::scope(|scope| {
        for (seed, (from, to)) in [(one, other), (other, one)].into_iter().enumerate() {
            scope.spawn(move || send(from, seed as u64, total));
            scope.spawn(move || expect(pair, to, seed as u64, total));
        }
    });
}

fn send(mut stream: &TcpStream, seed: u64, total: usize) {
    let (mut pattern, mut chunk) = (Pattern::new(seed), vec![0; 128 << 10]);
    let mut left = total;
    while left > 0 {
        let length = left.min(chunk.len());
        pattern.fill(&mut chunk[..length]);
        stream.write_all(&chunk[..length]).expect("it is taken");
        left -= length;
    }
}

fn expect(pair: &Pair, mut stream: &TcpStream, seed: u64, total: usize) {
    let (mut pattern, mut expected) = (Pattern::new(seed), vec![0; 128 << 10]);
    let (mut arrived, mut chunk) = (0, vec![0; 128 << 10]);
    while arrived < total {
        let length = stream
            .read(&mut chunk)
            .unwrap_or_else(|error| panic!("{arrived} of {total} octets {}: {error}", pair.name));
        assert!(length > 0, "it ends after {arrived} of {total} octets {}", pair.name);
        pattern.fill(&mut expected[..length]);
        assert!(
            chunk[..length] == expected[..length],
            "behind octet {arrived} {}",
            pair.name
        );
        arrived += length;
    }
    assert_eq!(arrived, total);
}

fn info(stream: &TcpStream) -> Vec<u8> {
    let mut info = option(stream, libc::IPPROTO_TCP, libc::TCP_INFO, TCP_INFO_OCTETS).expect("what it knows");
    info.resize(TCP_INFO_OCTETS, 0);
    info
}

#[test]
fn connections_carry_every_octet_both_ways_before_and_after() {
    let name = "packets::streams::connections_carry_every_octet_both_ways_before_and_after";
    isolated(name, || async {
        const TOTAL: usize = 8 << 20;
        let lab = Lab::start(Topology::two_by_two().await.expect("a lab"), "").await;
        let forth = lab.pair();
        let back = forth.reversed("between the ULIDs, from b to a");
        let pairs = [forth, back];
        let old = {
            let pairs = pairs.clone();
            lab.blocking(move || {
                pairs.each_ref().map(|pair| {
                    let [one, other] = connected(pair, true);
                    exchange(pair, [&one, &other], TOTAL);
                    [one, other]
                })
            })
            .await
        };
        lab.steer().await;
        lab.blocking(move || {
            for (pair, [one, other]) in pairs.iter().zip(&old) {
                exchange(pair, [one, other], TOTAL);
                let [one, other] = connected(pair, true);
                exchange(pair, [&one, &other], TOTAL);
                // Its end arrives, too.
                one.shutdown(Shutdown::Write).expect("an end");
                assert_eq!((&other).read(&mut [0; 8]).expect("the end"), 0, "{}", pair.name);
                other.shutdown(Shutdown::Write).expect("an end");
                assert_eq!((&one).read(&mut [0; 8]).expect("the end"), 0, "{}", pair.name);
            }
        })
        .await;
        lab.end().await;
    });
}

#[test]
fn small_writes_and_urgent_data_arrive_as_they_were_written() {
    let name = "packets::streams::small_writes_and_urgent_data_arrive_as_they_were_written";
    isolated(name, || async {
        let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
        lab.compare("small writes", |pair| {
            let [one, other] = connected(pair, true);
            one.set_nodelay(true).expect("an option");
            let data = octets(8, 40_000);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut rest = &data[..];
                    while !rest.is_empty() {
                        let (now, later) = rest.split_at(rest.len().min(1 + rest.len() % 61));
                        (&one).write_all(now).expect("it is taken");
                        rest = later;
                    }
                });
                let mut arrived = vec![0; data.len()];
                (&other).read_exact(&mut arrived).expect("all of it");
                assert!(arrived == data, "{}", pair.name);
            });
        })
        .await;
        lab.compare("urgent data", |pair| {
            let [one, other] = connected(pair, true);
            for round in 0..20_u8 {
                let before = octets(round.into(), 3_000 + 100 * usize::from(round));
                (&one).write_all(&before).expect("it is taken");
                SockRef::from(&one).send_out_of_band(&[round]).expect("it is taken");
                (&one).write_all(&[0xff; 100]).expect("it is taken");
                // A read ends where the urgent octet is, which is not among the others.
                let mut arrived = vec![0; before.len()];
                (&other).read_exact(&mut arrived).expect("all of it");
                assert!(arrived == before, "{}", pair.name);
                assert_eq!(urgent_octet(&other), round, "{}", pair.name);
                let mut after = [0; 100];
                (&other).read_exact(&mut after).expect("what follows");
                assert_eq!(after, [0xff; 100], "{}", pair.name);
            }
        })
        .await;
        lab.end().await;
    });
}

/// Waits until the urgent octet is there; until then the kernel says that there is none.
fn urgent_octet(stream: &TcpStream) -> u8 {
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut urgent = [0];
        match nix::sys::socket::recv(stream.as_raw_fd(), &mut urgent, MsgFlags::MSG_OOB) {
            Ok(1) => return urgent[0],
            answer => assert!(Instant::now() < deadline, "no urgent octet: {answer:?}"),
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn segments_leave_room_for_the_header_and_options_are_agreed_on() {
    let name = "packets::streams::segments_leave_room_for_the_header_and_options_are_agreed_on";
    isolated(name, || async {
        let lab = Lab::steered(Topology::two_by_two().await.expect("a lab")).await;
        for (pair, mtu) in [
            (lab.plain(), 1500),
            (lab.pair(), 1492),
            (lab.pair().reversed("between the ULIDs, from b to a"), 1492),
        ] {
            lab.blocking(move || {
                let ends = connected(&pair, true);
                exchange(&pair, [&ends[0], &ends[1]], 1 << 20);
                for end in &ends {
                    let segment = option(end, libc::IPPROTO_TCP, libc::TCP_MAXSEG, 4).expect("a segment");
                    assert_eq!(segment, (mtu - TCP_HEADERS).to_ne_bytes(), "{}", pair.name);
                    assert_eq!(info(end)[TCPI_OPTIONS] & USUAL_OPTIONS, USUAL_OPTIONS, "{}", pair.name);
                }
            })
            .await;
        }
        lab.end().await;
    });
}

#[test]
fn congestion_that_a_router_marks_slows_a_connection_and_spoils_nothing() {
    let name = "packets::streams::congestion_that_a_router_marks_slows_a_connection_and_spoils_nothing";
    isolated(name, || async {
        let lab = Lab::steered(Topology::emulated().await.expect("a lab")).await;
        for side in [lab.pair().from, lab.pair().to] {
            let ask = || std::fs::write("/proc/sys/net/ipv4/tcp_ecn", "1");
            side.namespace.run(ask).expect("a namespace").expect("a setting");
        }
        let topology = lab.stage.topology();
        let link = topology.link(&topology.a, 1).expect("a link");
        lab.compare("ECN that is not used", |pair| marked(pair) == 0).await;
        for direction in Direction::ALL {
            link.impair(direction, Impairment::default().congested());
        }
        lab.compare("ECN", |pair| marked(pair) > 0).await;
        lab.end().await;
    });
}

/// How many segments of a transfer both ways were marked, as their senders know.
fn marked(pair: &Pair) -> u32 {
    let ends = connected(pair, true);
    exchange(pair, [&ends[0], &ends[1]], 400_000);
    let marked = ends.each_ref().map(|end| {
        let info = info(end);
        assert_eq!(info[TCPI_OPTIONS] & ECN_OPTION, ECN_OPTION, "{}", pair.name);
        u32::from_ne_bytes(*info[TCPI_DELIVERED_CE..].first_chunk().expect("a number"))
    });
    assert_eq!(marked[0] > 0, marked[1] > 0, "{}: {marked:?}", pair.name);
    marked[0]
}

#[test]
fn connections_over_a_line_that_loses_packets_carry_every_octet() {
    let name = "packets::streams::connections_over_a_line_that_loses_packets_carry_every_octet";
    isolated(name, || async {
        let lab = Lab::steered(Topology::emulated().await.expect("a lab")).await;
        let topology = lab.stage.topology();
        let link = topology.link(&topology.a, 1).expect("a link");
        for (direction, percent) in Direction::ALL.into_iter().zip([1, 2]) {
            let delay = Impairment::delay(Duration::from_millis(1));
            link.impair(direction, delay.losing(Share::percent(percent)));
        }
        lab.compare("losses", |pair| {
            let ends = connected(pair, true);
            exchange(pair, [&ends[0], &ends[1]], 1 << 20);
        })
        .await;
        assert!(
            Direction::ALL
                .iter()
                .all(|direction| link.counters(*direction).dropped > 5)
        );
        lab.end().await;
    });
}

/// Both ends of a client that did not say where it comes from.
pub(crate) fn unbound(pair: &Pair) -> [TcpStream; 2] {
    connected(pair, false)
}
