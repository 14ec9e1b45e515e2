//! Labs from descriptions: their packets, elements, failures and captures.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::traffic::soon;
use crate::lab::{Break, Description, Direction, Host, Lab, LabError, LinkSpec, LinkState, NodeKind, Prefix, isolated};
use crate::netlink::{Change, MAIN_TABLE};

/// Longer than this machine takes for a packet, however busy it is.
const LONG: Duration = Duration::from_secs(5);
/// Long enough for a packet that would come to have come, in most cases: tests that wait so long for one that must not come can only
/// pass wrongly, never fail wrongly.
const SHORT: Duration = Duration::from_millis(100);

/// Hosts a and b, each at an ISP; what the link of a says is added.
fn description(link: &str) -> Description {
    let text = format!(
        "[[host]]\nname = \"a\"\n[[host]]\nname = \"b\"\n[[isp]]\nname = \"x\"\n[[isp]]\nname = \"y\"\n\
         [[link]]\nends = [\"x\", \"y\"]\n[[link]]\nends = [\"b\", \"y\"]\nprefix = \"2001:db8:b::/64\"\n\
         [[link]]\nname = \"l\"\nends = [\"a\", \"x\"]\nprefix = \"2001:db8:a::/64\"\n{link}\n"
    );
    Description::parse(Path::new("test.toml"), &text).unwrap()
}

/// A socket on an uplink of a host that sends through it.
fn socket(host: &Host, uplink: usize) -> UdpSocket {
    let uplink = &host.uplinks[uplink];
    let open = || {
        let socket = UdpSocket::bind(SocketAddr::from((uplink.address, 0)))?;
        SockRef::from(&socket).bind_device(Some(uplink.interface.as_bytes()))?;
        std::io::Result::Ok(socket)
    };
    host.namespace.run(open).unwrap().unwrap()
}

/// Whether a datagram arrives in time, and where it seems to come from.
fn arrives(from: &UdpSocket, to: &UdpSocket, octets: usize, limit: Duration) -> Option<SocketAddr> {
    to.set_read_timeout(Some(limit)).unwrap();
    from.send_to(&vec![7; octets], to.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 2000];
    to.recv_from(&mut buffer).ok().map(|(_, from)| from)
}

fn pair(lab: &Lab) -> [UdpSocket; 2] {
    ["a", "b"].map(|host| socket(lab.host(host).unwrap(), 0))
}

#[test]
fn settings_hold_for_the_directions_that_they_are_given_for() {
    isolated(
        "lab::tests::network::settings_hold_for_the_directions_that_they_are_given_for",
        || async {
            let lab = Lab::up(&description("down = { delay = \"300ms\" }")).await.unwrap();
            let [a, b] = pair(&lab);
            let took = |from: &UdpSocket, to: &UdpSocket| {
                let started = Instant::now();
                arrives(from, to, 1, LONG).unwrap();
                started.elapsed()
            };
            let slow = Duration::from_millis(300);
            took(&a, &b);
            assert!(took(&a, &b) < slow);
            assert!(took(&b, &a) >= slow);
            let link = lab.link("l").unwrap();
            link.set(&[Direction::Down], &["delay=0ms".parse().unwrap()])
                .await
                .unwrap();
            assert!(took(&b, &a) < slow);
            link.set(&Direction::ALL, &["loss=100%".parse().unwrap()])
                .await
                .unwrap();
            assert_eq!(arrives(&a, &b, 1, SHORT), None);
            let status = lab.status().await.unwrap();
            let link = status.links.iter().find(|link| link.name == "l").unwrap();
            assert_eq!(
                (link.up.settings.as_str(), link.down.settings.as_str()),
                ("loss=100%", "loss=100%")
            );
            assert!(link.up.counters.lost >= 1, "{link:?}");
        },
    );
}

#[test]
fn a_broken_link_drops_silently_in_the_directions_that_are_broken() {
    isolated(
        "lab::tests::network::a_broken_link_drops_silently_in_the_directions_that_are_broken",
        || async {
            let lab = Lab::up(&description("")).await.unwrap();
            let [a, b] = pair(&lab);
            let link = lab.link("l").unwrap();
            assert!(arrives(&a, &b, 1, LONG).is_some());
            link.cut(Break::Blackhole, &[Direction::Up]).await.unwrap();
            assert_eq!(arrives(&a, &b, 1, SHORT), None);
            assert!(arrives(&b, &a, 1, LONG).is_some());
            let state = async || lab.status().await.unwrap().links[2].state;
            assert_eq!(state().await, LinkState::Blackhole);
            link.cut(Break::Blackhole, &Direction::ALL).await.unwrap();
            assert_eq!(arrives(&b, &a, 1, SHORT), None);
            link.heal().await.unwrap();
            assert!(arrives(&a, &b, 1, LONG).is_some());
            assert_eq!(state().await, LinkState::Up);
            assert!(link.emulator().unwrap().counters(Direction::Up).broken >= 1);
        },
    );
}

#[test]
fn a_link_that_is_down_has_no_carrier_until_it_is_healed() {
    isolated(
        "lab::tests::network::a_link_that_is_down_has_no_carrier_until_it_is_healed",
        || async {
            let spec = |link: LinkSpec| description("").node("p", NodeKind::Host, None).link(link);
            let plain = LinkSpec::between("y", "p").named("plain").plain();
            let lab = Lab::up(&spec(plain)).await.unwrap();
            for (host, name) in [("a", "l"), ("p", "plain")] {
                let netlink = lab.host(host).unwrap().namespace.netlink().unwrap();
                let mut monitor = lab.host(host).unwrap().namespace.monitor().unwrap();
                let link = lab.link(name).unwrap();
                let mut carrier = async |wanted: bool| {
                    while netlink.link("eth0").await.unwrap().running != wanted {
                        let _: Option<Change> = soon(monitor.next()).await;
                    }
                };
                carrier(true).await;
                link.cut(Break::LinkDown, &[]).await.unwrap();
                link.cut(Break::LinkDown, &[]).await.unwrap();
                carrier(false).await;
                link.heal().await.unwrap();
                carrier(true).await;
            }
            let [a, b] = pair(&lab);
            assert!(arrives(&a, &b, 1, LONG).is_some());
            let p = socket(lab.host("p").unwrap(), 0);
            assert!(arrives(&b, &p, 1, LONG).is_some());
            assert!(matches!(
                lab.link("plain").unwrap().capture(),
                Err(LabError::Plain { .. })
            ));
        },
    );
}

#[test]
fn an_mtu_makes_routers_answer_and_one_way_packets_vanish() {
    isolated(
        "lab::tests::network::an_mtu_makes_routers_answer_and_one_way_packets_vanish",
        || async {
            let lab = Lab::up(&description("")).await.unwrap();
            let [a, b] = pair(&lab);
            assert!(arrives(&b, &a, 1400, LONG).is_some());
            let link = lab.link("l").unwrap();
            link.set(&[Direction::Down], &["mtu=1300".parse().unwrap()])
                .await
                .unwrap();
            assert_eq!(arrives(&b, &a, 1400, SHORT), None);
            assert!(arrives(&a, &b, 1400, LONG).is_some());
            assert_eq!(link.emulator().unwrap().counters(Direction::Down).too_big, 1);
            link.set(&Direction::ALL, &["mtu=1300".parse().unwrap()]).await.unwrap();
            // The first one makes the ISP tell; the next ones come in fragments.
            let deadline = Instant::now() + LONG;
            while arrives(&b, &a, 1400, SHORT).is_none() {
                assert!(Instant::now() < deadline, "no fragments came");
            }
            assert_eq!(link.emulator().unwrap().counters(Direction::Down).too_big, 1);
        },
    );
}

#[test]
fn a_stateful_firewall_keeps_strangers_out() {
    isolated(
        "lab::tests::network::a_stateful_firewall_keeps_strangers_out",
        || async {
            let lab = Lab::up(&description("firewall = \"stateful\"")).await.unwrap();
            let [a, b] = pair(&lab);
            assert_eq!(arrives(&b, &a, 1, SHORT), None);
            assert!(arrives(&a, &b, 1, LONG).is_some());
            assert!(arrives(&b, &a, 1, LONG).is_some());
            let link = lab.link("l").unwrap();
            assert_eq!(link.emulator().unwrap().counters(Direction::Down).filtered, 1);
        },
    );
}

#[test]
fn hosts_configure_themselves_by_advertisements() {
    isolated(
        "lab::tests::network::hosts_configure_themselves_by_advertisements",
        || async {
            let lab = Lab::up(&description("advertise = true\nmtu = 1400")).await.unwrap();
            let host = lab.host("a").unwrap();
            let prefix: Prefix = "2001:db8:a::/64".parse().unwrap();
            assert!(prefix.contains(host.uplinks[0].address));
            assert_ne!(host.uplinks[0].address, prefix.with(1));
            let netlink = host.namespace.netlink().unwrap();
            let routes = netlink.routes(MAIN_TABLE).await.unwrap();
            let default = routes.iter().find(|route| route.is_default()).unwrap();
            assert_eq!(default.gateway, Some("fe80::1".parse().unwrap()));
            assert_eq!(netlink.link("eth0").await.unwrap().mtu, 1400);
            let [a, b] = pair(&lab);
            assert!(arrives(&a, &b, 1, LONG).is_some() && arrives(&b, &a, 1, LONG).is_some());
        },
    );
}

#[test]
fn a_capture_has_what_enters_and_what_became_of_it() {
    isolated(
        "lab::tests::network::a_capture_has_what_enters_and_what_became_of_it",
        || async {
            let lab = Lab::up(&description("")).await.unwrap();
            let [a, b] = pair(&lab);
            assert!(arrives(&a, &b, 1, LONG).is_some());
            let link = lab.link("l").unwrap();
            let capture = link.capture().unwrap();
            assert!(arrives(&a, &b, 321, LONG).is_some());
            link.cut(Break::Blackhole, &Direction::ALL).await.unwrap();
            assert_eq!(arrives(&b, &a, 321, SHORT), None);
            // Ethernet, IPv6 and UDP headers; neighbours may have had something to say.
            let of_ours = || {
                std::iter::from_fn(|| Some(capture.next_within(LONG).unwrap().expect("a frame in time")))
                    .find(|captured| captured.frame.len() == 14 + 40 + 8 + 321)
                    .unwrap()
            };
            let (there, back) = (of_ours(), of_ours());
            assert_eq!((there.direction, there.remark), (Direction::Up, None));
            assert_eq!(back.direction, Direction::Down);
            assert!(back.remark.unwrap().contains("broken"));
        },
    );
}

#[test]
fn names_that_there_are_not_are_refused_with_those_that_there_are() {
    isolated(
        "lab::tests::network::names_that_there_are_not_are_refused_with_those_that_there_are",
        || async {
            let lab = Lab::up(&description("")).await.unwrap();
            let says = |error: LabError| error.to_string();
            assert!(says(lab.link("x-z").unwrap_err()).contains("did you mean x-y?"));
            assert!(says(lab.host("isp").unwrap_err()).contains("expected one of a, b"));
            assert!(lab.node("x").is_ok() && lab.host("x").is_err());
            let error = Lab::up(&Description::new().host("a")).await.unwrap_err();
            assert!(says(error).contains("is on no link"));
        },
    );
}

#[test]
fn every_example_comes_up_and_its_hosts_reach_each_other() {
    isolated(
        "lab::tests::network::every_example_comes_up_and_its_hosts_reach_each_other",
        || async {
            let examples = examples();
            assert!(examples.len() >= 4, "{examples:?}");
            for path in examples {
                let lab = Lab::up(&Description::load(&path).unwrap()).await.unwrap();
                let hosts: Vec<_> = lab.nodes().iter().filter(|node| !node.kind().forwards()).collect();
                let [near, far] = [hosts[0], hosts[1]].map(|node| lab.host(node.name()).unwrap());
                for uplink in 0..near.uplinks.len() {
                    let (near, far) = (socket(near, uplink), socket(far, 0));
                    let deadline = Instant::now() + LONG;
                    // An uplink may lose some.
                    let source = loop {
                        assert!(Instant::now() < deadline, "{}: uplink {uplink}", path.display());
                        if let Some(source) = arrives(&near, &far, 10, LONG / 10) {
                            break source;
                        }
                    };
                    // Whatever a translator made of the address leads back.
                    far.send_to(b"answer", source).unwrap();
                    near.set_read_timeout(Some(LONG)).unwrap();
                    let answered = near.recv(&mut [0; 100]);
                    assert!(answered.is_ok(), "{}: uplink {uplink}", path.display());
                    let is_translated = source.ip() != near.local_addr().unwrap().ip();
                    assert_eq!(is_translated, path.ends_with("nptv6.toml"));
                }
            }
        },
    );
}

fn examples() -> Vec<PathBuf> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/examples/lab");
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
}

#[test]
fn the_example_of_the_guide_is_the_one_that_is_tested() {
    let read = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (tested, guide) = (read("tests/lab.rs"), read("../docs/lab.md"));
    let (_, example) = tested.split_once("\n\n").unwrap();
    assert!(guide.contains(&format!("```rust\n{example}```\n")));
}
