//! What real daemons say to each other while a path fails, captured and dissected.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shim6_tests::{binary, isolated, tools};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::Stage;
use shim6_tun::lab::{Host, Topology};

use super::tshark::Tshark;
use super::{compare, kept};
use crate::packets::lab::Lab;
use crate::packets::streams::{connected, exchange};

/// Octets that each end of a connection sends before and after the failure.
const OCTETS: usize = 3000;
/// Set to 1 to keep what was captured.
const WRITE: &str = "SHIM6_WRITE_CAPTURES";

/// tshark that captures on both uplinks of a host.
struct Capture {
    child: Child,
}

impl Capture {
    fn start(host: &Host, path: &Path) -> Self {
        let mut command = host.namespace.command("tshark");
        for uplink in &host.uplinks {
            command.args(["-i", &uplink.interface]);
        }
        let mut child = command
            .args(["-q", "-w"])
            .arg(path)
            .stderr(Stdio::piped())
            .spawn()
            .expect("tshark runs");
        let errors = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut lines = errors.lines().map_while(Result::ok);
        assert!(
            lines.any(|line| line.contains("Capture started")),
            "tshark does not capture"
        );
        // It must not block on what nobody reads.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child }
    }

    fn end(mut self) {
        let id = Pid::from_raw(self.child.id().try_into().expect("a process id"));
        kill(id, Signal::SIGINT).expect("it runs");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
}

/// Keeps the Shim6 headers and the connection, in the format without names of the machine.
fn keep(whole: &Path, stream: &str) {
    let status = Command::new("tshark")
        .args(["-r"])
        .arg(whole)
        .args(["-Y", &format!("shim6 || tcp.port == {stream}"), "-F", "pcap", "-w"])
        .arg(kept("lab.pcap"))
        .status()
        .expect("tshark runs");
    assert!(status.success());
}

#[test]
fn conversation_of_real_daemons_is_understood() {
    let name = "dissection::live::conversation_of_real_daemons_is_understood";
    if !tools::require(&["tshark"]) {
        return;
    }
    isolated(name, || async {
        let topology = Topology::two_by_two().await.expect("a lab");
        let stage = Stage::on(topology, binary::shim6(), Arc::new(Live::default())).expect("a stage");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lab.pcapng");
        let capture = Capture::start(&stage.topology().a, &path);
        let lab = Lab::start_on(stage, "").await;
        let pair = lab.pair();
        let before = pair.clone();
        let streams = lab
            .blocking(move || {
                let streams = connected(&before, true);
                exchange(&before, [&streams[0], &streams[1]], OCTETS);
                streams
            })
            .await;
        let port = streams[1].local_addr().expect("an address").port().to_string();
        lab.steer().await;
        lab.blocking(move || exchange(&pair, [&streams[0], &streams[1]], OCTETS))
            .await;
        lab.silence().await;
        capture.end();
        lab.end().await;
        examine(&path, &port);
        if std::env::var_os(WRITE).is_some_and(|value| value == "1") {
            keep(&path, &port);
        }
    });
}

fn examine(path: &Path, port: &str) {
    let Some(tshark) = Tshark::new() else { return };
    assert!(compare::compare(&tshark, path) > 20);
    // All are in one context, from the first I1 on, and nothing is wrong with any.
    let odd = "shim6lua && (!shim6lua.context || shim6lua.context != 0 || shim6lua.fault)";
    let rows = tshark.script(path, &["frame.number", "_ws.col.Info"], &["-2", "-Y", odd]);
    assert!(rows.is_empty(), "{rows:?}");
    let types = tshark.script(path, &["shim6lua.type"], &["-Y", "shim6lua.p == 0"]);
    for needed in ["1", "2", "3", "4", "67"] {
        assert!(
            types.iter().any(|row| row[0] == [needed]),
            "no message of type {needed}"
        );
    }
    // The connection is one stream, with segments on both paths.
    let segments = format!("tcp.port == {port}");
    let streams = tshark.script(path, &["tcp.stream", "shim6lua.p"], &["-Y", &segments]);
    assert!(streams.iter().all(|row| row[0] == streams[0][0]), "{streams:?}");
    assert!(streams.iter().any(|row| row[1].is_empty()) && streams.iter().any(|row| row[1] == ["1"]));
    let checksums = tshark.alone(
        path,
        &["shim6.checksum.status"],
        &["-Y", "shim6.p == 0", "-E", "occurrence=f"],
    );
    assert!(
        !checksums.is_empty() && checksums.iter().all(|row| row[0] == ["1"]),
        "{checksums:?}"
    );
}

#[test]
fn capture_that_is_kept_is_understood() {
    let path = kept("lab.pcap");
    assert!(fs::metadata(&path).is_ok(), "{} is missing", path.display());
    let Some(tshark) = Tshark::new() else { return };
    let ports = tshark.script(
        &path,
        &["tcp.dstport"],
        &["-Y", "tcp.flags.syn == 1 && tcp.flags.ack == 0"],
    );
    examine(&path, &ports[0][0][0]);
}
