use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::server::{MAX_CONNECTIONS, MAX_REQUEST, Patience};
use super::*;
use crate::status::{
    ContextStatus, Counters, Event, FailoverStatus, PairStatus, UplinkStatus, Volume,
};

/// Far longer than anything here takes; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(20);

/// A served socket with a daemon behind it that answers every status request with [`sample`].
struct Fixture {
    directory: tempfile::TempDir,
    events: broadcast::Sender<Event>,
    daemon: JoinHandle<()>,
    server: JoinHandle<()>,
}

impl Fixture {
    fn start() -> Self {
        Self::with_patience(Patience::default())
    }

    fn with_patience(patience: Patience) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = Server::bind(&directory.path().join("sock"))
            .expect("a socket")
            .with_patience(patience);
        let (requests, mut asked) = mpsc::channel(4);
        let (events, _) = broadcast::channel(16);
        let server = tokio::spawn(server.serve(requests, events.clone()));
        let daemon = tokio::spawn(async move {
            while let Some(Request::Status(answer)) = asked.recv().await {
                drop(answer.send(sample()));
            }
        });
        Self {
            directory,
            events,
            daemon,
            server,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path())
            .await
            .expect("a connection")
    }

    /// Sends one request on a connection of its own and returns the reply.
    async fn ask(&self, request: &Value) -> Value {
        let mut stream = self.connect().await;
        exchange(&mut stream, request.to_string().as_bytes()).await
    }
}

async fn exchange(stream: &mut UnixStream, request: &[u8]) -> Value {
    stream.write_all(request).await.expect("a request sent");
    stream.write_all(&[0]).await.expect("a request sent");
    reply(stream).await
}

async fn reply(stream: &mut UnixStream) -> Value {
    let mut message = Vec::new();
    loop {
        let octet = timeout(LONG, stream.read_u8())
            .await
            .expect("a reply in time")
            .expect("a reply");
        if octet == 0 {
            return serde_json::from_slice(&message).expect("JSON");
        }
        message.push(octet);
    }
}

/// Waits until the other end has closed.
async fn assert_closed(stream: &mut UnixStream) {
    let read = timeout(LONG, stream.read(&mut [0; 64]))
        .await
        .expect("the end in time");
    // Closing a socket with octets that were not read resets it.
    assert!(
        matches!(&read, Ok(0)) || read.is_err(),
        "more than expected came: {read:?}"
    );
}

fn event(number: u64) -> Event {
    Event {
        at_ms: number,
        kind: "test".to_owned(),
        context: Some(number),
        message: "x".repeat(1000),
        detail: json!({ "number": number }),
    }
}

fn sample() -> Status {
    let address = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
    let pair = PairStatus {
        local: address(1),
        peer: address(2),
    };
    let moved = PairStatus {
        local: address(3),
        peer: address(4),
    };
    Status {
        version: "0.1.0".to_owned(),
        pid: 1,
        uptime_ms: u64::MAX,
        tun: "shim0".to_owned(),
        uplinks: vec![UplinkStatus {
            interface: "eth0".to_owned(),
            prefix: "2001:db8::/64".to_owned(),
            gateway: None,
            address: address(1),
            up: true,
        }],
        contexts: vec![ContextStatus {
            id: 7,
            ulids: pair,
            state: "established".to_owned(),
            reap: "operational".to_owned(),
            locators: moved,
            steered: true,
            peer_locators: vec![address(2), address(4)],
            age_ms: 5,
            sent: Volume {
                packets: 1,
                octets: 2,
            },
            received: Volume {
                packets: 3,
                octets: 4,
            },
            failovers: 1,
            last_failover: Some(FailoverStatus {
                cause: "timeout".to_owned(),
                from: pair,
                to: moved,
                ago_ms: 3,
            }),
        }],
        counters: Counters {
            received: BTreeMap::from([("i1".to_owned(), 1)]),
            discards: BTreeMap::from([("bad-checksum".to_owned(), 0)]),
            ..Counters::default()
        },
    }
}

#[tokio::test]
async fn status_comes_back_as_the_daemon_gave_it() {
    let fixture = Fixture::start();
    let mut client = Client::connect(&fixture.path()).await.expect("a client");
    assert_eq!(client.status().await.expect("a status"), sample());
    assert_eq!(
        client
            .status()
            .await
            .expect("a second one on the same connection"),
        sample()
    );
}

#[tokio::test]
async fn the_wire_is_varlink() {
    let fixture = Fixture::start();
    let answer = fixture.ask(&json!({ "method": "org.shim6.Status" })).await;
    assert_eq!(answer, json!({ "parameters": sample() }));
    let info = fixture
        .ask(&json!({ "method": "org.varlink.service.GetInfo", "parameters": {} }))
        .await;
    assert_eq!(
        info["parameters"]["interfaces"],
        json!(["org.varlink.service", "org.shim6"])
    );
    let asked = json!({
        "method": "org.varlink.service.GetInterfaceDescription",
        "parameters": { "interface": "org.shim6" }
    });
    let description = fixture.ask(&asked).await;
    let description = description["parameters"]["description"]
        .as_str()
        .expect("a description")
        .to_owned();
    assert!(
        description.contains("interface org.shim6\n"),
        "{description}"
    );
    for method in ["Status", "Events"] {
        assert!(
            description.contains(&format!("method {method}(")),
            "{method} is not described"
        );
    }
}

#[test]
fn the_description_has_every_field() {
    fn keys(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    found.push(key.clone());
                    // The keys of counters are data.
                    if key != "counters" {
                        keys(value, found);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    keys(&json!([sample(), event(1)]), &mut found);
    found.retain(|key| key != "number");
    assert!(found.len() > 30, "{found:?}");
    for key in found {
        assert!(
            super::wire::DESCRIPTION.contains(&format!("{key}: ")),
            "{key} is not described"
        );
    }
}

#[tokio::test]
async fn events_stream_from_the_subscription_on() {
    let fixture = Fixture::start();
    let client = Client::connect(&fixture.path()).await.expect("a client");
    let mut events = client.events().await.expect("a stream");
    for number in 0..3 {
        fixture.events.send(event(number)).expect("a subscriber");
    }
    for number in 0..3 {
        let next = timeout(LONG, events.next())
            .await
            .expect("in time")
            .expect("no error");
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
        timeout(Duration::from_millis(1), events.next())
            .await
            .is_err(),
        "there is no event yet"
    );
    fixture.events.send(event(1)).expect("a subscriber");
    assert_eq!(
        timeout(LONG, events.next())
            .await
            .expect("in time")
            .expect("no error"),
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
        timeout(LONG, events.next())
            .await
            .expect("in time")
            .expect("no error"),
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
    while let Some(event) = timeout(LONG, slow.next())
        .await
        .expect("in time")
        .expect("no error")
    {
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

#[tokio::test]
async fn what_is_not_offered_is_refused_by_name() {
    let fixture = Fixture::start();
    let cases = [
        (
            json!({ "method": "org.shim6.Reboot" }),
            "org.varlink.service.MethodNotFound",
            json!({ "method": "org.shim6.Reboot" }),
        ),
        (
            json!({ "method": "Status" }),
            "org.varlink.service.InterfaceNotFound",
            json!({ "interface": "" }),
        ),
        (
            json!({ "method": "com.example.Status" }),
            "org.varlink.service.InterfaceNotFound",
            json!({ "interface": "com.example" }),
        ),
        (
            json!({ "method": "org.shim6.Events" }),
            "org.varlink.service.ExpectedMore",
            json!({}),
        ),
        (
            json!({ "method": "org.shim6.Status", "parameters": { "verbose": true } }),
            "org.varlink.service.InvalidParameter",
            json!({ "parameter": "verbose" }),
        ),
        (
            json!({ "method": "org.varlink.service.GetInterfaceDescription" }),
            "org.varlink.service.InvalidParameter",
            json!({ "parameter": "interface" }),
        ),
    ];
    let mut stream = fixture.connect().await;
    for (request, error, parameters) in cases {
        let answer = exchange(&mut stream, request.to_string().as_bytes()).await;
        assert_eq!(
            answer,
            json!({ "error": error, "parameters": parameters }),
            "to {request}"
        );
    }
}

#[tokio::test]
async fn a_one_way_call_has_no_reply() {
    let fixture = Fixture::start();
    let mut stream = fixture.connect().await;
    let silent = json!({ "method": "org.shim6.Status", "oneway": true }).to_string() + "\0";
    stream
        .write_all(silent.as_bytes())
        .await
        .expect("a request sent");
    let answer = exchange(&mut stream, br#"{"method":"org.shim6.Reboot"}"#).await;
    assert_eq!(answer["error"], "org.varlink.service.MethodNotFound");
}

#[tokio::test]
async fn malformed_requests_are_told_and_cut_off() {
    let fixture = Fixture::start();
    let deep = "[".repeat(10_000);
    for request in [
        "",
        "{",
        "nonsense",
        "[]",
        r#"{"method":3}"#,
        r#"{"parameters":{}}"#,
        "\u{feff}{}",
        &deep,
    ] {
        let mut stream = fixture.connect().await;
        let answer = exchange(&mut stream, request.as_bytes()).await;
        assert_eq!(
            answer["error"], "org.shim6.MalformedRequest",
            "to {request:.20}"
        );
        assert_closed(&mut stream).await;
    }
    let mut stream = fixture.connect().await;
    stream
        .write_all(b"{\"method\":")
        .await
        .expect("half a request");
    stream.shutdown().await.expect("the end of it");
    assert_eq!(
        reply(&mut stream).await["error"],
        "org.shim6.MalformedRequest"
    );
}

#[tokio::test]
async fn a_request_may_be_64_kib_and_no_more() {
    let fixture = Fixture::start();
    let padded = |length: usize| {
        let request = r#"{"method":"org.shim6.Status"}"#;
        request.to_owned() + &" ".repeat(length - request.len())
    };
    let mut stream = fixture.connect().await;
    let answer = exchange(&mut stream, padded(MAX_REQUEST).as_bytes()).await;
    assert_eq!(answer["parameters"]["tun"], "shim0");
    let answer = exchange(&mut stream, padded(MAX_REQUEST + 1).as_bytes()).await;
    assert_eq!(
        answer,
        json!({ "error": "org.shim6.RequestTooLarge", "parameters": { "limit": MAX_REQUEST } })
    );
    assert_closed(&mut stream).await;
}

#[tokio::test]
async fn further_connections_are_turned_away_until_one_is_free() {
    let fixture = Fixture::start();
    let mut open = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut client = Client::connect(&fixture.path()).await.expect("a client");
        client.status().await.expect("a status");
        open.push(client);
    }
    let mut surplus = fixture.connect().await;
    let expected = json!({ "error": "org.shim6.TooManyConnections", "parameters": { "limit": MAX_CONNECTIONS } });
    assert_eq!(reply(&mut surplus).await, expected);
    assert_closed(&mut surplus).await;
    let mut refused = Client::connect(&fixture.path()).await.expect("a client");
    let message = refused
        .status()
        .await
        .expect_err("one too many")
        .to_string();
    assert!(
        message.contains("org.shim6.TooManyConnections"),
        "{message}"
    );
    open.pop();
    timeout(LONG, async {
        loop {
            let mut client = Client::connect(&fixture.path()).await.expect("a client");
            if client.status().await.is_ok() {
                return;
            }
        }
    })
    .await
    .expect("room again");
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let fixture = Fixture::with_patience(Patience {
        request: Duration::from_millis(20),
        ..Patience::default()
    });
    let mut stream = fixture.connect().await;
    stream
        .write_all(b"{")
        .await
        .expect("the start of a request");
    assert_closed(&mut stream).await;
}

#[tokio::test]
async fn a_daemon_that_hangs_is_reported() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sock");
    let patience = Patience {
        answer: Duration::from_millis(20),
        ..Patience::default()
    };
    let server = Server::bind(&path)
        .expect("a socket")
        .with_patience(patience);
    let (requests, _never_read) = mpsc::channel(1);
    let (events, _) = broadcast::channel(1);
    tokio::spawn(server.serve(requests, events));
    let mut client = Client::connect(&path).await.expect("a client");
    // The first fills the queue, the second waits for room in it.
    for _ in 0..2 {
        let message = client.status().await.expect_err("no answer").to_string();
        assert!(message.contains("org.shim6.Unavailable"), "{message}");
    }
}

#[tokio::test]
async fn a_second_daemon_is_refused_while_the_first_lives() {
    let fixture = Fixture::start();
    let path = fixture.path();
    let message = Server::bind(&path)
        .expect_err("the socket is taken")
        .to_string();
    assert_eq!(
        message,
        format!(
            "a daemon (pid {}) already runs at {}; stop it first, or set another control_socket",
            std::process::id(),
            path.display()
        )
    );
    Client::connect(&path)
        .await
        .expect("a client")
        .status()
        .await
        .expect("the first still answers");
}

#[test]
fn two_daemons_that_start_at_once_do_not_remove_each_others_socket() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sock");
    for _ in 0..20 {
        let bound: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| Server::bind(&path)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        assert_eq!(
            bound.iter().filter(|server| server.is_ok()).count(),
            1,
            "{bound:?}"
        );
        assert!(path.exists());
    }
}

#[test]
fn the_socket_is_for_its_user_and_group() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("made/for/it/sock");
    let server = Server::bind(&path).expect("a socket in a new directory");
    let mode = |path: &Path| {
        std::fs::metadata(path)
            .expect("it exists")
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode(&path), 0o660);
    drop(server);
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn a_stale_socket_is_replaced_and_other_files_are_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sock");
    drop(StdListener::bind(&path).expect("a socket whose owner goes away"));
    assert!(path.exists());
    let server = Server::bind(&path).expect("the stale socket is replaced");
    StdStream::connect(&path).expect("somebody listens again");
    drop(server);
    std::fs::write(&path, "precious").expect("a file");
    let message = Server::bind(&path)
        .expect_err("a file is in the way")
        .to_string();
    let shown = path.display();
    assert_eq!(
        message,
        format!("{shown} exists and is not a socket; remove it, or set another control_socket")
    );
    assert_eq!(
        std::fs::read_to_string(&path).expect("the file"),
        "precious"
    );
}

#[test]
fn a_socket_that_took_our_place_is_not_removed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sock");
    let server = Server::bind(&path).expect("a socket");
    std::fs::remove_file(&path).expect("removed under it");
    let _other = StdListener::bind(&path).expect("another socket");
    drop(server);
    assert!(path.exists(), "it removed the socket of somebody else");
}

#[tokio::test]
async fn without_a_daemon_the_client_says_how_to_start_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sock");
    let expected = format!(
        "no daemon runs at {}; start one with: shim6 run",
        path.display()
    );
    let absent = Client::connect(&path).await.expect_err("nothing there");
    assert_eq!(absent.to_string(), expected);
    drop(StdListener::bind(&path).expect("a stale socket"));
    let stale = Client::connect(&path).await.expect_err("nobody listens");
    assert_eq!(stale.to_string(), expected);
}

#[test]
fn permission_denied_names_the_owner_of_what_is_in_the_way() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let error = ControlError::io("connect to", &directory.path().join("not-there"), denied);
    let ControlError::Denied { path, user, group } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(path, directory.path());
    let uid = nix::unistd::Uid::effective();
    let name = nix::unistd::User::from_uid(uid)
        .ok()
        .flatten()
        .map_or(uid.to_string(), |user| user.name);
    assert_eq!(user, &name);
    assert!(
        error
            .to_string()
            .starts_with(&format!("permission denied at {}, ", path.display()))
    );
    assert!(error.to_string().contains(&format!(
        "belongs to user {user} and group {group}; run this as "
    )));
}

#[tokio::test]
async fn what_does_not_speak_the_protocol_is_named() {
    for (answer, expected) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\0"[..],
            "is not a shim6 daemon of this version",
        ),
        (
            b"{\"parameters\":{}}\0",
            "is not a shim6 daemon of this version",
        ),
        (b"", "closed the connection"),
        (b"{\"parameters\":", "closed the connection"),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("sock");
        let listener = StdListener::bind(&path).expect("a socket");
        let stranger = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut octet = [1];
            while octet != [0] {
                stream.read_exact(&mut octet).expect("a request");
            }
            stream.write_all(answer).expect("an answer");
        });
        let mut client = Client::connect(&path).await.expect("a client");
        let message = client.status().await.expect_err("no status").to_string();
        assert!(message.contains(expected), "{message}");
        stranger.join().expect("the stranger ends");
    }
}
