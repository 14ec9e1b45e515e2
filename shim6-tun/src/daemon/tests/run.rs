use std::path::Path;

use nix::sys::signal::{Signal, raise};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::{AddressConfig, Config};
use crate::control::Client;
use crate::daemon;
use crate::daemon::testing::{LIMIT, Provider, plain};
use crate::lab::{Namespace, isolated};
use crate::netlink::{Change, Netlink};
use crate::status::Status;
use crate::sys::wire_socket::WireSender;

pub(super) fn config(directory: &Path, dad: bool) -> Config {
    Config {
        control_socket: directory.join("control.sock"),
        addresses: AddressConfig {
            dad,
            identity: Some(directory.join("identity")),
            ..AddressConfig::default()
        },
        ..Config::default()
    }
}

/// Waits until the daemon answers with a status that is as wanted.
pub(super) async fn status(socket: &Path, wanted: impl Fn(&Status) -> bool) {
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
    let ask = async {
        loop {
            tick.tick().await;
            let Ok(mut client) = Client::connect(socket).await else {
                continue;
            };
            if client.status().await.is_ok_and(|status| wanted(&status)) {
                return;
            }
        }
    };
    timeout(LIMIT, ask).await.expect("the daemon does not answer as wanted");
}

pub(super) async fn ends(daemon: JoinHandle<anyhow::Result<()>>) {
    let ended = timeout(LIMIT, daemon).await.expect("the daemon does not end");
    ended.unwrap().unwrap();
}

/// Sends what is no Shim6 message to the host until the sender is dropped.
fn flood(provider: &Namespace, source: std::net::Ipv6Addr, to: std::net::Ipv6Addr) -> std::sync::mpsc::Sender<()> {
    let (running, stop) = std::sync::mpsc::channel::<()>();
    let sender = provider.run(|| WireSender::open(source, 0)).unwrap().unwrap();
    let mut packet = vec![0x60, 0, 0, 0, 0, 64, 140, 64];
    packet.extend(source.octets());
    packet.extend(to.octets());
    packet.extend([0; 64]);
    std::thread::spawn(move || {
        let batch = [packet.as_slice(); 64];
        while stop.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
            let _ = sender.send_batch(&batch).unwrap();
        }
    });
    running
}

#[test]
fn a_signal_during_duplicate_address_detection_ends_the_start_and_undoes_it() {
    let name = "daemon::tests::run::a_signal_during_duplicate_address_detection_ends_the_start_and_undoes_it";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        provider.connect(&netlink, 1).await;
        netlink.settled().await;
        let before = netlink.snapshot().await;
        // A minute of it, so that whoever waits for its end is late.
        std::fs::write("/proc/sys/net/ipv6/conf/eth1/dad_transmits", "60").unwrap();
        let mut monitor = Netlink::monitor().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let daemon = tokio::spawn(daemon::run(config(directory.path(), true)));
        let tentative = async {
            while !matches!(monitor.next().await.unwrap(), Change::AddressAdded(address) if address.tentative) {}
        };
        timeout(LIMIT, tentative).await.expect("no address is added");
        raise(Signal::SIGTERM).unwrap();
        ends(daemon).await;
        netlink.settled().await;
        assert_eq!(netlink.snapshot().await, before);
    });
}

#[test]
fn a_flood_of_messages_keeps_neither_answers_nor_changes_nor_signals_waiting() {
    let name = "daemon::tests::run::a_flood_of_messages_keeps_neither_answers_nor_changes_nor_signals_waiting";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        let (uplink, spare) = (provider.connect(&netlink, 1).await, provider.connect(&netlink, 2).await);
        netlink.settled().await;
        let before = netlink.snapshot().await;
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path(), false);
        let socket = config.control_socket.clone();
        let daemon = tokio::spawn(daemon::run(config));
        status(&socket, |status| status.uplinks.iter().all(|uplink| uplink.up)).await;
        let running = flood(&provider.namespace, crate::daemon::testing::PEER, plain(uplink.prefix));
        status(&socket, |status| {
            status.counters.discards.values().sum::<u64>() > 10_000
        })
        .await;
        provider.set_carrier(2, false).await;
        let is_down = |status: &Status| status.uplinks.iter().any(|u| u.interface == spare.interface && !u.up);
        status(&socket, is_down).await;
        provider.set_carrier(2, true).await;
        status(&socket, |status| status.uplinks.iter().all(|uplink| uplink.up)).await;
        raise(Signal::SIGTERM).unwrap();
        ends(daemon).await;
        drop(running);
        assert_eq!(netlink.snapshot().await.len(), before.len());
    });
}

#[test]
fn payload_of_a_context_that_the_daemon_does_not_have_is_answered() {
    let name = "daemon::tests::run::payload_of_a_context_that_the_daemon_does_not_have_is_answered";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        provider.connect(&netlink, 1).await;
        provider.connect(&netlink, 2).await;
        netlink.settled().await;
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path(), false);
        let socket = config.control_socket.clone();
        let daemon = tokio::spawn(daemon::run(config));
        status(&socket, |status| status.uplinks.iter().all(|uplink| uplink.up)).await;
        let shown = Client::connect(&socket).await.unwrap().status().await.unwrap();
        let to = shown.uplinks[0].address;

        let from = crate::daemon::testing::PEER;
        let sender = provider.namespace.run(|| WireSender::open(from, 0)).unwrap().unwrap();
        let mut packet = vec![0x60, 0, 0, 0, 0, 16, 140, 64];
        packet.extend(from.octets());
        packet.extend(to.octets());
        // A payload header with P bit and a tag, and what it brings.
        packet.extend([17, 0, 0x80, 1, 2, 3, 4, 5, 0, 1, 0, 1, 0, 8, 0, 0]);
        assert_eq!(sender.send_batch(&[&packet]).unwrap().sent, 1);
        let is_answered = |status: &Status| {
            let counters = &status.counters;
            counters.dataplane["in_no_context"] == 1 && counters.sent.get("R1bis") == Some(&1)
        };
        status(&socket, is_answered).await;
        raise(Signal::SIGTERM).unwrap();
        ends(daemon).await;
    });
}
