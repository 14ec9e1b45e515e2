//! Datagrams that are sent while a path is looked for arrive when there is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use shim6_tests::{binary, isolated};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::{self, Stage};
use shim6_tun::lab::Failure;
use tokio::net::UdpSocket;
use tokio::time::{Instant, interval};

use crate::plans::{assert_clean, assert_moved};

/// Longer than it takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// Time between two datagrams.
const PACE: Duration = Duration::from_millis(3);

/// What became of the datagrams of host a, which are numbered from 0.
struct Outcome {
    /// The numbers, as they arrived.
    arrived: Vec<u32>,
    /// What host a says of those that it held.
    replayed: u64,
    held: u64,
}

impl Outcome {
    /// How many numbers arrived more than once.
    fn twice(&self) -> usize {
        let mut numbers = self.arrived.clone();
        numbers.sort_unstable();
        numbers.windows(2).filter(|pair| pair[0] == pair[1]).count()
    }

    /// The numbers that are missing.
    fn lost(&self) -> Vec<u32> {
        let last = self.arrived.iter().max().copied().unwrap_or_default();
        (0..last).filter(|number| !self.arrived.contains(number)).collect()
    }
}

/// Host a sends numbered datagrams to host b. Both its uplinks are cut, and the second one is healed when some have been sent
/// while a path is looked for. It goes on until one has arrived that was sent after the context had moved.
async fn run(failure: Failure, hold: &str) -> Outcome {
    let mut stage = Stage::build(binary::shim6(), Arc::new(Live::default()))
        .await
        .expect("a lab");
    stage.configure(hold);
    stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
    let ulids = stage.ulids().await.expect("addresses");
    let (sender, _) = stage::udp(&stage.topology().a, ulids[0]).expect("a socket");
    let (receiver, destination) = stage::udp(&stage.topology().b, ulids[1]).expect("a socket");
    let sender = UdpSocket::from_std(sender).expect("a socket");
    let receiver = UdpSocket::from_std(receiver).expect("a socket");

    let next = Arc::new(AtomicU32::new(0));
    let count = next.clone();
    let sending = tokio::spawn(async move {
        let mut tick = interval(PACE);
        loop {
            tick.tick().await;
            let number = count.fetch_add(1, Relaxed);
            // The link may be down.
            let _ = sender.send_to(&number.to_be_bytes(), destination).await;
        }
    });
    let arrived = Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = arrived.clone();
    let receiving = tokio::spawn(async move {
        let mut number = [0; 4];
        while let Ok((_, source)) = receiver.recv_from(&mut number).await {
            record.lock().expect("whole").push(u32::from_be_bytes(number));
            // A pair that is heard in one direction only gets no context.
            let _ = receiver.send_to(&[], source).await;
        }
    });

    let deadline = Instant::now() + LIMIT;
    stage
        .wait_established(ulids, deadline)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    let before = stage.locators(ulids).await.expect("a context");
    let (topology, mut tick) = (stage.topology(), interval(Duration::from_millis(5)));
    for uplink in [1, 0] {
        topology.cut(failure, &topology.a, uplink).await.expect("a cut");
    }
    let mut until = u32::MAX;
    while next.load(Relaxed) < until {
        tick.tick().await;
        let context = stage.context_a(ulids).await.expect("a status").expect("a context");
        if until == u32::MAX && context.reap != "operational" {
            until = next.load(Relaxed) + 5;
        }
        assert!(Instant::now() < deadline, "{}", stage.logs());
    }
    topology.heal(&topology.a, 1).await.expect("one uplink works");
    let context = loop {
        tick.tick().await;
        let context = stage.context_a(ulids).await.expect("a status").expect("a context");
        if context.failovers > 0 && context.reap == "operational" {
            break context;
        }
        assert!(Instant::now() < deadline, "{}", stage.logs());
    };
    let after = [context.locators.local, context.locators.peer];
    match failure {
        Failure::Blackhole => assert_moved(before, after),
        // What it sends arrives from either uplink.
        _ => assert_ne!(before, after),
    }
    // All that was sent until now is on its way or lost when what is sent from now on is there.
    let enough = next.load(Relaxed) + 20;
    while !arrived.lock().expect("whole").contains(&enough) {
        tick.tick().await;
        assert!(Instant::now() < deadline, "{}", stage.logs());
    }
    sending.abort();
    let status = stage.daemon_a().expect("it runs").status().await.expect("a status");
    receiving.abort();
    assert_clean(&stage.stop().await.unwrap_or_else(|error| panic!("{error:#}")));
    let counters = &status.counters.dataplane;
    let arrived = arrived.lock().expect("whole").clone();
    Outcome {
        arrived,
        replayed: counters["hold_replayed"],
        held: counters["hold_held"],
    }
}

#[test]
fn datagrams_sent_while_a_path_is_looked_for_arrive_in_order() {
    let name = "hold::datagrams_sent_while_a_path_is_looked_for_arrive_in_order";
    isolated(name, || async {
        let outcome = run(Failure::Blackhole, "").await;
        assert!(outcome.replayed > 0 && outcome.replayed == outcome.held);
        assert!(outcome.arrived.is_sorted(), "{:?}", outcome.arrived);
        assert_eq!(outcome.twice(), 0);
        // What was sent until the failure was noticed is lost, and nothing after that.
        let lost = outcome.lost();
        assert!(lost.windows(2).all(|pair| pair[1] == pair[0] + 1), "{lost:?}");
    });
}

/// Host a's datagrams arrive all the time; it leaves the path since it does not hear host b.
#[test]
fn datagrams_whose_old_path_works_arrive_twice() {
    isolated("hold::datagrams_whose_old_path_works_arrive_twice", || async {
        let outcome = run(Failure::OneWay, "").await;
        assert_eq!(outcome.lost(), [0; 0]);
        assert!(outcome.replayed > 0);
        assert_eq!(outcome.twice() as u64, outcome.replayed);
        println!(
            "{} of {} datagrams arrived twice",
            outcome.twice(),
            outcome.arrived.len()
        );
    });
}

#[test]
fn no_datagram_arrives_twice_where_none_are_held() {
    isolated("hold::no_datagram_arrives_twice_where_none_are_held", || async {
        for hold in ["[hold]\ndatagrams = false\n", "[hold]\nenabled = false\n"] {
            let outcome = run(Failure::OneWay, hold).await;
            assert_eq!(outcome.lost(), [0; 0]);
            assert_eq!((outcome.held, outcome.twice()), (0, 0));
        }
    });
}
