//! Two hosts, the programs on them, and the failure of the path between them.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use shim6_tests::{binary, tools};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::Stage;
use shim6_tun::lab::{Failure, Host, Topology};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};

use super::progress::Progress;
use crate::packets::lab::{LIMIT, Lab};

/// For how long an application may wait. Some of them give up by themselves then.
pub(super) const BOUND: Duration = Duration::from_secs(4);
/// Between the hosts, on each path.
const RTT: Duration = Duration::from_millis(20);
/// The receive buffers of TCP connections. With the round-trip time they make bulk transfers take seconds on any machine, at a
/// steady pace.
const RECEIVE_BUFFERS: &str = "4096 131072 262144";

/// Two hosts with daemons, and a directory for the files of programs.
pub(super) struct Scene {
    pub(super) lab: Lab,
    directory: TempDir,
    commands: Cell<u32>,
}

/// A program on a host. Dropping it kills it.
pub(super) struct Process {
    pub(super) child: Child,
    name: String,
    log: PathBuf,
}

impl Scene {
    /// Everything works, and nobody has talked yet.
    pub(super) async fn set() -> Self {
        let topology = Topology::with_rtt(RTT).await.expect("a lab");
        for host in [&topology.a, &topology.b] {
            let limit = || std::fs::write("/proc/sys/net/ipv4/tcp_rmem", RECEIVE_BUFFERS);
            host.namespace.run(limit).expect("a namespace").expect("a setting");
        }
        let stage = Stage::on(topology, binary::shim6(), Arc::new(Live::default())).expect("a stage");
        Self {
            lab: Lab::quiet(stage).await,
            directory: tempfile::tempdir().expect("a directory"),
            commands: Cell::new(0),
        }
    }

    /// The host whose uplink fails, where the clients are.
    pub(super) fn a(&self) -> &Host {
        &self.lab.stage.topology().a
    }

    /// The host of the servers.
    pub(super) fn b(&self) -> &Host {
        &self.lab.stage.topology().b
    }

    /// The servers' address.
    pub(super) fn server(&self) -> Ipv6Addr {
        self.lab.ulids[1]
    }

    /// A file below the scene's directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file below the scene's directory.
    pub(super) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, contents).unwrap_or_else(|error| panic!("{name}: {error}"));
        path
    }

    /// The scene's directory.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// An installed program, to be run on a host and started by [`Process::start`]. It reads nothing, and what it says is
    /// logged unless its command is told otherwise.
    pub(super) fn command(&self, host: &Host, program: &str) -> Program {
        let path = tools::path(program).unwrap_or_else(|| panic!("{program} is not installed"));
        let number = self.commands.replace(self.commands.get() + 1);
        let log = self.path(&format!("{program}-{number}.log"));
        let file = File::create(&log).expect("a log");
        let mut command = host.namespace.command(path);
        command
            .current_dir(self.directory())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor"))
            .stderr(file);
        Program {
            command: command.into(),
            name: program.to_owned(),
            log,
        }
    }

    /// Waits until a TCP socket of a host listens on this port, without connecting to it.
    pub(super) async fn listening(&self, host: &Host, port: u16, server: &Process) {
        let listens = || {
            let sockets = || std::fs::read_to_string("/proc/thread-self/net/tcp6");
            let sockets = host.namespace.run(sockets).expect("a namespace").expect("sockets");
            // The local address, the remote one, and the state LISTEN.
            sockets.lines().any(|line| {
                let mut fields = line.split_whitespace().skip(1);
                let local = fields.next().unwrap_or_default();
                local.ends_with(&format!(":{port:04X}")) && fields.nth(1) == Some("0A")
            })
        };
        let mut tick = interval(Duration::from_millis(10));
        let wait = async {
            while !listens() {
                tick.tick().await;
            }
        };
        let waited = timeout(LIMIT, wait).await;
        assert!(waited.is_ok(), "nobody listens on port {port}\n{}", server.log());
    }

    /// Waits until both hosts have a context for the application's packets, on the path that it began with.
    pub(super) async fn established(&self) {
        self.lab
            .until("both hosts have a context", |a, b| {
                [a, b]
                    .iter()
                    .all(|context| context.state == "established" && !context.steered)
            })
            .await;
    }

    /// Cuts the path in use silently, and waits until both hosts use another one.
    pub(super) async fn fail(&self, progress: &Progress) {
        progress.next_phase();
        self.lab.steer().await;
    }

    /// Cuts the path in use silently, and does not wait: nobody talks now.
    pub(super) async fn fail_quietly(&self, progress: &Progress) {
        progress.next_phase();
        self.lab.stage.cut(Failure::Blackhole).await.expect("a cut");
    }

    /// Waits until both hosts use another path.
    pub(super) async fn moved(&self) {
        self.lab
            .until("both hosts are on another path", |a, b| {
                [a, b]
                    .iter()
                    .all(|context| context.steered && context.reap == "operational")
            })
            .await;
    }

    /// Heals the path, and waits until both hosts are back on it.
    pub(super) async fn heal(&self, progress: &Progress) {
        progress.next_phase();
        self.lab.heal().await;
    }

    /// Prints how long the application waited in each phase, and fails if that was too long.
    pub(super) fn report(&self, application: &str, progress: &Progress) {
        self.report_within(BOUND, application, progress);
    }

    /// As [`report`](Self::report), for an application that may wait for so long.
    pub(super) fn report_within(&self, bound: Duration, application: &str, progress: &Progress) {
        let waits = progress.waits();
        let [before, failure, back @ ..] = &waits[..] else {
            panic!("{application}: nothing has failed");
        };
        let seconds = Duration::as_secs_f64;
        let mut line = format!(
            "{application}: longest wait {:.3} s at the failure, {:.3} s before it",
            seconds(failure),
            seconds(before)
        );
        for back in back {
            line += &format!(", {:.3} s on the way back", seconds(back));
        }
        println!("{line}");
        assert!(
            waits.iter().all(|wait| *wait < bound),
            "{line}\n{}",
            self.lab.stage.logs()
        );
    }

    /// Ends the daemons, which must leave nothing behind. No packet had a wrong checksum.
    pub(super) async fn end(self) {
        self.lab.end().await;
    }
}

/// A program that has not been started.
pub(super) struct Program {
    command: Command,
    name: String,
    log: PathBuf,
}

impl Program {
    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds the words of a line.
    pub(super) fn args(mut self, line: &str) -> Self {
        self.command.args(line.split_whitespace());
        self
    }

    /// Lets the test write what the program reads.
    pub(super) fn with_input(mut self) -> Self {
        self.command.stdin(Stdio::piped());
        self
    }

    /// Lets the test read what the program says on its standard output.
    pub(super) fn with_output(mut self) -> Self {
        self.command.stdout(Stdio::piped());
        self
    }

    pub(super) fn start(mut self) -> Process {
        let child = self.command.kill_on_drop(true).spawn();
        Process {
            child: child.unwrap_or_else(|error| panic!("{}: {error}", self.name)),
            name: self.name,
            log: self.log,
        }
    }
}

impl Process {
    /// What it has said so far.
    pub(super) fn said(&self) -> String {
        let said = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// The same, for a message about something that failed.
    pub(super) fn log(&self) -> String {
        format!("{} says:\n{}", self.name, self.said())
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> ExitStatus {
        match timeout(LIMIT, self.child.wait()).await {
            Ok(status) => status.expect("a status"),
            Err(_) => panic!("{} does not end\n{}", self.name, self.log()),
        }
    }

    /// Waits for its end, which must be a good one.
    pub(super) async fn succeeded(&mut self) {
        let status = self.ended().await;
        assert!(status.success(), "{}: {status}\n{}", self.name, self.log());
    }
}
