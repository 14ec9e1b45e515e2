//! Doing to the hosts and their network what the schedule says, and undoing it.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use shim6_tun::control::Client;
use shim6_tun::demo::stage::Stage;
use shim6_tun::lab::{Direction, Failure, Host, Impairment, Link, Share};
use shim6_tun::netlink::{AddressSpec, MAIN_TABLE, Netlink, NetlinkError, RouteKind, RouteSpec};
use tokio::time::sleep;

use super::sample::Watched;
use super::schedule::{Fault, FaultKind};

/// How long each crossing of a link takes when nothing is wrong; a round trip has four.
pub(super) const DELAY: Duration = Duration::from_millis(2);
/// How long a path is dead before a daemon is killed: contexts are on other paths by then.
const MOVED: Duration = Duration::from_millis(2500);

/// What the faults are done to.
pub(super) struct Ground<'a> {
    pub(super) stage: &'a mut Stage,
    pub(super) watched: Arc<Watched>,
    /// The addresses of both hosts, by uplink.
    pub(super) ulids: [[Ipv6Addr; 2]; 2],
}

impl Ground<'_> {
    /// Does it, waits for as long as it lasts, and undoes it.
    pub(super) async fn inflict(&mut self, fault: &Fault) -> anyhow::Result<()> {
        let done = self.inflict_and_undo(fault).await;
        done.with_context(|| format!("cannot inflict {} on {fault}", fault.kind))
    }

    async fn inflict_and_undo(&mut self, fault: &Fault) -> anyhow::Result<()> {
        let uplink = fault.uplinks[0];
        match fault.kind {
            FaultKind::Blackhole => self.cut(&[(fault.host, uplink)], Failure::Blackhole, fault.lasts).await,
            FaultKind::OneWayIn => self.cut(&[(fault.host, uplink)], Failure::OneWay, fault.lasts).await,
            FaultKind::LinkDown => self.cut(&[(fault.host, uplink)], Failure::LinkDown, fault.lasts).await,
            FaultKind::BothHosts => {
                let both = [(fault.host, uplink), (1 - fault.host, fault.uplinks[1])];
                self.cut(&both, Failure::Blackhole, fault.lasts).await
            }
            FaultKind::Flapping => {
                let part = fault.lasts / (2 * fault.measure);
                for _ in 0..fault.measure {
                    self.cut(&[(fault.host, uplink)], Failure::Blackhole, part).await?;
                    sleep(part).await;
                }
                Ok(())
            }
            FaultKind::OneWayOut => {
                let lost = usual().losing(Share::ALL);
                self.impair(fault, &[Direction::Up], lost).await
            }
            FaultKind::Loss => {
                let lossy = usual().losing(Share::one_of(fault.measure));
                self.impair(fault, &Direction::ALL, lossy).await
            }
            FaultKind::Delay => {
                let slow = Impairment::delay(DELAY + Duration::from_millis(fault.measure.into()));
                self.impair(fault, &Direction::ALL, slow).await
            }
            FaultKind::InterfaceDown => self.interface_down(fault).await,
            FaultKind::PrefixGone => self.prefix_gone(fault).await,
            FaultKind::AddressDeleted => self.address_deleted(fault).await,
            FaultKind::Reload => self.reload(fault.host).await,
            FaultKind::DaemonKilled => self.restart_b().await,
            FaultKind::KilledWhileMoved => {
                let topology = self.stage.topology();
                topology
                    .cut(Failure::Blackhole, host(self.stage, fault.host), uplink)
                    .await?;
                sleep(MOVED).await;
                self.restart_b().await?;
                sleep(fault.lasts).await;
                Ok(self.stage.topology().heal(host(self.stage, fault.host), uplink).await?)
            }
        }
    }

    /// Cuts uplinks of hosts for a time.
    pub(super) async fn cut(&self, places: &[(usize, usize)], how: Failure, lasts: Duration) -> anyhow::Result<()> {
        let topology = self.stage.topology();
        for &(side, uplink) in places {
            topology.cut(how, host(self.stage, side), uplink).await?;
        }
        sleep(lasts).await;
        for &(side, uplink) in places {
            topology.heal(host(self.stage, side), uplink).await?;
        }
        Ok(())
    }

    async fn impair(&self, fault: &Fault, directions: &[Direction], impairment: Impairment) -> anyhow::Result<()> {
        let link = self.link(fault.host, fault.uplinks[0])?;
        for &direction in directions {
            link.impair(direction, impairment);
        }
        sleep(fault.lasts).await;
        for &direction in directions {
            link.impair(direction, usual());
        }
        Ok(())
    }

    fn link(&self, side: usize, uplink: usize) -> anyhow::Result<&Link> {
        Ok(self.stage.topology().link(host(self.stage, side), uplink)?)
    }

    /// As `ip link set down`, and later `up` and what router advertisements or an administrator would then do.
    async fn interface_down(&self, fault: &Fault) -> anyhow::Result<()> {
        let (netlink, index) = self.interface(fault).await?;
        netlink.set_down(index).await?;
        sleep(fault.lasts).await;
        netlink.set_up(index).await?;
        let uplink = &host(self.stage, fault.host).uplinks[fault.uplinks[0]];
        add_plain_address(&netlink, index, uplink.address).await?;
        let number = u32::try_from(fault.uplinks[0])?;
        let route = RouteSpec {
            destination: (Ipv6Addr::UNSPECIFIED, 0),
            source: None,
            gateway: Some(uplink.gateway),
            output: Some(index),
            table: MAIN_TABLE,
            // As the lab has it.
            metric: Some(1024 * (number + 1)),
            kind: RouteKind::Unicast,
        };
        unless_there(netlink.add_route(&route).await)
    }

    async fn prefix_gone(&self, fault: &Fault) -> anyhow::Result<()> {
        let (netlink, index) = self.interface(fault).await?;
        let plain = host(self.stage, fault.host).uplinks[fault.uplinks[0]].address;
        netlink.delete_address(index, plain, 64).await?;
        sleep(fault.lasts).await;
        add_plain_address(&netlink, index, plain).await
    }

    async fn address_deleted(&self, fault: &Fault) -> anyhow::Result<()> {
        let (netlink, index) = self.interface(fault).await?;
        let ulid = self.ulids[fault.host][fault.uplinks[0]];
        let addresses = netlink.addresses().await?;
        // It may be away because of a failure before.
        if let Some(found) = addresses.iter().find(|one| one.index == index && one.address == ulid) {
            netlink.delete_address(index, ulid, found.prefix_len).await?;
        }
        sleep(fault.lasts.min(Duration::from_secs(2))).await;
        Ok(())
    }

    async fn reload(&self, side: usize) -> anyhow::Result<()> {
        let path = self
            .stage
            .identity_directory(host(self.stage, side))
            .with_file_name("shim6.toml");
        let text = std::fs::read_to_string(&path)?;
        let changed = match text.contains("packets = 10\n") {
            true => text.replace("packets = 10\n", "packets = 11\n"),
            false => text.replace("packets = 11\n", "packets = 10\n"),
        };
        std::fs::write(&path, changed)?;
        let mut client = Client::connect(&self.watched.sockets[side]).await?;
        let reloaded = client.reload().await?;
        anyhow::ensure!(!reloaded.changed.is_empty(), "the daemon saw no change");
        Ok(())
    }

    async fn restart_b(&mut self) -> anyhow::Result<()> {
        self.watched.set_pid(1, None);
        self.stage.restart_b().await?;
        self.watched.set_pid(1, self.stage.daemon_b()?.pid());
        Ok(())
    }

    async fn interface(&self, fault: &Fault) -> anyhow::Result<(Netlink, u32)> {
        let host = host(self.stage, fault.host);
        let netlink = host.namespace.netlink()?;
        let index = netlink.link(&host.uplinks[fault.uplinks[0]].interface).await?.index;
        Ok((netlink, index))
    }
}

/// What links do when nothing is wrong.
fn usual() -> Impairment {
    Impairment::delay(DELAY)
}

/// Host a, or b.
pub(super) fn host(stage: &Stage, side: usize) -> &Host {
    let topology = stage.topology();
    match side {
        0 => &topology.a,
        _ => &topology.b,
    }
}

async fn add_plain_address(netlink: &Netlink, index: u32, address: Ipv6Addr) -> anyhow::Result<()> {
    let spec = AddressSpec {
        index,
        address,
        prefix_len: 64,
        no_dad: true,
        deprecated: false,
        no_prefix_route: false,
    };
    unless_there(netlink.add_address(&spec).await)
}

fn unless_there(result: Result<(), NetlinkError>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.is_exists() => Ok(()),
        other => Ok(other?),
    }
}
