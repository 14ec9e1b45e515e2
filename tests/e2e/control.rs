//! What an operator asks of a running daemon: the commands, the figures, and who may not.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use shim6_tests::{binary, isolated};
use shim6_tun::control::Server;
use shim6_tun::demo::stage::{Locators, Stage};
use shim6_tun::lab::{Failure, skip};

use crate::reload::{drop_in, reloaded};
use crate::restart::{Requests, until};
use crate::set_up::{protected, stopped};

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Two hosts with a context between them that has traffic.
struct Lab {
    stage: Stage,
    ulids: Locators,
    requests: Requests,
}

impl Lab {
    async fn start(tables: &str) -> Self {
        let (stage, ulids, requests) = protected(tables).await;
        requests.go_on(&stage).await;
        Self { stage, ulids, requests }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary::shim6());
        command
            .args(arguments)
            .arg("--socket")
            .arg(self.stage.daemon_a().expect("it runs").socket());
        command
    }

    /// Runs a command against the daemon of host a. The runtime's other tasks go on meanwhile.
    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::from(self.command(arguments));
        command.output().await.expect("shim6 runs")
    }

    /// What it prints as JSON.
    async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat()).await;
        assert!(
            output.status.success(),
            "{arguments:?}: {output:?}\n{}",
            self.stage.logs()
        );
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
    }

    /// What it says on standard error when it fails with this code.
    async fn refusal(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    /// The number of the only context.
    async fn context(&self) -> String {
        let contexts = self.json(&["contexts"]).await;
        assert_eq!(contexts.as_array().map(Vec::len), Some(1), "{contexts}");
        contexts[0]["id"].to_string()
    }

    /// What a scrape of host a gives.
    fn scrape(&self, request: &str) -> String {
        let exchange = || {
            let mut stream = std::net::TcpStream::connect("[::1]:9573").expect("metrics are served");
            stream.set_read_timeout(Some(LIMIT)).expect("a limit");
            stream.write_all(request.as_bytes()).expect("a request");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            answer
        };
        self.stage.topology().a.namespace.run(exchange).expect("a namespace")
    }

    async fn stop(self) {
        drop(self.requests);
        stopped(self.stage).await;
    }
}

/// The value of the only sample that begins so.
fn sample(text: &str, series: &str) -> f64 {
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with(series)).collect();
    assert_eq!(lines.len(), 1, "{series}: {lines:?} in\n{text}");
    let value = lines[0].rsplit(' ').next().expect("a value");
    value.parse().expect("a number")
}

#[test]
fn paths_are_probed_taken_and_given_back_by_hand() {
    isolated("control::paths_are_probed_taken_and_given_back_by_hand", || async {
        let lab = Lab::start("").await;
        let id = lab.context().await;
        let peer = lab.ulids[1].to_string();
        let paths = lab.json(&["paths", &peer]).await;
        assert_eq!(paths.as_array().map(Vec::len), Some(4), "{paths}");
        assert_eq!(
            (&paths[0]["state"], &paths[0]["users"]),
            (&"working".into(), &1.into()),
            "{paths}"
        );

        let probed = lab.run(&["probe", &id, "--all"]).await;
        let said = String::from_utf8_lossy(&probed.stdout);
        assert!(probed.status.success(), "{probed:?}");
        assert_eq!(
            said.lines().filter(|line| line.contains(": answered after ")).count(),
            4,
            "{said}"
        );
        let paths = lab.json(&["paths", &id]).await;
        for path in paths.as_array().expect("paths") {
            assert!(path["rtt_us"].as_u64().is_some_and(|rtt| rtt > 0), "{path}");
            assert_eq!(path["loss_permille"], 0, "{path}");
        }

        let other = paths
            .as_array()
            .expect("paths")
            .iter()
            .find(|path| path["uplink"] != paths[0]["uplink"]);
        let uplink = other.expect("another uplink")["uplink"]
            .as_str()
            .expect("its name")
            .to_owned();
        let moved = lab.json(&["move", &peer, "--uplink", &uplink]).await;
        assert_eq!(moved["pinned"], true, "{moved}");
        lab.requests.go_on(&lab.stage).await;
        let detail = lab.json(&["contexts", "show", &id]).await;
        let context = &detail["context"];
        assert_eq!(
            (&context["locators"], &context["pinned"]),
            (&moved["to"], &true.into()),
            "{context}"
        );
        assert_eq!(
            (&context["steered"], &context["preferred"]),
            (&true.into(), &moved["to"]),
            "{context}"
        );
        assert_eq!(context["last_failover"]["cause"], "on request", "{context}");
        let screen = String::from_utf8(lab.run(&["status"]).await.stdout).expect("text");
        assert!(
            screen.contains("health: 1 context is on another path than its own\n"),
            "{screen}"
        );
        assert!(screen.contains("as asked by hand"), "{screen}");
        let events = String::from_utf8(lab.run(&["events"]).await.stdout).expect("text");
        assert!(events.lines().any(|line| line.contains("  move  ")), "{events}");

        let released = lab.json(&["move", &id, "--auto"]).await;
        assert_eq!(released["pinned"], false, "{released}");
        let status = lab.json(&["status"]).await;
        assert_eq!(
            status["contexts"][0]["preferred"], status["contexts"][0]["ulids"],
            "{status}"
        );

        lab.json(&["close", &id]).await;
        until("there is a new context", &lab.stage, async || {
            let context = lab.stage.context_a(lab.ulids).await;
            matches!(context, Ok(Some(context)) if context.id.to_string() != id && context.state == "established")
        })
        .await;
        lab.requests.go_on(&lab.stage).await;
        lab.stop().await;
    });
}

#[test]
fn what_cannot_be_done_is_said_with_the_remedy() {
    isolated("control::what_cannot_be_done_is_said_with_the_remedy", || async {
        let lab = Lab::start("").await;
        let id = lab.context().await;
        let local = lab.ulids[0].to_string();
        let said = lab.refusal(&["close", "4711"], 1).await;
        assert!(
            said.contains("there is no context 4711; to see those that there are: shim6 contexts"),
            "{said}"
        );
        let said = lab.refusal(&["paths", "2001:db8:bad::1"], 1).await;
        assert!(said.contains("there is no context with 2001:db8:bad::1"), "{said}");
        let said = lab.refusal(&["move", &id], 2).await;
        assert!(said.contains("say where to"), "{said}");
        let said = lab.refusal(&["move", &id, "--uplink", "eth9"], 1).await;
        assert!(
            said.contains("no path from the uplink \"eth9\"; those that it has are from: "),
            "{said}"
        );
        let said = lab.refusal(&["move", &id, &local, "2001:db8:bad::1"], 1).await;
        assert!(
            said.contains("no pair of locators of this context that both hosts have verified"),
            "{said}"
        );
        for wrong in [
            &["close", "seven"][..],
            &["probe"],
            &["probe", &id, &local],
            &["move", &id, "a", "b"],
        ] {
            lab.refusal(wrong, 2).await;
        }

        // A path that is silently dead is not taken, and the flow does not notice.
        let paths = lab.json(&["paths", &id]).await;
        let uplink = |path: &Value| path["uplink"].as_str().expect("a name").to_owned();
        let own = uplink(&paths[0]);
        let other = paths
            .as_array()
            .expect("paths")
            .iter()
            .map(uplink)
            .find(|uplink| *uplink != own);
        let other = other.expect("another uplink");
        let failure = Failure::Blackhole;
        lab.json(&["move", &id, "--uplink", &other]).await;
        lab.stage.cut(failure).await.expect("a cut");
        let before = lab.json(&["contexts"]).await[0]["locators"].clone();
        let said = lab.refusal(&["move", &id, "--uplink", &own], 1).await;
        assert!(
            said.contains("stays where it is: no answer to a probe on ") || said.contains("looking"),
            "{said}"
        );
        assert_eq!(lab.json(&["contexts"]).await[0]["locators"], before);
        lab.requests.go_on(&lab.stage).await;

        // Nor does the daemon mind what is no call.
        let socket = lab.stage.daemon_a().expect("it runs").socket();
        for garbage in [
            &b"\0\0\0"[..],
            b"{\"method\":[]}\0",
            b"GET / HTTP/1.1\r\n\r\n\0",
            &[b'x'; 100_000],
        ] {
            let mut stream = UnixStream::connect(socket).expect("a connection");
            // It may hang up in the midst of it.
            let _ = stream.write_all(garbage);
        }
        assert_eq!(
            lab.json(&["status"]).await["contexts"].as_array().map(Vec::len),
            Some(1)
        );
        lab.stop().await;

        let nobody = tempfile::tempdir().expect("a directory").path().join("shim6.sock");
        let output = Command::new(binary::shim6())
            .args(["paths", "--socket"])
            .arg(&nobody)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("start one with: shim6 run") && output.status.code() == Some(1),
            "{said}"
        );
    });
}

#[test]
fn a_failover_is_in_the_events_and_the_figures_with_its_cause_and_how_long_it_took() {
    let name = "control::a_failover_is_in_the_events_and_the_figures_with_its_cause_and_how_long_it_took";
    isolated(name, || async {
        let lab = Lab::start("[metrics]\nlisten = \"[::1]:9573\"\n").await;
        let mut events = lab
            .command(&["events", "--follow", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("events");
        let mut watch = lab
            .command(&["contexts", "--watch", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a watch");
        let mut looks = BufReader::new(watch.stdout.take().expect("a pipe")).lines();
        let mut look = || serde_json::from_str::<Value>(&looks.next().expect("a line").expect("text")).expect("JSON");
        let before = look()[0]["locators"].clone();

        let get = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let text = lab.scrape(get);
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\n# EOF\n"),
            "{text}"
        );
        assert_eq!(sample(&text, "shim6_contexts{state=\"established\"}"), 1.0);
        assert_eq!(sample(&text, "shim6_path_changes_total{cause=\"preferred\"}"), 0.0);
        assert!(sample(&text, "shim6_context_octets_total{direction=\"received\"}") > 1_000.0);
        assert!(
            lab.scrape("POST /metrics HTTP/1.1\r\n\r\n")
                .starts_with("HTTP/1.1 405 ")
        );
        assert!(lab.scrape("\u{16}\u{3}\u{1}\r\n\r\n").starts_with("HTTP/1.1 400 "));

        lab.stage.cut(Failure::Blackhole).await.expect("a cut");
        // The flow goes on, so both ends have moved.
        lab.requests.go_on(&lab.stage).await;
        until(
            "host a has moved",
            &lab.stage,
            async || matches!(lab.stage.context_a(lab.ulids).await, Ok(Some(context)) if context.steered),
        )
        .await;
        let read = BufReader::new(events.stdout.take().expect("a pipe"));
        let parse = |line: std::io::Result<String>| serde_json::from_str::<Value>(&line.expect("text")).expect("JSON");
        let failover = read
            .lines()
            .map(parse)
            .find(|event| event["kind"] == "failover")
            .expect("a failover");
        let took = failover["detail"]["took_ms"].as_u64().expect("it took some time");
        assert!((20..10_000).contains(&took), "{failover}");
        let why = failover["detail"]["why"].as_str().expect("a cause").to_owned();
        assert!(["send-timeout", "peer-report"].contains(&why.as_str()), "{failover}");
        // A line each second, so the next or the one after it was made after the move.
        assert!(
            (0..5).any(|_| look()[0]["locators"] != before),
            "the watch shows the move"
        );

        until("the figures tell of it", &lab.stage, async || {
            let text = lab.scrape(get);
            sample(&text, &format!("shim6_path_changes_total{{cause=\"{why}\"}}")) >= 1.0
        })
        .await;
        let text = lab.scrape(get);
        let count = format!("shim6_failover_duration_seconds_count{{cause=\"{why}\"}}");
        assert!(sample(&text, &count) >= 1.0);
        assert_eq!(sample(&text, "shim6_contexts_moved "), 1.0);
        for mut child in [events, watch] {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
        lab.stop().await;
    });
}

#[test]
fn a_reload_takes_the_paths_out_of_the_figures_and_back() {
    isolated(
        "control::a_reload_takes_the_paths_out_of_the_figures_and_back",
        || async {
            let lab = Lab::start("[metrics]\nlisten = \"[::1]:9573\"\n").await;
            let get = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
            let peer = lab.ulids[1].to_string();
            assert!(lab.scrape(get).contains(&peer), "a path has series of its own");
            assert_eq!(sample(&lab.scrape(get), "shim6_paths_omitted "), 0.0);

            let daemon = lab.stage.daemon_a().expect("it runs");
            for (most, is_told) in [(0, false), (1, true)] {
                drop_in(daemon, "paths.toml", &format!("[metrics]\npaths = {most}\n"));
                let said = reloaded(daemon);
                assert!(said.contains("metrics.paths: "), "{said}");
                // A snapshot is a second old at most.
                until("the figures follow", &lab.stage, async || {
                    let text = lab.scrape(get);
                    let series = text.lines().filter(|line| line.starts_with("shim6_path_contexts{"));
                    series.count() == most && sample(&text, "shim6_paths_omitted ") >= 1.0
                })
                .await;
                assert_eq!(lab.scrape(get).contains(&peer), is_told, "{}", lab.scrape(get));
            }
            lab.stop().await;
        },
    );
}

#[test]
fn a_user_outside_the_group_is_told_which_group_it_is() {
    let name = "control::a_user_outside_the_group_is_told_which_group_it_is";
    // Only root outside of a user namespace can become somebody else.
    let all = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_root = nix::unistd::geteuid().is_root() && all.split_whitespace().nth(2) == Some("4294967295");
    if !is_root {
        return skip(name, "it needs to run a program as another user");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    open(directory.path());
    let socket = directory.path().join("shim6.sock");
    let program = directory.path().join("shim6");
    std::fs::copy(binary::shim6(), &program).expect("a copy that others can run");
    open(&program);
    let _server = Server::bind(&socket).expect("a socket");
    let mut command = Command::new(&program);
    command
        .args(["contexts", "--socket"])
        .arg(&socket)
        .uid(65_534)
        .gid(65_534);
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let group = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let group = if group.lines().any(|line| line.starts_with("shim6:")) {
        "shim6"
    } else {
        "root"
    };
    assert!(
        said.contains(&format!(
            "belongs to user root and group {group}; run this as that user"
        )),
        "{said}"
    );
}
