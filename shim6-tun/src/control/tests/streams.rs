//! Event streams, and readers that do not keep up.

use super::*;

#[tokio::test]
async fn events_stream_from_the_subscription_on() {
    let fixture = Fixture::start();
    let client = Client::connect(&fixture.path()).await.expect("a client");
    let mut events = client.events().await.expect("a stream");
    for number in 0..3 {
        fixture.events.send(event(number)).expect("a subscriber");
    }
    for number in 0..3 {
        let next = timeout(LONG, events.next()).await.expect("in time").expect("no error");
        assert_eq!(next, Some(event(number)));
    }
}

#[tokio::test]
async fn a_stream_read_in_pieces_loses_nothing() {
    let fixture = Fixture::start();
    let mut events = Client::connect(&fixture.path())
        .await
        .expect("a client")
        .events()
        .await
        .expect("a stream");
    assert!(
        timeout(Duration::from_millis(1), events.next()).await.is_err(),
        "there is no event yet"
    );
    fixture.events.send(event(1)).expect("a subscriber");
    assert_eq!(
        timeout(LONG, events.next()).await.expect("in time").expect("no error"),
        Some(event(1))
    );
}

#[tokio::test]
async fn a_stream_ends_with_the_daemon() {
    let fixture = Fixture::start();
    let mut events = Client::connect(&fixture.path())
        .await
        .expect("a client")
        .events()
        .await
        .expect("a stream");
    fixture.daemon.abort();
    assert_eq!(
        timeout(LONG, events.next()).await.expect("in time").expect("no error"),
        None
    );
    timeout(LONG, fixture.server)
        .await
        .expect("the server ends in time")
        .expect("the server ends");
    assert!(
        !fixture.directory.path().join("sock").exists(),
        "the socket is left behind"
    );
}

#[tokio::test]
async fn a_slow_reader_gets_a_last_event_and_holds_nobody_up() {
    let fixture = Fixture::start();
    let mut slow = Client::connect(&fixture.path())
        .await
        .expect("a client")
        .events()
        .await
        .expect("a stream");
    // Enough to fill the socket's buffers; from then on the events pile up in the daemon.
    let sent = 5000;
    for number in 0..sent {
        fixture.events.send(event(number)).expect("a subscriber");
        tokio::task::yield_now().await;
    }
    let mut client = Client::connect(&fixture.path()).await.expect("a client");
    timeout(LONG, client.status())
        .await
        .expect("the daemon is not held up")
        .expect("a status");
    let mut last = None;
    let mut seen = 0;
    while let Some(event) = timeout(LONG, slow.next()).await.expect("in time").expect("no error") {
        seen += 1;
        last = Some(event);
    }
    let last = last.expect("a last event");
    assert_eq!(last.kind, "lagged");
    assert_eq!(
        last.at_ms,
        seen.max(2) - 2,
        "the time is that of the last event that was seen"
    );
    assert!(
        last.detail["missed"]
            .as_u64()
            .is_some_and(|missed| missed > 0 && missed < sent),
        "{last:?}"
    );
}

#[tokio::test]
async fn a_reader_that_never_reads_is_dropped() {
    let patience = Patience {
        reply: Duration::from_millis(20),
        ..Patience::default()
    };
    let fixture = Fixture::with_patience(patience);
    let stream = Client::connect(&fixture.path())
        .await
        .expect("a client")
        .events()
        .await
        .expect("a stream");
    timeout(LONG, async {
        while fixture.events.receiver_count() > 0 {
            // No subscriber left is what the loop waits for.
            drop(fixture.events.send(event(1)));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the subscription ends");
    drop(stream);
}

#[tokio::test]
async fn a_reader_that_hangs_up_is_forgotten_at_once() {
    let fixture = Fixture::start();
    let stream = Client::connect(&fixture.path())
        .await
        .expect("a client")
        .events()
        .await
        .expect("a stream");
    assert_eq!(fixture.events.receiver_count(), 1);
    drop(stream);
    timeout(LONG, async {
        while fixture.events.receiver_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the subscription ends without an event");
}
