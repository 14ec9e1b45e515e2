//! `shim6 lab`: a network that stays up between commands, as a user sees it.

use std::env;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use shim6_tests::{binary, isolated};

const LIMIT: Duration = Duration::from_secs(20);
/// Set for the helpers below, which run on a node.
const PEER: &str = "SHIM6_TEST_LAB_PEER";
const PORT: u16 = 7;

/// The labs of one test. Dropping it ends them.
struct Labs {
    directory: tempfile::TempDir,
}

impl Labs {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { directory }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary::shim6());
        command
            .arg("lab")
            .args(arguments)
            .env("SHIM6_LAB_DIRECTORY", self.directory.path().join("labs"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it runs")
    }

    /// What it says if it succeeds.
    fn well(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Its exit code and complaint if it fails.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        let complaint = String::from_utf8(output.stderr).expect("text");
        (output.status.code().expect("an exit code"), complaint)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.well(arguments)).expect("JSON")
    }

    /// Whether datagrams from host a to host b are answered.
    fn is_answered(&self) -> bool {
        let helper = env::current_exe().expect("the test binary");
        let helper = helper.to_str().expect("text");
        let exec = ["exec", "a", "--", helper, "lab::ask", "--exact", "--ignored"];
        let status = self
            .command(&exec)
            .env(PEER, "b")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.expect("it runs").success()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, text).expect("write a file");
        path.to_str().expect("text").to_owned()
    }
}

impl Drop for Labs {
    fn drop(&mut self) {
        drop(self.command(&["down", "--all"]).output());
    }
}

fn example(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/examples/lab");
    directory.join(name).to_str().expect("text").to_owned()
}

/// Runs on a node: answers datagrams until it is ended.
#[test]
#[ignore = "a helper of the other tests"]
fn answer() {
    if env::var_os(PEER).is_none() {
        return;
    }
    let socket = UdpSocket::bind(("::", PORT)).expect("bind");
    let mut buffer = [0; 100];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).expect("receive");
        drop(socket.send_to(&buffer[..length], from));
    }
}

/// Runs on a node: succeeds if an answer comes.
#[test]
#[ignore = "a helper of the other tests"]
fn ask() {
    let Ok(peer) = env::var(PEER) else {
        return;
    };
    let socket = UdpSocket::bind("[::]:0").expect("bind");
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("set a timeout");
    for _ in 0..20 {
        socket.send_to(b"?", (peer.as_str(), PORT)).expect("send");
        if socket.recv(&mut [0; 10]).is_ok() {
            return;
        }
    }
    panic!("{peer} does not answer");
}

#[test]
fn a_lab_stays_up_between_commands_and_leaves_nothing() {
    isolated("lab::a_lab_stays_up_between_commands_and_leaves_nothing", || async {
        let labs = Labs::new();
        let said = labs.well(&["up", &example("two-by-two.toml")]);
        assert!(said.contains("2 hosts, 4 ISPs, 1 router, 8 links"), "{said}");
        let (code, complaint) = labs.refused(&["up", &example("two-by-two.toml")]);
        assert!(code == 1 && complaint.contains("is up already"), "{complaint}");

        let inside = labs.well(&[
            "exec",
            "a",
            "--",
            "sh",
            "-c",
            "hostname; echo $SHIM6_LAB_NODE; ls /sys/class/net; ls /run/shim6",
        ]);
        assert_eq!(
            inside.split_whitespace().collect::<Vec<_>>(),
            ["a", "a", "eth0", "eth1", "lo"]
        );
        assert_eq!(
            labs.run(&["exec", "b", "--", "sh", "-c", "exit 7"]).status.code(),
            Some(7)
        );
        assert_eq!(
            labs.run(&["exec", "b", "--", "/no/such/program"]).status.code(),
            Some(127)
        );
        let (_, complaint) = labs.refused(&["exec", "c", "--", "true"]);
        assert!(complaint.contains("there is no node \"c\" in this lab"), "{complaint}");

        let helper = env::current_exe().expect("the test binary");
        let exec = [
            "exec",
            "b",
            "--",
            helper.to_str().expect("text"),
            "lab::answer",
            "--exact",
            "--ignored",
        ];
        let mut answering = labs
            .command(&exec)
            .env(PEER, "")
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs");
        assert!(labs.is_answered());
        labs.well(&["set", "a1", "loss=100%", "--direction", "a"]);
        assert!(!labs.is_answered());
        labs.well(&["set", "a1", "loss=0%"]);
        labs.well(&["break", "b1"]);
        assert!(!labs.is_answered());
        labs.well(&["heal"]);
        assert!(labs.is_answered());
        let status = labs.json(&["status", "--json"]);
        let link = &status["links"][0];
        assert_eq!((&link["name"], &link["state"]), (&"a1".into(), &"up".into()));
        assert!(link["up"]["counters"]["lost"].as_u64() > Some(0), "{link}");

        let said = labs.well(&["down"]);
        assert_eq!(said, "The lab lab is down, and the program that ran in it.\n");
        assert!(!answering.wait().expect("it ends").success());
        let left = fs::read_dir(labs.directory.path().join("labs"))
            .expect("the directory")
            .count();
        assert_eq!(left, 0);
        let (_, complaint) = labs.refused(&["status"]);
        assert!(complaint.contains("no lab is up"), "{complaint}");
    });
}

#[test]
fn captures_and_pictures_show_what_a_lab_does() {
    isolated("lab::captures_and_pictures_show_what_a_lab_does", || async {
        let labs = Labs::new();
        labs.well(&["up", &example("hungry-firewall.toml"), "--name", "hungry"]);
        let file = labs.directory.path().join("a1.pcapng");
        let mut capturing = labs
            .command(&["capture", "a1", file.to_str().expect("text"), "--packets", "3"])
            .spawn()
            .expect("it runs");
        let started = Instant::now();
        while capturing.try_wait().expect("its state").is_none() {
            assert!(started.elapsed() < LIMIT, "no three packets came");
            // Nobody answers; but packets pass.
            labs.is_answered();
        }
        let capture = fs::read(&file).expect("a capture");
        let packets = packets_in(&capture);
        assert_eq!(packets, 3);
        let picture = labs.well(&["graph"]);
        for text in [
            "<svg",
            ">core</text>",
            "2001:db8:a1::1",
            "stateful firewall",
            "drops extension headers",
        ] {
            assert!(picture.contains(text), "{text}: {picture}");
        }
        let (code, complaint) = labs.refused(&["capture", "a7", "/dev/null"]);
        assert!(
            code == 1 && complaint.contains("there is no link \"a7\" in this lab; did you mean a1?"),
            "{complaint}"
        );
    });
}

/// Packets in a capture: its blocks of type 6.
fn packets_in(mut capture: &[u8]) -> usize {
    let mut packets = 0;
    while let Some((head, _)) = capture.split_at_checked(8) {
        let word = |at: usize| u32::from_ne_bytes(*head[at..].first_chunk().expect("four octets"));
        packets += usize::from(word(0) == 6);
        capture = capture.get(word(4) as usize..).expect("whole blocks");
    }
    assert!(capture.is_empty());
    packets
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    isolated("lab::what_is_wrong_is_said_with_its_place", || async {
        let labs = Labs::new();
        let file = labs.file(
            "bad.toml",
            "[[host]]\nname = \"a\"\n\n[[link]]\nends = [\"a\", \"b\"]\ndealy = \"3ms\"\n",
        );
        let (code, complaint) = labs.refused(&["up", &file]);
        assert_eq!(code, 2, "{complaint}");
        assert!(
            complaint.contains("bad.toml:6: link.dealy: unknown key; did you mean delay?"),
            "{complaint}"
        );
        let (code, complaint) = labs.refused(&["up", "/no/such/file.toml"]);
        assert!(
            code == 2 && complaint.contains("/no/such/file.toml cannot be read"),
            "{complaint}"
        );
        labs.well(&["up", &example("nptv6.toml"), "--name", "one"]);
        labs.well(&["up", &example("nptv6.toml"), "--name", "two"]);
        assert_eq!(labs.json(&["list", "--json"]), serde_json::json!(["one", "two"]));
        let (_, complaint) = labs.refused(&["heal"]);
        assert!(complaint.contains("several labs are up: one, two"), "{complaint}");
        for (arguments, code, says) in [
            (
                &["set", "lan", "delay=5", "--name", "one"][..],
                2,
                "expected a duration",
            ),
            (
                &["set", "lan", "delay=5ms", "--direction", "b", "--name", "one"],
                1,
                "has no direction \"b\"",
            ),
            (
                &[
                    "break",
                    "lan",
                    "--how",
                    "link-down",
                    "--direction",
                    "up",
                    "--name",
                    "one",
                ],
                2,
                "both ends",
            ),
            (
                &["exec", "b", "--name", "../x", "--", "true"],
                1,
                "is no name for a lab",
            ),
            (&["down", "--name", "three"], 1, "no lab \"three\" is up"),
        ] {
            let (found, complaint) = labs.refused(arguments);
            assert!(
                found == code && complaint.contains(says),
                "{arguments:?}: {found} {complaint}"
            );
        }
    });
}

#[test]
fn a_killed_lab_leaves_nothing_in_the_way_of_the_next() {
    isolated("lab::a_killed_lab_leaves_nothing_in_the_way_of_the_next", || async {
        let labs = Labs::new();
        // No other process has this name.
        let name = format!("killed-{}", std::process::id());
        labs.well(&["up", &example("nptv6.toml"), "--name", &name]);
        let keeper = keeper(&name).expect("a keeper");
        let pid = keeper
            .file_name()
            .and_then(|pid| pid.to_str()?.parse().ok())
            .expect("a number");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("kill it");
        let started = Instant::now();
        while labs.json(&["list", "--json"]) != serde_json::json!([]) {
            assert!(started.elapsed() < LIMIT, "it is still there");
            sleep(Duration::from_millis(10));
        }
        labs.well(&["up", &example("nptv6.toml"), "--name", &name]);
        labs.well(&["down"]);
    });
}

/// The process that keeps the lab of this name.
fn keeper(name: &str) -> Option<PathBuf> {
    let wanted = format!("lab\0keep\0--name\0{name}\0");
    let processes = fs::read_dir("/proc")
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    let is_keeper =
        |process: &PathBuf| fs::read(process.join("cmdline")).is_ok_and(|line| line.ends_with(wanted.as_bytes()));
    processes.into_iter().find(is_keeper)
}

#[test]
fn each_node_has_a_daemon_of_its_own() {
    isolated("lab::each_node_has_a_daemon_of_its_own", || async {
        let labs = Labs::new();
        labs.well(&["up", &example("two-by-two.toml")]);
        let shim6 = binary::shim6().to_str().expect("text");
        let daemons = ["a", "b"].map(|node| {
            let mut command = labs.command(&["exec", node, "--", shim6, "run", "--log", "warn"]);
            command.spawn().expect("it runs")
        });
        for node in ["a", "b"] {
            let started = Instant::now();
            loop {
                let output = labs.run(&["exec", node, "--", shim6, "status", "--json"]);
                let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
                let uplinks = status["uplinks"].as_array().map_or(0, Vec::len);
                if uplinks == 2 {
                    break;
                }
                assert!(started.elapsed() < LIMIT, "{node}: {output:?}");
                sleep(Duration::from_millis(20));
            }
        }
        let said = labs.well(&["down"]);
        assert!(said.contains("and the 2 programs that ran in it"), "{said}");
        for mut daemon in daemons {
            assert!(daemon.wait().expect("it ends").success());
        }
    });
}
