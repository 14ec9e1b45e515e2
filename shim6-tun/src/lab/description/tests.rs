//! What a description says, what is refused, and what is made of it.

use std::net::Ipv6Addr;
use std::path::Path;

use super::*;

const HOME: &str = r#"
seed = 7

[[host]]
name = "a"

[[host]]
name = "b"

[[isp]]
name = "fibre"

[[isp]]
name = "lte"

[[router]]
name = "core"

[[link]]
ends = ["a", "fibre"]
prefix = "2001:db8:a1::/64"
rate = "100 Mbit/s"
delay = "5ms"
up = { rate = "20 Mbit/s" }
down = { loss = "0.5%" }
ingress_filter = "own"

[[link]]
name = "mobile"
ends = ["a", "lte"]
interfaces = ["wwan0", "customer"]
advertise = true
firewall = ["stateful", "drop-shim6"]

[[link]]
ends = ["fibre", "core"]
mtu = 1400

[[link]]
ends = ["lte", "core"]
nptv6 = { inside = "fd00::/48", outside = "2001:db8:9::/48" }

[[link]]
ends = ["core", "b"]
plain = true
"#;

fn parse(text: &str) -> Result<Description, ConfigError> {
    Description::parse(Path::new("lab.toml"), text)
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// The first problem of a text.
fn refusal(text: &str) -> String {
    parse(text).expect_err("this should be refused").to_string()
}

#[test]
fn a_file_says_what_a_builder_says() {
    let [rate, slow] = ["rate=100Mbit/s", "rate=20Mbit/s"].map(|text| text.parse().unwrap());
    let access = Impairment::default().with(rate).with("delay=5ms".parse().unwrap());
    let prefix: Prefix = "2001:db8:a1::/64".parse().unwrap();
    let built = Description::new()
        .seed(7)
        .host("a")
        .host("b")
        .isp("fibre")
        .isp("lte")
        .router("core")
        .link(
            LinkSpec::between("a", "fibre")
                .prefix(prefix)
                .impaired_one_way(Direction::Up, access.with(slow))
                .impaired_one_way(Direction::Down, access.with("loss=0.5%".parse().unwrap()))
                .element(Element::IngressFilter(vec![prefix])),
        )
        .link(
            LinkSpec::between("a", "lte")
                .named("mobile")
                .interfaces("wwan0", "customer")
                .advertised()
                .element(Element::Stateful)
                .element(Element::DropShim6),
        )
        .link(LinkSpec::between("fibre", "core").set("mtu=1400".parse().unwrap()))
        .link(LinkSpec::between("lte", "core").element(Element::Nptv6 {
            inside: "fd00::/48".parse().unwrap(),
            outside: "2001:db8:9::/48".parse().unwrap(),
        }))
        .link(LinkSpec::between("core", "b").plain());
    assert_eq!(parse(HOME).unwrap(), built);
    built.check().unwrap();
}

#[test]
fn names_addresses_and_routes_follow_from_a_description() {
    let plan = Plan::of(&parse(HOME).unwrap());
    let interfaces: Vec<_> = plan
        .links
        .iter()
        .map(|link| link.interfaces.clone().map(|name| name))
        .collect();
    assert_eq!(interfaces[0], ["eth0", "a"]);
    assert_eq!(interfaces[1], ["wwan0", "customer"]);
    assert_eq!(interfaces[2], ["core", "fibre"]);
    assert_eq!(interfaces[4], ["b", "eth0"]);
    let addresses: Vec<_> = plan.links.iter().map(|link| link.addresses).collect();
    assert_eq!(
        addresses[0],
        [Some(address("2001:db8:a1::1")), Some(address("2001:db8:a1::ffff"))]
    );
    // The host's comes from advertisements.
    assert_eq!(addresses[1], [None, Some(address("2001:db8:1::ffff"))]);
    assert_eq!(addresses[2], [None, None]);
    assert_eq!(
        addresses[4],
        [Some(address("2001:db8:2::ffff")), Some(address("2001:db8:2::1"))]
    );
    // Both ISPs have one way out. The core knows each prefix, and what the translator has outside.
    assert_eq!(plan.nodes[2].routes, [(Destination::Everywhere, 2)]);
    assert_eq!(plan.nodes[3].routes, [(Destination::Everywhere, 3)]);
    let core = plan.nodes[4].routes.iter().map(|(to, by)| match to {
        Destination::Prefix(prefix) => (prefix.to_string(), *by),
        Destination::Everywhere => ("everywhere".to_owned(), *by),
    });
    let core: Vec<_> = core.collect();
    assert_eq!(
        core,
        [
            ("2001:db8:1::/64".to_owned(), 3),
            ("2001:db8:9::/48".to_owned(), 3),
            ("2001:db8:a1::/64".to_owned(), 2),
        ]
    );
}

#[test]
fn what_is_inside_of_a_translation_is_not_known_outside() {
    let description = Description::new()
        .host("a")
        .router("home")
        .isp("isp")
        .router("core")
        .host("b")
        .link(LinkSpec::between("a", "home").prefix("fd00:a:0:1::/64".parse().unwrap()))
        .link(LinkSpec::between("home", "isp").element(Element::Nptv6 {
            inside: "fd00:a::/48".parse().unwrap(),
            outside: "2001:db8:a::/48".parse().unwrap(),
        }))
        .link(LinkSpec::between("isp", "core"))
        .link(LinkSpec::between("b", "core"));
    description.check().unwrap();
    let plan = Plan::of(&description);
    let leads = |node: usize, prefix: &str| {
        let wanted = Destination::Prefix(prefix.parse().unwrap());
        plan.nodes[node]
            .routes
            .iter()
            .find(|(to, _)| *to == wanted)
            .map(|(_, by)| *by)
    };
    assert_eq!(plan.nodes[1].routes, [(Destination::Everywhere, 1)]);
    assert_eq!(
        (leads(2, "2001:db8:a::/48"), leads(2, "fd00:a:0:1::/64")),
        (Some(1), None)
    );
    assert_eq!(plan.nodes[3].routes, [(Destination::Everywhere, 2)]);
}

#[test]
fn what_is_not_understood_is_refused_with_its_line() {
    for (text, says) in [
        (
            "[[hots]]\nname = \"a\"",
            "lab.toml:1: hots: unknown key; did you mean host?",
        ),
        (
            "[[host]]\nname = \"a\"\nnmae = 1",
            "lab.toml:3: host.nmae: unknown key; did you mean name?",
        ),
        (
            "[[link]]\nends = [\"a\"]",
            "lab.toml:2: link.ends: these are not two nodes",
        ),
        (
            "[[link]]\nends = [\"a\", \"b\"]\ndealy = \"1ms\"",
            "link.dealy: unknown key; did you mean delay?",
        ),
        (
            "[[link]]\nends = [\"a\", \"b\"]\ndelay = 20",
            "link.delay: \"20\" is no duration",
        ),
        (
            "[[link]]\nends = [\"a\", \"b\"]\nup = { loss = \"2\" }",
            "up.loss: \"2\" is no share",
        ),
        (
            "[[link]]\nends = [\"a\", \"b\"]\nfirewall = \"statefull\"",
            "did you mean stateful?",
        ),
        (
            "[[link]]\nends = [\"a\", \"b\"]\ningress_filter = \"own\"",
            "this link has no prefix of its own",
        ),
        (
            "[[link]]\nends = [\"a\", \"b\"]\nnptv6 = { inside = \"fd00::/48\" }",
            "nptv6.outside: is missing",
        ),
        ("seed = -1", "lab.toml:1: seed: -1 is out of range"),
        ("name: a", "this is not TOML"),
    ] {
        let error = refusal(text);
        assert!(error.contains(says), "{text:?}: {error}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    let nodes = "[[host]]\nname = \"a\"\n[[isp]]\nname = \"fibre\"\n[[router]]\nname = \"core\"\n\
                 [[link]]\nends = [\"fibre\", \"core\"]\n[[link]]\nname = \"l\"\nends = [\"a\", \"fibre\"]\n";
    parse(nodes).unwrap();
    for (more, says) in [
        (
            "[[host]]\nname = \"a\"",
            "lab.toml:13: host.name: there is another node \"a\"",
        ),
        ("[[host]]\nname = \"A B\"", "\"A B\" is no name for a node"),
        ("[[host]]\nname = \"c\"", "\"c\" is on no link"),
        (
            "[[link]]\nends = [\"a\", \"fiber\"]",
            "there is no node \"fiber\"; did you mean \"fibre\"?",
        ),
        ("[[link]]\nends = [\"a\", \"a\"]", "expected two different nodes"),
        (
            "[[link]]\nname = \"l\"\nends = [\"a\", \"core\"]",
            "lab.toml:13: link.name: there is another link \"l\"",
        ),
        ("prefix = \"2001:db8::/48\"", "it is not a /64"),
        (
            "prefix = \"2001:db8::/64\"\naddress = \"2001:db8:1::1\"",
            "is not for the host of this link",
        ),
        ("plain = true\ndelay = \"1ms\"", "a plain link does nothing"),
        ("interfaces = [\"lo\", \"x\"]", "\"lo\" is no name for an interface"),
        (
            "nptv6 = { inside = \"fd00::/48\", outside = \"2001:db8::/48\" }",
            "one of the ends is a host",
        ),
        (
            "[[link]]\nname = \"m\"\nends = [\"core\", \"fibre\"]\nadvertise = true",
            "this is no link between a router and a host",
        ),
        (
            "[[link]]\nname = \"m\"\nends = [\"core\", \"fibre\"]\nprefix = \"2001:db8::/64\"",
            "there is no host on this link",
        ),
        (
            "[[link]]\nname = \"m\"\nends = [\"core\", \"fibre\"]\nnptv6 = { inside = \"fd00::/48\", outside = \"fd01::/56\" }",
            "expected prefixes of the same length",
        ),
        (
            "prefix = \"2001:db8::/64\"\n[[link]]\nends = [\"a\", \"core\"]\nprefix = \"2001:db8::/64\"",
            "lab.toml:15: link.prefix: 2001:db8::/64 overlaps 2001:db8::/64 of link \"l\"",
        ),
    ] {
        let error = refusal(&format!("{nodes}{more}"));
        assert!(error.contains(says), "{more:?}: {error}");
    }
    assert!(refusal("").contains("there is no node"));
    let error = Description::new().host("a").check().unwrap_err();
    assert_eq!(
        error,
        "node \"a\": name: \"a\" is on no link; expected a [[link]] with ends = [\"a\", …]"
    );
}
