use super::*;

mod documentation;
mod files;
mod rules;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("shim6.toml"))
}

/// The whole message for a text that must be refused.
fn refused(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn an_empty_file_gives_the_defaults() {
    assert_eq!(parse("").expect("an empty file"), Config::default());
    assert_eq!(Config::default().reap.keepalive_interval(), Duration::from_millis(40));
    let rfc = parse("reap.profile = \"rfc\"").expect("a profile");
    assert_eq!(rfc.reap, ReapConfig::of(Profile::Rfc));
    assert_eq!(rfc.reap.keepalive_interval(), Duration::from_secs(5));
}

#[test]
fn broken_toml_names_the_line() {
    assert_eq!(
        refused("[tun]\nname = shim0\n"),
        "shim6.toml:2: this is not TOML: string values must be quoted, expected literal string; \
         expected lines such as key = \"value\" or [table]"
    );
    assert_eq!(
        refused("[tun]\nmtu = 1400\nmtu = 1500\n"),
        "shim6.toml:3: this is not TOML: duplicate key; expected lines such as key = \"value\" or [table]"
    );
}

#[test]
fn an_unknown_key_names_the_nearest_one() {
    assert_eq!(
        refused("[reap]\nsend_timout = \"1s\"\n"),
        "shim6.toml:2: reap.send_timout: unknown key; did you mean send_timeout?"
    );
    assert_eq!(
        refused("[stering]\n"),
        "shim6.toml:1: stering: unknown key; did you mean steering?"
    );
    assert_eq!(
        refused("[addresses]\nsec = 1\nprivacy = true\n"),
        "shim6.toml:3: addresses.privacy: unknown key; expected one of dad, sec, identity"
    );
    assert_eq!(
        refused("\"a\\nb\" = 1\n").lines().count(),
        1,
        "a key cannot break the line of its message"
    );
}

#[test]
fn a_wrong_type_names_both_types() {
    assert_eq!(
        refused("\n[tun]\nmtu = \"1492\"\n"),
        "shim6.toml:3: tun.mtu: is a string; expected an integer from 1280 to 65535"
    );
    assert_eq!(
        refused("[addresses]\ndad = 1\n"),
        "shim6.toml:2: addresses.dad: is an integer; expected true or false"
    );
    assert_eq!(
        refused("tun = 3\n"),
        "shim6.toml:1: tun: is an integer; expected a table, [tun]"
    );
    assert_eq!(
        refused("[uplink]\ninterface = \"eth0\"\n"),
        "shim6.toml:1: uplink: is a table; expected an array of tables, each starting with [[uplink]]"
    );
    assert_eq!(
        refused("uplink = [1]\n"),
        "shim6.toml:1: uplink: has an integer in it; expected an array of tables, each starting with [[uplink]]"
    );
    assert_eq!(
        refused("control_socket = 1\n"),
        "shim6.toml:1: control_socket: is an integer; \
         expected an absolute path of at most 107 octets, such as \"/run/shim6/shim6.sock\""
    );
}

#[test]
fn a_value_out_of_range_names_the_range() {
    assert_eq!(
        refused("[tun]\nmtu = 1279\n"),
        "shim6.toml:2: tun.mtu: 1279 is out of range; expected an integer from 1280 to 65535"
    );
    assert_eq!(
        refused("[addresses]\n\nsec = 3\n"),
        "shim6.toml:3: addresses.sec: 3 is out of range; expected an integer from 0 to 2"
    );
    assert_eq!(
        refused("[trigger]\npackets = -1\n"),
        "shim6.toml:2: trigger.packets: -1 is out of range; expected an integer, 0 or more"
    );
    assert_eq!(
        refused("[steering]\nfwmark = 0x1_0000_0000\n"),
        "shim6.toml:2: steering.fwmark: 0x100000000 is out of range; expected an integer from 1 to 4294967295"
    );
    assert_eq!(
        refused("[steering]\ntable = 254\n"),
        "shim6.toml:2: steering.table: 254 is one of the kernel's own tables; expected a table that nothing else uses"
    );
    assert_eq!(
        refused("[limits]\ncontexts = 99999999999999999999999999\n"),
        "shim6.toml:2: limits.contexts: 99999999999999999999999999 is out of range; \
         expected an integer from 1 to 1000000"
    );
}

#[test]
fn the_ends_of_each_range_are_in_it() {
    for text in [
        "tun.mtu = 1280",
        "tun.mtu = 65535",
        "tun.queues = 1",
        "tun.queues = 16",
        "trigger.octets = 9223372036854775807",
        "reap.send_timeout = \"50ms\"",
        "reap.send_timeout = \"100s\"",
        "steering.fwmark = 0xffff_ffff",
        "steering.rule_priority = 32765",
        "limits.contexts = 1",
        "limits.probes = 10",
        "failback = { interval = \"60s\", stable = \"1h\", max_stable = \"24h\", rate = 10000 }",
        "failback.interval = \"100ms\"",
        "reap = { profile = \"rfc\", follow_rtt = true }",
        "uplink = [{ interface = \"eth0\", priority = 255, weight = 255 }]",
        "icmp.deliver_all = true",
    ] {
        parse(text).expect(text);
    }
}

#[test]
fn a_bad_duration_says_what_is_wrong_with_it() {
    assert_eq!(
        refused("[reap]\nsend_timeout = \"soon\"\n"),
        "shim6.toml:2: reap.send_timeout: \"soon\" is no duration: expected number at 0; \
         expected a duration from 50ms to 1m 40s, such as \"50ms\""
    );
    assert_eq!(
        refused("[reap]\nsend_timeout = 15\n"),
        "shim6.toml:2: reap.send_timeout: is an integer; expected a duration from 50ms to 1m 40s, such as \"50ms\""
    );
    assert_eq!(
        refused("[reap]\nsend_timeout = \"10ms\"\n"),
        "shim6.toml:2: reap.send_timeout: \"10ms\" is out of range; \
         expected a duration from 50ms to 1m 40s, such as \"50ms\""
    );
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    assert_eq!(
        refused("[reap]\nsend_timeout = \"1s\"\nkeepalive_interval = \"1s\"\n"),
        "shim6.toml:3: reap.keepalive_interval: 1s is not below the send timeout; \
         expected less than reap.send_timeout, 1s"
    );
    assert_eq!(
        refused("[reap]\nprofile = \"rfc\"\nmax_probe_timeout = \"100ms\"\n"),
        "shim6.toml:1: reap.initial_probe_timeout: 500ms is above the longest probe timeout; \
         expected at most reap.max_probe_timeout, 100ms"
    );
    assert_eq!(
        refused("[failback]\ninterval = \"20s\"\nstable = \"10s\"\nmax_stable = \"5s\"\n"),
        "shim6.toml:3: failback.stable: 10s is below failback.interval; expected at least 20s\n\
         shim6.toml:4: failback.max_stable: 5s is below failback.stable; expected at least 10s"
    );
    assert_eq!(
        refused("[reap]\nprofile = \"quick\"\n"),
        "shim6.toml:2: reap.profile: \"quick\" is no profile; expected \"fast\" or \"rfc\""
    );
    assert_eq!(
        refused("[trigger]\npackets = 0\n"),
        "shim6.toml:2: trigger.packets: is 0 and so is trigger.octets, so that no context would ever be set up; \
         expected one of them above 0, or trigger.initiate = false"
    );
    assert_eq!(
        refused("[limits]\ncontexts = 4\ncontexts_per_peer = 5\n"),
        "shim6.toml:3: limits.contexts_per_peer: 5 is above the total; expected at most limits.contexts, 4"
    );
    let few = parse("limits.contexts = 4").expect("a small total alone");
    assert_eq!((few.limits.contexts_per_peer, few.limits.contexts_per_prefix), (4, 1));
    let long = parse("limits.quiescence = \"1h\"").expect("a duration");
    assert_eq!(long.limits.quiescence, Duration::from_secs(3_600));
    assert_eq!(
        refused("[limits]\nquiescence = \"10s\"\n"),
        "shim6.toml:2: limits.quiescence: \"10s\" is out of range; expected a duration from 5m to 30days, such as \"5m\""
    );
}

#[test]
fn a_bad_prefix_says_why() {
    let cases = [
        ("2001:db8:a1::/48", "\"2001:db8:a1::/48\" is not a /64"),
        ("2001:db8:a1::/064", "\"2001:db8:a1::/064\" is not a /64"),
        ("2001:db8:a1::", "\"2001:db8:a1::\" has no prefix length"),
        ("192.0.2.0/64", "\"192.0.2.0/64\" is not an IPv6 prefix"),
        ("ff02::/64", "ff02::/64 is multicast"),
        ("fe80::/64", "fe80::/64 is link-local"),
        ("::/64", "::/64 is reserved"),
        (
            "2001:db8:a1::1/64",
            "it has bits set after the first 64, whose prefix is \"2001:db8:a1::/64\"",
        ),
    ];
    for (prefix, wrong) in cases {
        let text = format!("[[uplink]]\ninterface = \"eth0\"\nprefix = \"{prefix}\"\n");
        let expected = "expected a unicast IPv6 /64 such as \"2001:db8:a1::/64\"";
        assert_eq!(
            refused(&text),
            format!("shim6.toml:3: uplink.prefix: {wrong}; {expected}")
        );
    }
}

#[test]
fn a_prefix_is_the_first_half_of_its_addresses() {
    let prefix: Prefix64 = "2001:db8:a1::/64".parse().expect("a prefix");
    assert_eq!(prefix.octets(), [0x20, 0x01, 0x0d, 0xb8, 0, 0xa1, 0, 0]);
    let inside: Ipv6Addr = "2001:db8:a1::1:2:3:4".parse().expect("an address");
    assert!(prefix.contains(inside));
    assert!(!prefix.contains("2001:db8:a1:1::1".parse().expect("an address")));
    assert_eq!(Prefix64::of(inside), prefix);
    assert_eq!(prefix.to_string(), "2001:db8:a1::/64");
}

#[test]
fn an_uplink_twice_is_refused() {
    assert_eq!(
        refused("[[uplink]]\ninterface = \"eth0\"\n[[uplink]]\ninterface = \"eth0\"\n"),
        "shim6.toml:4: uplink.interface: \"eth0\" is already on line 2; expected a different one in each [[uplink]]"
    );
    let same = "prefix = \"2001:db8::/64\"\n";
    assert_eq!(
        refused(&format!(
            "[[uplink]]\ninterface = \"eth0\"\n{same}[[uplink]]\ninterface = \"eth1\"\n{same}"
        )),
        "shim6.toml:6: uplink.prefix: \"2001:db8::/64\" is already on line 3; \
         expected a different one in each [[uplink]]"
    );
}

#[test]
fn an_uplink_needs_a_usable_interface() {
    let expected = "expected the name of a network interface, 1 to 15 octets, such as \"eth0\"";
    assert_eq!(
        refused("\n[[uplink]]\n"),
        format!("shim6.toml:2: uplink.interface: is missing; {expected}")
    );
    for (name, wrong) in [
        ("", "\"\" is 0 octets long"),
        ("sixteen-octets--", "\"sixteen-octets--\" is 16 octets long"),
        ("eth0/1", "\"eth0/1\" has a '/' in it"),
        ("..", "\"..\" is not a name"),
    ] {
        assert_eq!(
            refused(&format!("[[uplink]]\ninterface = \"{name}\"\n")),
            format!("shim6.toml:2: uplink.interface: {wrong}; {expected}")
        );
    }
    assert_eq!(
        refused("[[uplink]]\ninterface = \"shim0\"\n"),
        "shim6.toml:2: uplink.interface: \"shim0\" is the TUN device (tun.name); expected the interface of an uplink"
    );
    let many: String = (0..17)
        .map(|n| format!("[[uplink]]\ninterface = \"eth{n}\"\n"))
        .collect();
    assert_eq!(
        refused(&many),
        "shim6.toml:33: uplink: there are 17 uplinks; expected at most 16"
    );
}

#[test]
fn a_bad_gateway_says_why() {
    let refused = |gateway: &str| refused(&format!("[[uplink]]\ninterface = \"eth0\"\ngateway = \"{gateway}\"\n"));
    let expected = "expected the router's unicast IPv6 address, such as \"fe80::1\"";
    assert_eq!(
        refused("192.0.2.1"),
        format!("shim6.toml:3: uplink.gateway: \"192.0.2.1\" is not an IPv6 address; {expected}")
    );
    assert_eq!(
        refused("ff02::2"),
        format!("shim6.toml:3: uplink.gateway: ff02::2 is not the address of a router; {expected}")
    );
}

#[test]
fn a_bad_socket_path_says_why() {
    let expected = "expected an absolute path of at most 107 octets, such as \"/run/shim6/shim6.sock\"";
    assert_eq!(
        refused("control_socket = \"shim6.sock\""),
        format!("shim6.toml:1: control_socket: \"shim6.sock\" is not an absolute path of a file; {expected}")
    );
    assert_eq!(
        refused(&format!("control_socket = \"/{}\"", "x".repeat(107))),
        format!("shim6.toml:1: control_socket: is 108 octets long; {expected}")
    );
    assert_eq!(
        refused("control_socket = \"/run/\\u0000\""),
        format!("shim6.toml:1: control_socket: has a zero octet in it; {expected}")
    );
}

#[test]
fn every_problem_is_reported_in_the_order_of_the_file() {
    let text = "[reap]\ninitial_probes = 0\nunknown_thing = 1\n[tun]\nmtu = 1\n";
    let message = refused(text);
    let lines: Vec<&str> = message
        .lines()
        .map(|line| line.split(": ").next().expect("a place"))
        .collect();
    assert_eq!(lines, ["shim6.toml:2", "shim6.toml:3", "shim6.toml:5"]);
}

#[test]
fn a_file_that_cannot_be_taken_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("shim6.toml");
    let refused = |path: &Path| Config::load(path).expect_err("a bad file").to_string();
    let shown = path.display().to_string();
    assert_eq!(
        refused(&path),
        format!("the configuration {shown} cannot be read; check its name and its permissions")
    );
    std::fs::write(&path, b"# ok\nname = \"\xff\"\n").expect("a file");
    assert_eq!(
        refused(&path),
        format!("{shown}:2: this line is not UTF-8; expected a TOML file in UTF-8")
    );
    std::fs::write(&path, vec![b'#'; 1 << 20]).expect("a file");
    Config::load(&path).expect("one comment of exactly 1 MiB");
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).expect("a file");
    assert_eq!(
        refused(&path),
        format!("the configuration {shown} is larger than 1048576 octets; check that it is the right file")
    );
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        drop(parse(&text));
    }

    #[test]
    fn no_value_panics(value in "[-0-9a-z_\"'\\[\\]{}.:/ ]{0,24}") {
        for key in ["tun.mtu", "reap.send_timeout", "uplink", "control_socket", "limits.contexts"] {
            drop(parse(&format!("{key} = {value}")));
        }
    }
}

#[test]
fn sizes_of_keys_are_a_range() {
    let sizes = |text: &str| {
        parse(&format!("[limits]\n{text}"))
            .expect("sizes")
            .limits
            .peer_key_sizes
    };
    assert_eq!(sizes(""), shim6_cga::KeySizes::default());
    assert_eq!(
        (sizes("min_key_bits = 2048").min(), sizes("min_key_bits = 2048").max()),
        (2048, 3072)
    );
    assert_eq!(
        (sizes("min_key_bits = 4096").min(), sizes("min_key_bits = 4096").max()),
        (4096, 4096)
    );
    assert_eq!(
        refused("[limits]\nmin_key_bits = 2048\nmax_key_bits = 1024\n"),
        "shim6.toml:3: limits.max_key_bits: 1024 is below the least size; expected at least limits.min_key_bits, 2048"
    );
    assert_eq!(
        refused("[limits]\nmin_key_bits = 512\n"),
        "shim6.toml:2: limits.min_key_bits: 512 is out of range; expected an integer from 1024 to 4096"
    );
}

#[test]
fn identity_is_a_directory_or_none() {
    let identity = |text: &str| parse(&format!("[addresses]\nidentity = {text:?}")).map(|c| c.addresses.identity);
    assert_eq!(identity("none").expect("none"), None);
    assert_eq!(identity("/srv/shim6").expect("a path"), Some("/srv/shim6".into()));
    assert_eq!(
        refused("[addresses]\nidentity = \"keys\"\n"),
        "shim6.toml:2: addresses.identity: \"keys\" is not an absolute path; \
         expected an absolute path such as \"/var/lib/shim6/identity\", or \"none\""
    );
}

#[test]
fn one_context_holds_no_more_than_all() {
    let small = parse("[hold]\noctets = 4096\n").expect("a small total");
    assert_eq!((small.hold.octets, small.hold.octets_per_context), (4096, 4096));
    assert_eq!(
        refused("[hold]\noctets_per_context = 8192\noctets = 4096\nmax_age = \"2m\"\n"),
        "shim6.toml:2: hold.octets_per_context: 8192 is above the total; expected at most hold.octets, 4096\n\
         shim6.toml:4: hold.max_age: \"2m\" is out of range; expected a duration from 10ms to 1m, such as \"10ms\""
    );
    assert_eq!(
        refused("[hold]\noctets = 2047\n"),
        "shim6.toml:2: hold.octets: 2047 is out of range; expected an integer from 2048 to 1073741824"
    );
}

#[test]
fn the_method_of_observation_is_one_of_three() {
    let method = |name: &str| {
        parse(&format!("[observe]\nmethod = \"{name}\"\n"))
            .expect("a method")
            .observe
            .method
    };
    assert_eq!(method("auto"), ObserveMethod::Auto);
    assert_eq!(method("tap"), ObserveMethod::Tap);
    assert_eq!(method("ebpf"), ObserveMethod::Ebpf);
    assert_eq!(
        refused("[observe]\nmethod = \"xdp\"\n"),
        "shim6.toml:2: observe.method: \"xdp\" is no method; expected \"auto\", \"tap\" or \"ebpf\""
    );
}
