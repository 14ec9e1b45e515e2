//! Uplinks, prefixes and addresses that come, change and go while the daemon runs.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::path::PathBuf;

use nix::sys::signal::{Signal, raise};
use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::run::{config, ends, status};
use crate::config::{Config, Prefix64, UplinkConfig};
use crate::control::Client;
use crate::daemon;
use crate::daemon::ledger::LABEL;
use crate::daemon::testing::{GATEWAY, PEER, Provider, default_route, fixed, plain};
use crate::lab::isolated;
use crate::netlink::{AddressSpec, LabelSpec, Netlink, RouteSpec};
use crate::status::{Status, UplinkStatus};

const SECOND: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xaa, 0, 0, 0, 0, 0);

/// A host with a daemon that runs.
struct Host {
    netlink: Netlink,
    provider: Provider,
    directory: TempDir,
    socket: PathBuf,
    daemon: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            netlink: Netlink::connect().unwrap(),
            provider: Provider::new(),
            socket: config(directory.path(), false).control_socket,
            directory,
            daemon: None,
        }
    }

    fn config(&self) -> Config {
        config(self.directory.path(), false)
    }

    fn start(&mut self, config: Config) {
        self.daemon = Some(tokio::spawn(daemon::run(config)));
    }

    /// Waits until the uplinks are as wanted, and gives them.
    async fn uplinks(&self, wanted: impl Fn(&[UplinkStatus]) -> bool) -> Vec<UplinkStatus> {
        self.status(|status| wanted(&status.uplinks)).await.uplinks
    }

    /// Waits until so many uplinks are up, and no more.
    async fn up(&self, count: usize) -> Vec<UplinkStatus> {
        self.uplinks(|uplinks| uplinks.len() == count && uplinks.iter().all(|uplink| uplink.up))
            .await
    }

    async fn status(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        status(&self.socket, wanted).await;
        Client::connect(&self.socket).await.unwrap().status().await.unwrap()
    }

    async fn stop(&mut self) {
        raise(Signal::SIGTERM).unwrap();
        ends(self.daemon.take().unwrap()).await;
    }

    /// Another address on an interface, as a router advertisement makes it.
    async fn advertise(&self, index: u32, prefix: Ipv6Addr) {
        self.netlink
            .add_address(&fixed(index, plain(prefix), 64))
            .await
            .unwrap();
    }

    async fn withdraw(&self, index: u32, prefix: Ipv6Addr) {
        self.netlink.delete_address(index, plain(prefix), 64).await.unwrap();
    }

    async fn has(&self, address: Ipv6Addr) -> bool {
        let listed = self.netlink.addresses().await.unwrap();
        listed.iter().any(|listed| listed.address == address)
    }
}

fn prefix_of(uplink: &UplinkStatus) -> String {
    format!("{}/64", daemon::uplink::prefix_of(uplink.address))
}

/// The source that a new connection has.
fn source() -> Ipv6Addr {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect((PEER, 9)).unwrap();
    match socket.local_addr().unwrap() {
        std::net::SocketAddr::V6(address) => *address.ip(),
        other => panic!("{other}"),
    }
}

fn configured(interface: &str, prefix: Option<Ipv6Addr>, gateway: Option<Ipv6Addr>) -> UplinkConfig {
    UplinkConfig {
        interface: interface.to_owned(),
        prefix: prefix.map(|prefix| format!("{prefix}/64").parse::<Prefix64>().unwrap()),
        gateway,
        priority: 0,
        weight: 0,
        metered: false,
    }
}

#[test]
fn a_prefix_that_comes_gives_a_signed_locator_until_it_is_withdrawn() {
    let name = "daemon::tests::follow::a_prefix_that_comes_gives_a_signed_locator_until_it_is_withdrawn";
    isolated(name, || async {
        let mut host = Host::new();
        let uplink = host.provider.connect(&host.netlink, 1).await;
        host.netlink.settled().await;
        let before = host.netlink.snapshot().await;
        host.start(host.config());
        let first = host.up(1).await;

        host.advertise(uplink.index, SECOND).await;
        let both = host.up(2).await;
        assert_eq!(both[0], first[0], "the set stays");
        assert_eq!(both[1].prefix, format!("{SECOND}/64"));
        assert_eq!(prefix_of(&both[1]), both[1].prefix);
        assert!(!both[1].ulid);

        host.withdraw(uplink.index, SECOND).await;
        assert_eq!(host.up(1).await, first);
        assert!(!host.has(both[1].address).await);
        host.stop().await;
        assert_eq!(host.netlink.snapshot().await, before);
    });
}

#[test]
fn a_second_uplink_is_used_as_soon_as_it_is_there() {
    let name = "daemon::tests::follow::a_second_uplink_is_used_as_soon_as_it_is_there";
    isolated(name, || async {
        let mut host = Host::new();
        host.provider.connect(&host.netlink, 1).await;
        host.start(host.config());
        host.up(1).await;
        host.provider.connect(&host.netlink, 2).await;
        let both = host.up(2).await;
        assert_eq!(both[1].interface, "eth2");
        host.stop().await;
        // The next start is for both.
        host.start(host.config());
        let both = host.up(2).await;
        assert!(both.iter().all(|uplink| uplink.ulid));
        host.stop().await;
    });
}

#[test]
fn without_any_uplink_the_daemon_waits_for_one() {
    let name = "daemon::tests::follow::without_any_uplink_the_daemon_waits_for_one";
    isolated(name, || async {
        let mut host = Host::new();
        host.start(host.config());
        let says_so = |status: &Status| {
            status
                .problems
                .iter()
                .any(|problem| problem.contains("no uplink found"))
        };
        assert_eq!(host.status(says_so).await.uplinks, []);
        host.provider.connect(&host.netlink, 1).await;
        let uplinks = host.up(1).await;
        assert!(uplinks[0].ulid);
        let status = host.status(|_| true).await;
        assert_eq!(status.problems, Vec::<String>::new());
        host.stop().await;
    });
}

#[test]
fn configured_uplink_that_is_absent_is_waited_for() {
    let name = "daemon::tests::follow::configured_uplink_that_is_absent_is_waited_for";
    isolated(name, || async {
        let mut host = Host::new();
        host.provider.connect(&host.netlink, 1).await;
        let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0xa2, 0, 0, 0, 0, 0);
        let mut config = host.config();
        config.uplinks = vec![
            configured("eth1", None, None),
            configured("eth2", Some(prefix), Some(GATEWAY)),
            configured("eth3", None, None),
        ];
        host.start(config);
        let is_waiting = |status: &Status| status.uplinks.iter().filter(|uplink| uplink.up).count() == 1;
        let status = host.status(is_waiting).await;
        assert_eq!(status.uplinks[1].interface, "eth2");
        assert!(!status.uplinks[1].up && status.uplinks[1].ulid);
        for absent in ["eth2", "eth3"] {
            let wanted = format!("uplink {absent}: there is no such interface");
            assert!(
                status.problems.iter().any(|problem| problem.contains(&wanted)),
                "{:?}",
                status.problems
            );
        }

        host.provider.connect(&host.netlink, 2).await;
        host.provider.connect(&host.netlink, 3).await;
        let uplinks = host.up(3).await;
        assert_eq!(uplinks[1].address, status.uplinks[1].address);
        assert!(!uplinks[2].ulid);
        assert_eq!(host.status(|_| true).await.problems, Vec::<String>::new());
        host.stop().await;
    });
}

#[test]
fn deprecated_prefix_is_used_by_no_new_session() {
    let name = "daemon::tests::follow::deprecated_prefix_is_used_by_no_new_session";
    isolated(name, || async {
        let mut host = Host::new();
        let uplink = host.provider.connect(&host.netlink, 1).await;
        host.advertise(uplink.index, SECOND).await;
        host.start(host.config());
        let uplinks = host.up(2).await;
        let ours = |address: Ipv6Addr| uplinks.iter().any(|uplink| uplink.address == address);
        assert!(ours(source()), "new sessions start from an address that can be moved");

        let chosen = daemon::uplink::prefix_of(source());
        let retired = AddressSpec {
            deprecated: true,
            ..fixed(uplink.index, plain(chosen), 64)
        };
        host.netlink.set_address(&retired).await.unwrap();
        let is_deprecated = async {
            loop {
                let listed = host.netlink.addresses().await.unwrap();
                let here = listed.iter().filter(|a| daemon::uplink::prefix_of(a.address) == chosen);
                if here.clone().count() == 2 && here.clone().all(|address| address.deprecated) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(crate::daemon::testing::LIMIT, is_deprecated)
            .await
            .expect("our address is not deprecated");
        assert!(ours(source()));
        assert_ne!(daemon::uplink::prefix_of(source()), chosen);
        assert_eq!(host.up(2).await.len(), 2, "sessions under way can use it");
        host.stop().await;
    });
}

#[test]
fn new_sessions_start_from_our_address_whatever_comes_after_it() {
    let name = "daemon::tests::follow::new_sessions_start_from_our_address_whatever_comes_after_it";
    isolated(name, || async {
        let mut host = Host::new();
        let uplink = host.provider.connect(&host.netlink, 1).await;
        host.start(host.config());
        let shown = host.up(1).await;
        assert_eq!(source(), shown[0].address);
        // Of several, the kernel takes the one that was added last.
        let later = Ipv6Addr::from_bits(plain(uplink.prefix).to_bits() + 7);
        host.netlink.add_address(&fixed(uplink.index, later, 64)).await.unwrap();
        assert_eq!(source(), shown[0].address);
        host.stop().await;
        assert_eq!(source(), later);
    });
}

#[test]
fn host_of_which_every_prefix_changes_gets_a_new_set() {
    let name = "daemon::tests::follow::host_of_which_every_prefix_changes_gets_a_new_set";
    isolated(name, || async {
        let mut host = Host::new();
        let uplink = host.provider.connect(&host.netlink, 1).await;
        host.start(host.config());
        let first = host.up(1).await;
        host.advertise(uplink.index, SECOND).await;
        host.withdraw(uplink.index, uplink.prefix).await;
        let is_new =
            |uplinks: &[UplinkStatus]| uplinks.len() == 1 && uplinks[0].up && uplinks[0].ulid && uplinks[0] != first[0];
        let second = host.uplinks(is_new).await;
        assert_eq!(second[0].prefix, format!("{SECOND}/64"));

        // Back where it was, it is what it was.
        host.advertise(uplink.index, uplink.prefix).await;
        host.withdraw(uplink.index, SECOND).await;
        assert_eq!(host.uplinks(|uplinks| uplinks == first).await, first);
        host.stop().await;
    });
}

#[test]
fn renamed_uplink_stays_one_and_the_configuration_is_said_to_be_old() {
    let name = "daemon::tests::follow::renamed_uplink_stays_one_and_the_configuration_is_said_to_be_old";
    isolated(name, || async {
        let mut host = Host::new();
        let uplink = host.provider.connect(&host.netlink, 1).await;
        let mut config = host.config();
        config.uplinks = vec![configured("eth1", Some(uplink.prefix), None)];
        host.start(config);
        let before = host.up(1).await;
        host.netlink.set_down(uplink.index).await.unwrap();
        host.netlink.rename(uplink.index, "wan0").await.unwrap();
        host.netlink.set_up(uplink.index).await.unwrap();
        host.netlink.add_route(&default_route(uplink.index)).await.unwrap();
        let is_renamed = |status: &Status| {
            let problems = status.problems.iter();
            let says_so = problems
                .filter(|problem| problem.contains("eth1") && problem.contains("wan0"))
                .count()
                == 1;
            says_so && status.uplinks.len() == 1 && status.uplinks[0].interface == "wan0" && status.uplinks[0].up
        };
        let status = host.status(is_renamed).await;
        assert_eq!(status.uplinks[0].address, before[0].address);
        host.stop().await;
    });
}

#[test]
fn packets_leave_by_the_uplink_that_owns_their_source() {
    let name = "daemon::tests::follow::packets_leave_by_the_uplink_that_owns_their_source";
    isolated(name, || async {
        let mut host = Host::new();
        let one = host.provider.connect(&host.netlink, 1).await;
        let two = host.provider.connect(&host.netlink, 2).await;
        host.netlink.settled().await;
        let before = (host.netlink.snapshot().await, host.netlink.labels().await.unwrap());
        let netlink = host.netlink.clone();
        let output = async |source| netlink.output_for(source, PEER, 0).await.unwrap().unwrap().0;
        assert_eq!(output(plain(two.prefix)).await, one.index, "without the daemon");
        host.start(host.config());
        let uplinks = host.up(2).await;
        for (uplink, shown) in [&one, &two].into_iter().zip(&uplinks) {
            assert_eq!(output(plain(uplink.prefix)).await, uplink.index);
            assert_eq!(output(shown.address).await, uplink.index);
        }
        host.stop().await;
        let after = (host.netlink.snapshot().await, host.netlink.labels().await.unwrap());
        assert_eq!(after, before);
    });
}

#[test]
fn address_and_routes_that_somebody_takes_away_are_brought_back() {
    let name = "daemon::tests::follow::address_and_routes_that_somebody_takes_away_are_brought_back";
    isolated(name, || async {
        let mut host = Host::new();
        let uplink = host.provider.connect(&host.netlink, 1).await;
        host.start(host.config());
        let shown = host.up(1).await;
        host.netlink
            .delete_address(uplink.index, shown[0].address, 128)
            .await
            .unwrap();
        let prefix_route = RouteSpec {
            source: Some((uplink.prefix, 64)),
            metric: None,
            ..default_route(uplink.index)
        };
        host.netlink.delete_route(&prefix_route).await.unwrap();
        let is_back = async {
            loop {
                let routes = host.netlink.routes(crate::netlink::MAIN_TABLE).await.unwrap();
                let is_routed = routes.iter().any(|route| prefix_route.describes(route));
                if is_routed && host.has(shown[0].address).await {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(crate::daemon::testing::LIMIT, is_back)
            .await
            .expect("they are not brought back");
        assert_eq!(host.up(1).await, shown);
        host.stop().await;
    });
}

#[test]
fn router_of_an_uplink_is_followed() {
    let name = "daemon::tests::follow::router_of_an_uplink_is_followed";
    isolated(name, || async {
        let mut host = Host::new();
        let uplink = host.provider.connect(&host.netlink, 1).await;
        host.start(host.config());
        host.up(1).await;
        let other = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
        host.netlink
            .add_route(&RouteSpec {
                gateway: Some(other),
                metric: Some(512),
                ..default_route(uplink.index)
            })
            .await
            .unwrap();
        host.uplinks(|uplinks| uplinks.len() == 1 && uplinks[0].up && uplinks[0].gateway == Some(other))
            .await;
        host.stop().await;
    });
}

#[test]
fn address_that_another_host_has_taken_meanwhile_is_replaced() {
    let name = "daemon::tests::follow::address_that_another_host_has_taken_meanwhile_is_replaced";
    isolated(name, || async {
        let mut host = Host::new();
        let uplink = host.provider.connect(&host.netlink, 1).await;
        let mut config = host.config();
        config.addresses.dad = true;
        host.start(config);
        let first = host.up(1).await;
        let far = host.provider.netlink.link("isp1").await.unwrap().index;
        // The link goes down, and meanwhile another host takes the address.
        host.netlink.set_down(uplink.index).await.unwrap();
        host.uplinks(|uplinks| !uplinks[0].up).await;
        host.provider
            .netlink
            .add_address(&fixed(far, first[0].address, 64))
            .await
            .unwrap();
        host.netlink.set_up(uplink.index).await.unwrap();
        host.advertise(uplink.index, uplink.prefix).await;
        host.netlink.add_route(&default_route(uplink.index)).await.unwrap();
        // By a signed one at first; that is no ULID, so there is a new set then.
        let is_replaced = |uplinks: &[UplinkStatus]| {
            uplinks.len() == 1 && uplinks[0].up && uplinks[0].ulid && uplinks[0].address != first[0].address
        };
        let second = host.uplinks(is_replaced).await;
        assert_eq!(second[0].prefix, first[0].prefix);
        host.stop().await;
    });
}

#[test]
fn labels_that_a_killed_run_has_left_are_removed() {
    let name = "daemon::tests::follow::labels_that_a_killed_run_has_left_are_removed";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let label = |address, length, label| LabelSpec {
            prefix: (address, length),
            label,
        };
        let foreign = [
            label(PEER, 128, 77),
            label(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 0), 48, 78),
        ];
        for foreign in &foreign {
            netlink.add_label(foreign).await.unwrap();
        }
        let before = netlink.labels().await.unwrap();
        assert!(foreign.iter().all(|foreign| before.contains(foreign)));
        netlink.add_label(&label(SECOND, 64, LABEL)).await.unwrap();
        netlink.add_label(&label(plain(SECOND), 128, 1)).await.unwrap();
        assert_eq!(daemon::ledger::remove_leftovers(&netlink).await.unwrap(), 2);
        assert_eq!(netlink.labels().await.unwrap(), before);
    });
}

/// A socket of a router on `isp9`, and its advertisement of a prefix.
fn router(provider: &Provider, router: Ipv6Addr, prefix: Ipv6Addr) -> (Socket, Vec<u8>) {
    let open = || {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        let interface = nix::net::if_::if_nametoindex("isp9")?;
        socket.set_multicast_if_v6(interface)?;
        socket.set_multicast_hops_v6(255)?;
        socket.bind(&SocketAddrV6::new(router, 0, 0, interface).into())?;
        std::io::Result::Ok(socket)
    };
    let socket = provider.namespace.run(open).unwrap().unwrap();
    // A default router, for half an hour.
    let mut message = vec![134, 0, 0, 0, 64, 0, 7, 8];
    message.extend([0; 8]);
    message.extend([3, 4, 64, 0xc0]);
    message.extend(7200_u32.to_be_bytes());
    message.extend(3600_u32.to_be_bytes());
    message.extend([0; 4]);
    message.extend(prefix.octets());
    (socket, message)
}

#[test]
fn of_two_routers_on_a_link_each_gets_what_is_sent_from_its_prefix() {
    let name = "daemon::tests::follow::of_two_routers_on_a_link_each_gets_what_is_sent_from_its_prefix";
    isolated(name, || async {
        let mut host = Host::new();
        let other_router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
        let first = Ipv6Addr::new(0x2001, 0xdb8, 0xa9, 0, 0, 0, 0, 0);
        let namespace = std::os::fd::AsFd::as_fd(&host.provider.namespace);
        host.netlink.add_veth("eth9", "isp9", Some(namespace)).await.unwrap();
        let far = host.provider.netlink.link("isp9").await.unwrap().index;
        host.provider.netlink.set_up(far).await.unwrap();
        let near = host.netlink.link("eth9").await.unwrap().index;
        host.netlink.set_up(near).await.unwrap();
        for router in [GATEWAY, other_router] {
            let address = fixed(far, router, 64);
            host.provider.netlink.add_address(&address).await.unwrap();
        }
        let routers = [
            router(&host.provider, GATEWAY, first),
            router(&host.provider, other_router, SECOND),
        ];
        let all_nodes = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, far);
        let advertising = tokio::spawn(async move {
            let mut tick = tokio::time::interval(std::time::Duration::from_millis(50));
            loop {
                tick.tick().await;
                for (socket, message) in &routers {
                    let _ = socket.send_to(message, &all_nodes.into());
                }
            }
        });
        host.start(host.config());
        let shown = host.up(2).await;
        let gateway = |prefix: Ipv6Addr| {
            let wanted = format!("{prefix}/64");
            shown
                .iter()
                .find(|uplink| uplink.prefix == wanted)
                .and_then(|uplink| uplink.gateway)
        };
        assert_eq!(gateway(first), Some(GATEWAY));
        assert_eq!(gateway(SECOND), Some(other_router));
        advertising.abort();
        host.stop().await;
    });
}
