//! What a service manager is told (sd_notify(3)).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shim6_tests::{binary, isolated};
use shim6_tun::demo::daemon::configuration;
use shim6_tun::lab::{Host, Topology};
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// How long the manager waits for a sign of life.
const WATCHDOG: Duration = Duration::from_millis(900);

/// Starts a daemon on `host` as a manager does that listens at `manager`.
fn start(host: &Host, directory: &Path, manager: &Path) -> Child {
    let config = directory.join("shim6.toml");
    let text = configuration(&directory.join("shim6.sock"), host);
    std::fs::write(&config, text).expect("write the configuration");
    let mut command = host.namespace.command(binary::shim6());
    command.arg("run").arg("--config").arg(config).stdin(Stdio::null());
    command
        .env("NOTIFY_SOCKET", manager)
        .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    command.env_remove("WATCHDOG_PID");
    Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .expect("start the daemon")
}

/// The next message.
async fn message(manager: &UnixDatagram) -> String {
    let mut octets = [0; 1024];
    let length = timeout(LIMIT, manager.recv(&mut octets))
        .await
        .expect("nothing is said")
        .expect("receive");
    String::from_utf8_lossy(&octets[..length]).into_owned()
}

/// Waits until a message has this line; gives all before it and itself.
async fn until(manager: &UnixDatagram, line: &str) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        said.push(message(manager).await);
        if said
            .iter()
            .any(|message| message.lines().any(|it| it.starts_with(line)))
        {
            return said;
        }
    }
}

#[test]
fn service_manager_hears_of_start_life_reload_and_end_and_nothing_of_a_daemon_that_hangs() {
    let name = "service::service_manager_hears_of_start_life_reload_and_end_and_nothing_of_a_daemon_that_hangs";
    isolated(name, || async {
        let lab = Topology::two_by_two().await.expect("a lab");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("listen");
        let mut daemon = start(&lab.a, directory.path(), &path);
        let pid = Pid::from_raw(daemon.id().expect("a process").cast_signed());

        let before = until(&manager, "READY=1").await;
        assert!(
            before.iter().any(|message| message.contains("EXTEND_TIMEOUT_USEC=")),
            "{before:?}"
        );
        assert!(
            !before.iter().any(|message| message.contains("WATCHDOG=1")),
            "{before:?}"
        );
        until(&manager, "STATUS=2 of 2 uplinks work; 0 contexts").await;
        // With nothing to do, it comes nevertheless, in time.
        for _ in 0..4 {
            let alive = timeout(WATCHDOG, until(&manager, "WATCHDOG=1")).await;
            alive.expect("the watchdog would have bitten");
        }

        kill(pid, Signal::SIGHUP).expect("have it read its configuration again");
        let reloading = until(&manager, "RELOADING=1").await.pop().expect("a message");
        // Without it, a manager of this kind gives up on the daemon.
        assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading:?}");
        until(&manager, "READY=1").await;

        kill(pid, Signal::SIGSTOP).expect("stop it");
        // What was said before.
        let mut octets = [0; 1024];
        let silent = async { while timeout(WATCHDOG, manager.recv(&mut octets)).await.is_ok() {} };
        timeout(LIMIT, silent)
            .await
            .expect("a daemon that hangs says that it is alive");
        kill(pid, Signal::SIGCONT).expect("let it go on");
        until(&manager, "WATCHDOG=1").await;

        kill(pid, Signal::SIGTERM).expect("end it");
        until(&manager, "STOPPING=1").await;
        let ended = timeout(LIMIT, daemon.wait())
            .await
            .expect("it does not end")
            .expect("wait");
        assert!(ended.success(), "{ended}");
    });
}
