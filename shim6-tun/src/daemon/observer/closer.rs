//! A closer look at some pairs, for rules that programs in the kernel do not know: by taps that are open only while there is
//! such a pair.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use shim6_core::LocatorPair;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::super::shared::Shared;
use super::super::trigger::SharedTrigger;
use super::taps::sighting;
use crate::sys::Readiness;
use crate::sys::tap::{PacketTap, TapOptions};

/// How often it is seen to whether there is anything to be looked at.
const TICK: Duration = Duration::from_secs(1);
/// Room in the ring: a packet that is missed is one that is not counted.
const RING_OCTETS: usize = 512 * 1024;
/// Octets of each packet: as many as some extension headers and the ports take.
const SNAP_OCTETS: usize = 96;

/// Looks whenever that is wanted, until the task is dropped.
pub(super) async fn run(index: u32, interface: String, trigger: Arc<SharedTrigger>, shared: Arc<Shared>) {
    let mut wanted = trigger.wanted();
    // The trigger outlives its receiver, so there is no end to be waited for.
    while wanted.wait_for(|wanted| *wanted).await.is_ok() {
        match look(index, &mut wanted, &trigger, &shared).await {
            Ok(()) => {}
            Err(error) => {
                // Most likely the interface is gone or down. What is to be looked at is asked for again.
                tracing::debug!(interface, %error, "looking at packets more closely");
                sleep(TICK).await;
            }
        }
    }
}

async fn look(
    index: u32,
    wanted: &mut watch::Receiver<bool>,
    trigger: &SharedTrigger,
    shared: &Shared,
) -> io::Result<()> {
    let options = TapOptions {
        ring_octets: RING_OCTETS,
        snap_octets: SNAP_OCTETS,
        ..TapOptions::default()
    };
    let mut tap = PacketTap::open(index, options)?;
    let readiness = Readiness::of(&tap)?;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while *wanted.borrow_and_update() {
        let read = || {
            let (now, mut trigger) = (shared.clock.now(), trigger.lock());
            tap.read(&mut |packet| {
                let (source, destination) = (packet.source(), packet.destination());
                let ulids = match packet.outgoing {
                    true => LocatorPair::new(source, destination),
                    false => LocatorPair::new(destination, source),
                };
                if trigger.count_closely(&sighting(&packet, ulids), now) {
                    shared.propose(ulids);
                }
            })
        };
        tokio::select! {
            read = readiness.read(read) => { read?; }
            _ = tick.tick() => trigger.forget_quiet(shared.clock.now()),
            _ = wanted.changed() => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::UdpSocket;
    use std::path::Path;

    use tokio::time::timeout;

    use super::*;
    use crate::config::{Config, HoldConfig};
    use crate::daemon::clock::Clock;
    use crate::daemon::policy::Policy;
    use crate::daemon::testing::{LIMIT, PEER, Provider, plain};
    use crate::daemon::trigger::Trigger;
    use crate::daemon::wire::Wire;
    use crate::lab::isolated;
    use crate::netlink::Netlink;

    const RULES: &str = "[[policy]]\nports = 2222\npackets = 6\n[[policy]]\nprotect = false\n";

    fn packet_sockets() -> usize {
        let table = std::fs::read_to_string("/proc/net/packet").unwrap();
        table.lines().count() - 1
    }

    #[test]
    fn a_pair_is_decided_by_what_is_in_its_packets_and_then_nobody_looks_any_more() {
        let name = "daemon::observer::closer::tests::\
                    a_pair_is_decided_by_what_is_in_its_packets_and_then_nobody_looks_any_more";
        isolated(name, || async {
            let netlink = Netlink::connect().unwrap();
            let provider = Provider::new();
            let uplink = provider.connect(&netlink, 1).await;
            let ulids = LocatorPair::new(plain(uplink.prefix), PEER);
            let wire = Wire::new(HashMap::new(), None).0;
            let (shared, mut inputs) = Shared::new(Clock::start(), wire, &HoldConfig::default());
            let shared = Arc::new(shared);
            let config = Config::parse(RULES, Path::new("shim6.toml")).unwrap();
            let trigger = SharedTrigger::new(Trigger::new(Policy::new(&config, |_| Vec::new()), 10));
            let task = tokio::spawn(run(
                uplink.index,
                uplink.interface.clone(),
                trigger.clone(),
                shared.clone(),
            ));

            let ours = UdpSocket::bind((ulids.local, 0)).unwrap();
            let bind = |port| {
                provider
                    .namespace
                    .run(|| UdpSocket::bind((PEER, port)))
                    .unwrap()
                    .unwrap()
            };
            let (named, other) = (bind(2222), bind(3333));
            for socket in [&ours, &named, &other] {
                socket.set_nonblocking(true).unwrap();
            }
            // Both ports have traffic in both directions.
            let exchange = || {
                for (socket, port) in [(&named, 2222), (&other, 3333)] {
                    ours.send_to(b"?", (PEER, port)).unwrap();
                    let mut octets = [0; 8];
                    while let Ok((_, from)) = socket.recv_from(&mut octets) {
                        socket.send_to(b"!", from).unwrap();
                    }
                }
            };
            assert_eq!(packet_sockets(), 0, "nobody has asked");
            assert!(
                !trigger.propose(ulids, shared.clock.now()),
                "its addresses do not decide"
            );
            let mut tick = interval(Duration::from_millis(5));
            let decided = async {
                loop {
                    tick.tick().await;
                    exchange();
                    if let Ok(found) = inputs.candidates.try_recv() {
                        return found;
                    }
                }
            };
            assert_eq!(timeout(LIMIT, decided).await.expect("nothing is proposed"), ulids);
            let closed = async {
                while packet_sockets() > 0 {
                    tick.tick().await;
                }
            };
            timeout(LIMIT, closed).await.expect("the tap stays open");
            task.abort();
        });
    }
}
