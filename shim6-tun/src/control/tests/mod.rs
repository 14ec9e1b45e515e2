mod calls;
mod sessions;
mod socket;
mod streams;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::server::Patience;
use super::*;
use crate::status::{
    AdviceStatus, ContextStatus, Counters, Event, FailoverStatus, FailureStatus, ForkStatus, LocatorStatus,
    SessionName, SessionStatus, UplinkStatus, Volume,
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
            let mut tested = false;
            while let Some(request) = asked.recv().await {
                answer(request, &mut tested);
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
        UnixStream::connect(self.path()).await.expect("a connection")
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
    let read = timeout(LONG, stream.read(&mut [0; 64])).await.expect("the end in time");
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
        observation: "tap".to_owned(),
        tun: "shim0".to_owned(),
        problems: vec!["something is in the way".to_owned()],
        uplinks: vec![UplinkStatus {
            interface: "eth0".to_owned(),
            prefix: "2001:db8::/64".to_owned(),
            gateway: None,
            address: address(1),
            ulid: true,
            up: true,
        }],
        contexts: vec![ContextStatus {
            id: 7,
            ulids: pair,
            forked_instance: 0,
            state: "established".to_owned(),
            reap: "operational".to_owned(),
            locators: moved,
            preferred: pair,
            steered: true,
            rtt_us: Some(20_000),
            send_timeout_ms: 120,
            peer_locators: vec![address(2), address(4)],
            age_ms: 5,
            sent: Volume { packets: 1, octets: 2 },
            received: Volume { packets: 3, octets: 4 },
            failovers: 1,
            last_failover: Some(FailoverStatus {
                cause: "timeout".to_owned(),
                from: pair,
                to: moved,
                ago_ms: 3,
                took_ms: Some(171),
            }),
            pinned: true,
        }],
        failures: vec![FailureStatus {
            peer: "2001:db8:c1::1".parse().unwrap(),
            state: "no-support".to_owned(),
            ends_in_ms: 5000,
        }],
        counters: Counters {
            received: BTreeMap::from([("i1".to_owned(), 1)]),
            discards: BTreeMap::from([("bad-checksum".to_owned(), 0)]),
            ..Counters::default()
        },
        recent: vec![event(1)],
    }
}

/// What a daemon does that has the one context of [`sample`]. The first probe comes too soon; so does a move, by far. The first
/// reload is taken.
fn answer(request: Request, tested: &mut bool) {
    let context = sample().contexts.remove(0);
    let known = |number| match number {
        7 => Ok(()),
        context => Err(Objection::NoSuchContext { context }),
    };
    match request {
        Request::Status(answer) => drop(answer.send(sample())),
        Request::Contexts(peer, answer) => {
            let is_meant = peer.is_none_or(|peer| context.peer_locators.contains(&peer));
            drop(answer.send(is_meant.then_some(context).into_iter().collect()));
        }
        Request::Context(number, answer) => {
            let detail = known(number).map(|()| ContextDetail {
                context,
                paths: vec![path()],
            });
            drop(answer.send(detail));
        }
        Request::Paths(number, answer) => drop(answer.send(number.map_or(Ok(()), known).map(|()| vec![path()]))),
        Request::Probe(number, pair, answer) => {
            let probed = known(number).map(|()| probe(pair.unwrap_or(context.locators)));
            let is_early = !std::mem::replace(tested, true);
            drop(answer.send(if is_early { Err(too_soon(20)) } else { probed }));
        }
        Request::Move(_, Some(_), answer) => drop(answer.send(Err(too_soon(3_600_000)))),
        Request::Move(number, None, answer) => drop(answer.send(known(number).map(|()| moved(context.locators)))),
        Request::Close(number, answer) => drop(answer.send(known(number))),
        // Refused the second time.
        Request::Reload(answer) => {
            let is_first = !std::mem::replace(tested, true);
            drop(answer.send(if is_first { Ok(reloaded()) } else { Err(refusal()) }));
        }
        Request::Session(SessionRequest { session, user, wish }) => answer_session(session, user, wish),
        Request::Figures(answer) => drop(answer),
    }
}

/// Knows the sessions between the addresses of the sample alone.
fn answer_session(session: SessionName, user: Option<u32>, wish: SessionWish) {
    assert_eq!(user, Some(nix::unistd::getuid().as_raw()));
    let status = || match session.pair() == sample().contexts[0].ulids {
        true => Ok(session_status(session)),
        false => Err(Objection::SessionRefused {
            message: "no such session".to_owned(),
            retry_ms: None,
        }),
    };
    match wish {
        SessionWish::Show(answer)
        | SessionWish::Protect(_, answer)
        | SessionWish::Prefer(_, answer)
        | SessionWish::Fork(answer)
        | SessionWish::Join(answer) => drop(answer.send(status())),
        SessionWish::Pin(pair, answer) => {
            let to = pair.unwrap_or(session.pair());
            drop(answer.send(status().map(|_| moved(to))));
        }
        SessionWish::Advise(advice, answer) => {
            let reap = match advice {
                Advice::Positive => "operational",
                Advice::Negative => "exploring",
            };
            let advised = AdviceStatus {
                context: 7,
                reap: reap.to_owned(),
            };
            drop(answer.send(status().map(|_| advised)));
        }
    }
}

fn session(flow: Option<&str>) -> SessionName {
    let PairStatus { local, peer } = sample().contexts[0].ulids;
    SessionName {
        local,
        peer,
        flow: flow.map(|flow| flow.parse().expect("a flow")),
    }
}

fn session_status(session: SessionName) -> SessionStatus {
    let context = sample().contexts.remove(0);
    SessionStatus {
        session,
        protected: true,
        protection: "by-policy".to_owned(),
        local_locators: vec![LocatorStatus {
            address: session.local,
            uplink: None,
            usable: true,
        }],
        peer_locators: context.peer_locators.clone(),
        paths: vec![path()],
        sends_on: context.locators,
        arrives_on: Some(context.locators),
        prefers: Some(context.ulids),
        forks: vec![ForkStatus {
            flow: "tcp:5:6".parse().expect("a flow"),
            context: 7,
            learned: false,
        }],
        context: Some(context),
    }
}

fn reloaded() -> Reloaded {
    Reloaded {
        files: vec!["/etc/shim6/shim6.toml".to_owned()],
        changed: vec![Changed {
            key: "tun.mtu".to_owned(),
            from: None,
            to: Some("1400".to_owned()),
        }],
        warnings: vec!["something is doubtful".to_owned()],
    }
}

fn refusal() -> Refusal {
    Refusal {
        problems: vec!["one thing".to_owned(), "another".to_owned()],
    }
}

fn too_soon(retry_ms: u64) -> Objection {
    Objection::PathRefused {
        context: 7,
        message: "too soon".to_owned(),
        retry_ms: Some(retry_ms),
    }
}

fn path() -> PathStatus {
    PathStatus {
        pair: sample().contexts[0].locators,
        uplink: Some("eth0".to_owned()),
        state: "working".to_owned(),
        used_by: vec![7],
        users: 1,
        rtt_us: Some(20_000),
        probes_sent: 9,
        probes_answered: 8,
        loss_permille: Some(111),
        answered_ago_ms: Some(1),
        failed_ago_ms: None,
        heard_ago_ms: Some(2),
    }
}

fn probe(pair: PairStatus) -> ProbeStatus {
    ProbeStatus {
        context: 7,
        pair,
        answered: true,
        rtt_us: Some(20_000),
        waited_ms: 20,
    }
}

fn moved(to: PairStatus) -> MoveStatus {
    MoveStatus {
        context: 7,
        from: to,
        to,
        pinned: false,
        probed: false,
    }
}
