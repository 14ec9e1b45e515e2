use std::collections::BTreeSet;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::*;

fn end(class: Class) -> (End, watch::Sender<bool>) {
    let (sender, stop) = watch::channel(false);
    let kind = Kind {
        class,
        from: 0,
        uplinks: [0, 1],
    };
    let meter = Arc::new(Meter::new(kind, 7, Instant::now()));
    (End { meter, stop, seed: 7 }, sender)
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("[::1]:0").await.expect("loopback has IPv6");
    let to = listener.local_addr().expect("bound");
    let (near, far) = tokio::try_join!(TcpStream::connect(to), listener.accept()).expect("loopback works");
    (near, far.0)
}

#[test]
fn eight_sessions_have_all_classes_directions_and_pairs() {
    let kinds: Vec<_> = (0..8).map(Kind::of).collect();
    let pairs: BTreeSet<_> = kinds.iter().map(|kind| kind.uplinks).collect();
    assert_eq!(pairs.len(), 4);
    for class in Class::ALL {
        let directions: BTreeSet<_> = kinds
            .iter()
            .filter(|kind| kind.class == class)
            .map(|kind| kind.from)
            .collect();
        assert_eq!(directions.len(), 2, "{class:?}");
    }
    let all: BTreeSet<_> = (0..32).map(|number| Kind::of(number).name(0)).collect();
    assert_eq!(all.len(), 32, "each is another one");
}

#[tokio::test]
async fn bulk_session_that_is_told_to_end_has_got_all_that_was_sent() {
    let (sender, stop) = end(Class::Bulk);
    let (near, far) = pair().await;
    let meter = Arc::clone(&sender.meter);
    let tasks = [
        sender.clone().spawn(|end| streams::send(end, near)),
        sender.spawn(|end| streams::receive(end, far)),
    ];
    while meter.octets() < 30_000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send(true).expect("they run");
    for task in tasks {
        task.await.expect("no panic").expect("no error");
    }
    let [sent, arrived] = meter.counts();
    assert_eq!((sent, meter.lost()), (arrived, None));
}

#[tokio::test]
async fn wrong_octet_is_noticed() {
    let (receiver, _stop) = end(Class::Bulk);
    let (mut near, far) = pair().await;
    let meter = Arc::clone(&receiver.meter);
    let task = receiver.spawn(|end| streams::receive(end, far));
    let mut octets = [0; 100];
    Pattern::new(7).fill(&mut octets);
    octets[42] ^= 1;
    near.write_all(&octets).await.expect("connected");
    task.await.expect("no panic").expect_err("an octet is wrong");
    assert!(meter.lost().expect("lost").contains("wrong octets after 0"));
}

#[tokio::test]
async fn connection_that_ends_too_early_is_noticed() {
    let (server, _stop) = end(Class::Requests);
    let (near, far) = pair().await;
    let meter = Arc::clone(&server.meter);
    let task = server.spawn(|end| streams::answer(end, far));
    drop(near);
    task.await.expect("no panic").expect_err("it ended");
    assert!(meter.lost().expect("lost").contains("the client went away"));
}

#[tokio::test]
async fn datagram_that_comes_twice_counts_once() {
    let (client, stop) = end(Class::Voice);
    let meter = Arc::clone(&client.meter);
    let [from, to] = [
        tokio::net::UdpSocket::bind("[::1]:0").await.expect("loopback"),
        tokio::net::UdpSocket::bind("[::1]:0").await.expect("loopback"),
    ];
    let address = to.local_addr().expect("bound");
    let mut sound = [0; 172];
    for number in [0, 1, 1, 2] {
        client.message(number, &mut sound);
        from.send_to(&sound, address).await.expect("sent");
    }
    let task = client.spawn(|end| datagrams::listen(end, to));
    while meter.counts()[1] < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send(true).expect("it runs");
    task.await.expect("no panic").expect("nothing is wrong");
    assert_eq!(meter.counts()[1], 3);
}

#[test]
fn silence_makes_a_stall_and_then_a_loss() {
    let (end, _stop) = end(Class::Voice);
    std::thread::sleep(STALL);
    assert_eq!(end.meter.check(Duration::from_secs(60)), None);
    assert!(
        end.meter
            .check(STALL / 2)
            .expect("lost")
            .contains("nothing arrived for")
    );
    end.meter.arrive(1);
    let stalls = end.meter.stalls();
    assert!(
        stalls.len() == 1 && stalls[0].seconds >= STALL.as_secs_f64(),
        "{stalls:?}"
    );
}
