//! What a program asks for its own session: paths that it prefers, no context at all, advice, news, and a path of its own for one of
//! two connections.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv6Addr, SocketAddr};
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use shim6_tests::{binary, isolated};
use shim6_tun::config::SteeringConfig;
use shim6_tun::daemon::steering::fork_table;
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::{Locators, Stage};
use shim6_tun::lab::{Capture, Direction, Failure, Host, Topology};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{interval, timeout};

use crate::plans::assert_clean;
use crate::restart::{LIMIT, Requests, until};
use crate::set_up::{established, running, stopped};

/// Longer than it takes until a path is taken for stable on a busy machine.
const WAY_BACK: Duration = Duration::from_secs(60);
/// Nothing is on its way any more after so long without a frame.
const SILENCE: Duration = Duration::from_millis(200);
/// A host whose processors are taken must not take that for a failure.
const PATIENT: &str = "[reap]\nprofile = \"rfc\"\n";

/// A host with a daemon that programs ask.
#[derive(Clone, Copy)]
enum On {
    A,
    B,
}

async fn shim6(stage: &Stage, on: On, arguments: &[&str]) -> Output {
    let daemon = match on {
        On::A => stage.daemon_a(),
        On::B => stage.daemon_b(),
    };
    let mut command = tokio::process::Command::new(binary::shim6());
    command.arg("session").args(arguments).arg("--socket");
    let output = command.arg(daemon.expect("it runs").socket()).output();
    output.await.expect("shim6 runs")
}

/// What a command prints as JSON.
async fn json(stage: &Stage, on: On, arguments: &[&str]) -> Value {
    let output = shim6(stage, on, &[arguments, &["--json"]].concat()).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}\n{}", stage.logs());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
}

/// What it says on standard error when it fails with this code.
async fn refusal(stage: &Stage, on: On, arguments: &[&str], code: i32) -> String {
    let output = shim6(stage, on, arguments).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

fn address(value: &Value) -> Ipv6Addr {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{value}: {error}"))
}

/// Whether an address is on a host's second uplink.
fn is_second(address: Ipv6Addr) -> bool {
    [0xa2, 0xb2].contains(&address.segments()[2])
}

/// Events of a session of host a, from now on.
struct News(Child);

impl News {
    fn of(stage: &Stage, arguments: &[&str]) -> Self {
        let mut command = std::process::Command::new(binary::shim6());
        command
            .args(["session", "events", "--json"])
            .args(arguments)
            .arg("--socket");
        command
            .arg(stage.daemon_a().expect("it runs").socket())
            .stdout(Stdio::piped());
        Self(command.spawn().expect("events"))
    }

    /// Waits until there is one of this kind, in a thread of its own. Those behind it are lost.
    async fn wait_for(&mut self, kind: &'static str) -> Value {
        let lines = BufReader::new(self.0.stdout.take().expect("a pipe")).lines();
        let parse = |line: std::io::Result<String>| serde_json::from_str::<Value>(&line.expect("text")).expect("JSON");
        let found = move || lines.map(parse).find(|event| event["kind"] == kind);
        let found = timeout(LIMIT, tokio::task::spawn_blocking(found)).await;
        let found = found.unwrap_or_else(|_| panic!("no event of the kind {kind} in time"));
        found.expect("it is read").expect("such an event")
    }
}

impl Drop for News {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection from host a to host b, which says back what it hears.
struct Connection {
    stream: TcpStream,
    /// As `--flow` has it, on host a and on host b.
    flow: [String; 2],
    /// What its packets can be told by.
    mark: &'static [u8],
}

impl Connection {
    async fn open(stage: &Stage, [local, peer]: Locators, mark: &'static [u8]) -> Self {
        let socket = |host: &Host, address: Ipv6Addr| {
            let bind = || {
                let socket = TcpSocket::new_v6().expect("a socket");
                socket.bind(SocketAddr::from((address, 0))).expect("an address");
                socket
            };
            host.namespace.run(bind).expect("a namespace")
        };
        let listener = socket(&stage.topology().b, peer).listen(1).expect("a listener");
        let server = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let (mut read, mut write) = stream.split();
            // It ends with the client.
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let connecting = socket(&stage.topology().a, local).connect(server);
        let stream = timeout(LIMIT, connecting)
            .await
            .expect("in time")
            .expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let port = stream.local_addr().expect("an address").port();
        let flow = [
            format!("tcp:{port}:{}", server.port()),
            format!("tcp:{}:{port}", server.port()),
        ];
        Self { stream, flow, mark }
    }

    /// So many packets each way, one after the other.
    async fn talk(&mut self, packets: usize) {
        for _ in 0..packets {
            self.stream.write_all(self.mark).await.expect("it is taken");
            let mut heard = vec![0; self.mark.len()];
            let answer = timeout(LIMIT, self.stream.read_exact(&mut heard)).await;
            answer.expect("an answer in time").expect("an answer");
            assert_eq!(heard, self.mark);
        }
    }
}

/// How many frames of a link bear a mark, those from host a first.
fn marked(capture: &Capture, marks: [&[u8]; 2]) -> [[usize; 2]; 2] {
    let mut counts = [[0; 2]; 2];
    while let Some(frame) = capture.next_within(SILENCE).expect("the link is there") {
        for (counts, mark) in counts.iter_mut().zip(marks) {
            if frame.frame.windows(mark.len()).any(|octets| octets == mark) {
                counts[usize::from(frame.direction == Direction::Down)] += 1;
            }
        }
    }
    counts
}

/// The rules of a host for single flows, and the routes of their table.
async fn fork_rules(host: &Host) -> (usize, usize) {
    let netlink = host.namespace.netlink().expect("a connection");
    let rules = netlink.rules().await.expect("rules");
    let routes = netlink
        .routes(fork_table(SteeringConfig::default().table))
        .await
        .expect("routes");
    (rules.iter().filter(|rule| rule.flow.is_some()).count(), routes.len())
}

async fn patient() -> (Stage, Locators) {
    let topology = Topology::emulated().await.expect("a lab");
    let mut stage = Stage::on(topology, binary::shim6(), Arc::new(Live::default())).expect("a stage");
    stage.configure(PATIENT);
    stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
    let ulids = stage.ulids().await.expect("addresses");
    (stage, ulids)
}

#[test]
fn one_of_two_connections_takes_the_other_path_both_ways_while_it_is_forked() {
    let name = "sessions::one_of_two_connections_takes_the_other_path_both_ways_while_it_is_forked";
    isolated(name, || async {
        let (stage, ulids) = patient().await;
        let [local, peer] = &ulids.map(|ulid| ulid.to_string());
        let shown = json(&stage, On::A, &["show", local, peer]).await;
        assert_eq!(
            (&shown["protected"], &shown["context"]),
            (&false.into(), &Value::Null),
            "{shown}"
        );
        let protected = json(&stage, On::A, &["protect", local, peer, "now"]).await;
        assert_eq!(protected["protected"], true, "{protected}");
        let mut plain = Connection::open(&stage, ulids, b"a plain connection").await;
        let mut forked = Connection::open(&stage, ulids, b"a forked connection").await;
        let marks = [plain.mark, forked.mark];
        let topology = stage.topology();
        let links = [0, 1].map(|uplink| topology.link(&topology.a, uplink).expect("a link").capture());
        plain.talk(10).await;
        forked.talk(10).await;
        let [first, second] = [&links[0], &links[1]].map(|link| marked(link, marks));
        assert_eq!((first, second), ([[10, 10], [10, 10]], [[0, 0], [0, 0]]), "before");

        let [flow, flow_b] = forked.flow.clone();
        let mut news = News::of(&stage, &[local, peer, "--flow", &flow]);
        let uplink = &topology.a.uplinks[1].interface;
        // The reader of news is ready when it has told of something.
        until("the flow is forked", &stage, async || {
            shim6(&stage, On::A, &["fork", local, peer, "--flow", &flow])
                .await
                .status
                .success()
        })
        .await;
        let moved = json(
            &stage,
            On::A,
            &["fork", local, peer, "--flow", &flow, "--uplink", uplink],
        )
        .await;
        assert_ne!(moved["context"]["forked_instance"], 0, "{moved}");
        assert!(is_second(address(&moved["sends_on"]["local"])), "{moved}");
        assert_eq!(moved["forks"].as_array().map(Vec::len), Some(1), "{moved}");
        // Host b answers in the fork, and on the path that it hears it on.
        let mut tick = interval(Duration::from_millis(50));
        timeout(LIMIT, async {
            loop {
                tick.tick().await;
                forked.talk(2).await;
                let shown = json(&stage, On::B, &["show", peer, local, "--flow", &flow_b]).await;
                if shown["forks"][0]["learned"] == true && is_second(address(&shown["sends_on"]["local"])) {
                    assert!(is_second(address(&shown["arrives_on"]["peer"])), "{shown}");
                    break;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("host b does not follow\n{}", stage.logs()));
        assert_eq!(fork_rules(&topology.a).await, (1, 1));
        assert_eq!(fork_rules(&topology.b).await, (1, 1));

        for link in &links {
            let _ = marked(link, marks);
        }
        plain.talk(10).await;
        forked.talk(10).await;
        let [first, second] = [&links[0], &links[1]].map(|link| marked(link, marks));
        assert_eq!(
            (first, second),
            ([[10, 10], [0, 0]], [[0, 0], [10, 10]]),
            "while forked"
        );

        // The other connection's packets have nothing to do with the fork's path.
        let whole = json(&stage, On::A, &["show", local, peer, "--flow", &plain.flow[0]]).await;
        assert_eq!(whole["sends_on"]["local"].as_str(), Some(local.as_str()), "{whole}");
        let said = refusal(&stage, On::B, &["join", peer, local, "--flow", &flow_b], 1).await;
        assert!(said.contains("no program of this host has forked that flow"), "{said}");
        let joined = json(&stage, On::A, &["join", local, peer, "--flow", &flow]).await;
        assert_eq!(joined["forks"].as_array().map(Vec::len), Some(0), "{joined}");
        let event = news.wait_for("joined").await;
        assert_eq!(
            event["detail"]["ulids"]["local"].as_str(),
            Some(local.as_str()),
            "{event}"
        );
        assert_eq!(fork_rules(&topology.a).await, (0, 0));
        forked.talk(10).await;
        let first = marked(&links[0], marks);
        assert_eq!(first[1][0], 10, "host a sends as before: {first:?}");
        drop(news);
        stopped(stage).await;
    });
}

#[test]
fn rules_for_forks_that_a_killed_daemon_left_are_gone_after_the_next() {
    let name = "sessions::rules_for_forks_that_a_killed_daemon_left_are_gone_after_the_next";
    isolated(name, || async {
        let (mut stage, ulids) = patient().await;
        let [local, peer] = &ulids.map(|ulid| ulid.to_string());
        json(&stage, On::A, &["protect", local, peer, "now"]).await;
        let connection = Connection::open(&stage, ulids, b"a connection").await;
        // Each flow has a context of its own, and asking twice makes no other.
        for flow in [&connection.flow[0], &connection.flow[0], "udp:4000:4001"] {
            json(&stage, On::A, &["fork", local, peer, "--flow", flow]).await;
        }
        assert_eq!(fork_rules(&stage.topology().a).await, (2, 1));
        stage.crash().await.expect("it can be killed");
        // The device went with its process, and its routes with it. The rules stay.
        assert_eq!(fork_rules(&stage.topology().a).await, (2, 0));
        stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(fork_rules(&stage.topology().a).await, (0, 0));
        assert_clean(&stage.stop().await.unwrap_or_else(|error| panic!("{error:#}")));
    });
}

#[test]
fn a_session_that_is_never_to_be_protected_gets_no_context_from_either_host() {
    let name = "sessions::a_session_that_is_never_to_be_protected_gets_no_context_from_either_host";
    isolated(name, || async {
        let (stage, ulids) = running(PATIENT).await;
        let [local, peer] = &ulids.map(|ulid| ulid.to_string());
        json(&stage, On::A, &["protect", local, peer, "now"]).await;
        let never = json(&stage, On::A, &["protect", local, peer, "never"]).await;
        assert_eq!(
            (&never["protection"], &never["context"]),
            (&"never".into(), &Value::Null),
            "{never}"
        );
        let said = refusal(&stage, On::A, &["protect", local, peer, "now"], 1).await;
        assert!(said.contains("by-policy"), "{said}");
        // Enough traffic for a context.
        let mut connection = Connection::open(&stage, ulids, b"a connection").await;
        connection.talk(30).await;
        let contexts = stage.context_a(ulids).await.expect("a status");
        assert_eq!(contexts, None);

        json(&stage, On::A, &["protect", local, peer, "by-policy"]).await;
        let protected = json(&stage, On::A, &["protect", local, peer, "now"]).await;
        assert_eq!(protected["protected"], true, "{protected}");
        stopped(stage).await;
    });
}

#[test]
fn a_session_goes_to_the_path_that_it_prefers_and_back_to_it_after_a_failure() {
    let name = "sessions::a_session_goes_to_the_path_that_it_prefers_and_back_to_it_after_a_failure";
    isolated(name, || async {
        let (stage, ulids) = running("").await;
        let [local, peer] = &ulids.map(|ulid| ulid.to_string());
        let requests = Requests::start(&stage, ulids);
        established(&stage, ulids).await;
        let topology = stage.topology();
        let uplink = &topology.a.uplinks[1].interface;
        let shown = json(&stage, On::A, &["prefer", local, peer, "--uplink", uplink]).await;
        let preferred = shown["prefers"].clone();
        assert!(is_second(address(&preferred["local"])), "{shown}");
        let sends_there = async || json(&stage, On::A, &["show", local, peer]).await["sends_on"] == preferred;
        let way = |what: &'static str, there: bool| {
            let (stage, requests) = (&stage, &requests);
            async move {
                let wait = async {
                    while sends_there().await != there {
                        requests.go_on(stage).await;
                    }
                };
                timeout(WAY_BACK, wait)
                    .await
                    .unwrap_or_else(|_| panic!("not so: {what}\n{}", stage.logs()));
            }
        };
        way("it goes there", true).await;
        topology.cut(Failure::Blackhole, &topology.a, 1).await.expect("a cut");
        way("it leaves", false).await;
        topology.heal(&topology.a, 1).await.expect("a whole path");
        way("it is back", true).await;
        let own = json(&stage, On::A, &["prefer", local, peer, "--own"]).await;
        assert_eq!(own["prefers"], Value::Null, "{own}");
        drop(requests);
        stopped(stage).await;
    });
}

#[test]
fn advice_is_heeded_as_long_as_it_is_not_too_much_and_news_say_what_it_did() {
    let name = "sessions::advice_is_heeded_as_long_as_it_is_not_too_much_and_news_say_what_it_did";
    isolated(name, || async {
        let (stage, ulids) = running(PATIENT).await;
        let [local, peer] = &ulids.map(|ulid| ulid.to_string());
        let said = refusal(&stage, On::A, &["advise", local, peer, "negative"], 1).await;
        assert!(said.contains("to ask for one: shim6 session protect"), "{said}");
        let requests = Requests::start(&stage, ulids);
        established(&stage, ulids).await;
        requests.go_on(&stage).await;
        let good = json(&stage, On::A, &["advise", local, peer, "positive"]).await;
        assert_eq!(good["reap"], "operational", "{good}");
        let mut news = News::of(&stage, &[local, peer]);
        // The reader of news may be late; bad news is heeded once in a Send Timeout.
        let bad = json(&stage, On::A, &["advise", local, peer, "negative"]).await;
        assert_eq!(bad["reap"], "exploring", "{bad}");
        let said = refusal(&stage, On::A, &["advise", local, peer, "negative"], 1).await;
        assert!(
            said.contains("too much advice for this context; the next is heeded in "),
            "{said}"
        );
        until("both directions work", &stage, async || {
            json(&stage, On::A, &["show", local, peer]).await["context"]["reap"] == "operational"
        })
        .await;
        let uplink = &stage.topology().a.uplinks[1].interface;
        let pinned = json(&stage, On::A, &["pin", local, peer, "--uplink", uplink]).await;
        let event = news.wait_for("move").await;
        assert_eq!(
            (&event["detail"]["to"], &event["detail"]["from"]),
            (&pinned["to"], &pinned["from"]),
            "{event}"
        );
        assert_eq!(
            event["detail"]["ulids"]["peer"].as_str(),
            Some(peer.as_str()),
            "{event}"
        );
        assert!(event["at_ms"].as_u64().is_some_and(|at| at > 0), "{event}");
        requests.go_on(&stage).await;
        drop((news, requests));
        stopped(stage).await;
    });
}

#[test]
fn what_no_session_can_have_is_refused_with_the_remedy() {
    let name = "sessions::what_no_session_can_have_is_refused_with_the_remedy";
    isolated(name, || async {
        let (stage, ulids) = running(&format!("{PATIENT}[limits]\ncontexts_per_peer = 64\n")).await;
        let [local, peer] = &ulids.map(|ulid| ulid.to_string());
        for wrong in [
            &["show", local][..],
            &["show", "here", peer],
            &["protect", local, peer, "sometimes"],
            &["fork", local, peer, "--flow", "icmp:1:2"],
            &["fork", local, peer, "--flow", "tcp:0:2"],
            &["advise", local, peer],
            &["pin", local, peer, "--path", local],
            &["pin", local, peer],
            &["prefer", local, peer],
        ] {
            refusal(&stage, On::A, wrong, 2).await;
        }
        let said = refusal(&stage, On::A, &["show", "2001:db8:bad::1", peer], 1).await;
        assert!(
            said.contains("none of this host's addresses") && said.contains(local.as_str()),
            "{said}"
        );
        let said = refusal(&stage, On::A, &["fork", local, peer], 1).await;
        assert!(said.contains("such as --flow tcp:50000:443"), "{said}");
        let said = refusal(&stage, On::A, &["protect", local, local, "now"], 1).await;
        assert!(said.contains("name that of the other host"), "{said}");
        for call in ["join", "fork"] {
            let strange = ["2001:db8:bad::1", peer.as_str(), "--flow", "tcp:1:2"];
            refusal(&stage, On::A, &[&[call], &strange[..]].concat(), 1).await;
        }
        json(&stage, On::A, &["protect", local, peer, "now"]).await;
        let said = refusal(
            &stage,
            On::A,
            &["pin", local, peer, "--path", local, "2001:db8:bad::1"],
            1,
        )
        .await;
        assert!(said.contains("no pair of locators"), "{said}");
        let said = refusal(
            &stage,
            On::A,
            &["prefer", local, peer, "--path", "2001:db8:bad::1", peer],
            1,
        )
        .await;
        assert!(said.contains("no pair of locators"), "{said}");
        // No more flows than there may be rules.
        let mut refused = None;
        for port in 1..=33 {
            let flow = format!("udp:{port}:9");
            let output = shim6(&stage, On::A, &["fork", local, peer, "--flow", &flow]).await;
            if !output.status.success() {
                refused = Some((port, String::from_utf8_lossy(&output.stderr).into_owned()));
                break;
            }
        }
        let (port, said) = refused.expect("a bound");
        assert!(
            port == 33 && said.contains("32 flows are forked already"),
            "{port}: {said}"
        );
        stopped(stage).await;
    });
}
