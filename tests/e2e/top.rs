//! `shim6 top` in a terminal: a pseudo-terminal, behind which what the program writes becomes a screen.

use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use shim6_tests::{binary, isolated};
use shim6_tun::lab::Failure;
use tokio::time::{Instant, sleep};

use crate::plans::assert_clean;
use crate::restart::Requests;
use crate::set_up::{protected, running, stopped};

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
const SIZE: PtySize = PtySize {
    rows: 24,
    cols: 80,
    pixel_width: 0,
    pixel_height: 0,
};

/// `shim6 top` in a terminal of its own.
struct Top {
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    screen: Arc<Mutex<vt100::Parser>>,
    child: Box<dyn Child + Send + Sync>,
    /// How the terminal was before, for comparison.
    before: String,
}

impl Top {
    fn start(socket: &Path) -> Self {
        Self::sized(socket, SIZE)
    }

    fn sized(socket: &Path, size: PtySize) -> Self {
        let pair = native_pty_system().openpty(size).expect("a pseudo-terminal");
        let before = settings(&*pair.master);
        let mut command = CommandBuilder::new(binary::shim6());
        command.args(["top", "--interval", "0.2", "--socket"]);
        command.arg(socket);
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).expect("it starts");
        let mut output = pair.master.try_clone_reader().expect("a reader");
        let keys = pair.master.take_writer().expect("a writer");
        let [rows, columns] = [size.rows, size.cols].map(|size| NonZero::new(size).expect("some"));
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let shown = Arc::clone(&screen);
        // Ends with the program, which has the other end of the terminal.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(got @ 1..) = output.read(&mut buffer) {
                let mut screen = shown.lock().unwrap_or_else(PoisonError::into_inner);
                screen.process(&buffer[..got]);
            }
        });
        Self {
            master: pair.master,
            keys,
            screen,
            child,
            before,
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("keys are taken");
    }

    fn text(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.screen().contents()
    }

    async fn shows(&self, what: &str, is_shown: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let text = self.text();
            if is_shown(&text) {
                return;
            }
            assert!(Instant::now() < deadline, "it does not show {what}:\n{text}");
            sleep(POLL).await;
        }
    }

    /// Waits for the program's end, which has to leave the terminal as it found it. Gives its exit code.
    async fn ended(mut self) -> u32 {
        let deadline = Instant::now() + LIMIT;
        let code = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break status.exit_code();
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.text());
            sleep(POLL).await;
        };
        assert_eq!(settings(&*self.master), self.before);
        // The last octets may be under way.
        while !self.is_given_back() {
            assert!(Instant::now() < deadline, "the terminal is not given back");
            sleep(POLL).await;
        }
        code
    }

    /// Whether the terminal shows what it did before, and its cursor.
    fn is_given_back(&self) -> bool {
        let parser = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        !parser.screen().alternate_screen() && !parser.screen().hide_cursor()
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
    }
}

/// The modes of a terminal.
fn settings(terminal: &dyn MasterPty) -> String {
    format!("{:?}", terminal.get_termios().expect("a terminal has modes"))
}

/// The row of the only context.
fn row(text: &str) -> Option<&str> {
    text.lines()
        .find(|line| line.contains("2001:db8") && line.contains(" ms"))
}

#[test]
fn a_failover_is_seen_as_it_happens() {
    isolated("top::a_failover_is_seen_as_it_happens", || async {
        let (stage, ulids) = running("").await;
        let mut top = Top::start(stage.daemon_a().expect("it runs").socket());
        top.shows("that there is no context", |text| text.contains("No contexts yet"))
            .await;

        let requests = Requests::start(&stage, ulids);
        top.shows("the context", |text| {
            text.contains("1 contexts") && text.contains("established")
        })
        .await;
        top.shows("traffic", |text| {
            row(text).is_some_and(|row| row.contains(" ok ") && row.contains("eth0") && row.contains(" kB"))
        })
        .await;
        stage.cut(Failure::Blackhole).await.expect("a cut");
        top.shows("the failover", |text| {
            let moved = row(text).is_some_and(|row| row.contains(" moved ") && row.contains("eth1"));
            moved && text.contains("failover") && text.contains("path moved from")
        })
        .await;

        top.press("s");
        top.shows("another order", |text| text.contains("PEER▼")).await;
        top.press("/eth7\r");
        top.shows("that nothing matches", |text| {
            text.contains("None of 1 contexts has `eth7`")
        })
        .await;
        top.press("/");
        top.press("\x15eth1\r");
        top.shows("the filtered row", |text| {
            row(text).is_some() && text.contains("filter: eth1")
        })
        .await;
        top.press("\r");
        top.shows("its details", |text| {
            text.contains("packets go  through the daemon by eth1") && text.contains(", the last ")
        })
        .await;
        top.press("?");
        top.shows("help", |text| text.contains("this help")).await;
        top.press("?q");
        assert_eq!(top.ended().await, 0);
        drop(requests);
        stopped(stage).await;
    });
}

/// Whether the details have a pair of this state by this uplink.
fn has_pair(text: &str, state: &str, uplink: &str, in_use: bool) -> bool {
    let pairs = text.split_once(" its paths ").map_or("", |(_, pairs)| pairs);
    let is_it = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.starts_with(&[state, &format!("{uplink},"), "RTT"]) && line.contains(", in use") == in_use
    };
    pairs.lines().any(is_it)
}

#[test]
fn pairs_of_a_context_are_seen_with_what_is_known_of_them() {
    isolated(
        "top::pairs_of_a_context_are_seen_with_what_is_known_of_them",
        || async {
            let (stage, ulids, requests) = protected("").await;
            // Room for all of it.
            let large = PtySize {
                rows: 60,
                cols: 120,
                ..SIZE
            };
            let mut top = Top::sized(stage.daemon_a().expect("it runs").socket(), large);
            top.shows("the context", |text| row(text).is_some()).await;
            top.press("\r");
            top.shows("its pairs", |text| {
                has_pair(text, "working", "eth0", true)
                    && has_pair(text, "unknown", "eth1", false)
                    && text.contains(&format!("{} -> {}", ulids[0], ulids[1]))
            })
            .await;
            stage.cut(Failure::Blackhole).await.expect("a cut");
            top.shows("which has failed and which is used now", |text| {
                has_pair(text, "failed", "eth0", false) && has_pair(text, "working", "eth1", true)
            })
            .await;
            top.press("\x1b");
            top.shows("the table", |text| !text.contains(" its paths ") && row(text).is_some())
                .await;
            top.press("q");
            assert_eq!(top.ended().await, 0);
            drop(requests);
            stopped(stage).await;
        },
    );
}

#[test]
fn it_waits_for_a_daemon_that_has_gone_and_gives_the_terminal_back_when_it_is_told_to_end() {
    isolated(
        "top::it_waits_for_a_daemon_that_has_gone_and_gives_the_terminal_back_when_it_is_told_to_end",
        || async {
            let (mut stage, _) = running("").await;
            let top = Top::start(stage.daemon_a().expect("it runs").socket());
            top.shows("the daemon", |text| text.contains("0 contexts")).await;
            assert_clean(&stage.stop().await.expect("they stop"));
            top.shows("that it has gone", |text| text.contains("NO DAEMON")).await;
            stage.start().await.expect("daemons");
            top.shows("that it is back", |text| {
                text.contains("0 contexts") && !text.contains("NO DAEMON")
            })
            .await;
            // Smaller than what it draws otherwise.
            let small = PtySize {
                rows: 6,
                cols: 30,
                ..SIZE
            };
            top.master.resize(small).expect("another size");
            top.shows("less", |text| {
                !text.contains("what happened") && text.contains("shim6 top")
            })
            .await;
            let pid = top.child.process_id().expect("it runs");
            let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
            assert_eq!(top.ended().await, 130);
            stopped(stage).await;
        },
    );
}

#[test]
fn without_a_terminal_or_a_daemon_it_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("shim6.sock");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(binary::shim6());
        command.arg("top").arg("--socket").arg(&socket).args(arguments);
        let output = command.stdin(std::process::Stdio::null()).output().expect("it runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, said) = run(&[]);
    assert!(code == Some(1) && said.contains("shim6 top --json"), "{code:?}: {said}");
    let (code, said) = run(&["--json"]);
    assert!(code == Some(1) && said.contains("shim6 run"), "{code:?}: {said}");
    let (code, said) = run(&["--interval", "0"]);
    assert!(code == Some(2) && said.contains("0.1 to 60"), "{code:?}: {said}");
}
