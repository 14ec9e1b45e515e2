use super::*;

const DOCS: &str = include_str!("../../../docs/configuration.md");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("shim6.toml"))
}

/// The whole message for a text that must be refused.
fn refused(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

/// The documented TOML examples, in order.
fn examples() -> Vec<&'static str> {
    DOCS.split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("a closed block"))
        .collect()
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
fn the_documented_defaults_are_the_built_in_ones() {
    assert_eq!(
        parse(examples()[0]).expect("the documented defaults"),
        Config::default()
    );
}

/// A text with its commented lines in force that are settings or tables.
fn uncommented(text: &str) -> String {
    let line = |line: &str| {
        let comment = line
            .strip_prefix('#')
            .map(|rest| rest.strip_prefix(' ').unwrap_or(rest));
        let is_code =
            |rest: &&str| rest.starts_with("[[") || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        comment.filter(is_code).unwrap_or(line).to_owned() + "\n"
    };
    text.lines().map(line).collect()
}

#[test]
fn the_documented_defaults_have_every_key() {
    let all = uncommented(examples()[0]);
    // With every comment in force, each documented value still has to be one that the reader takes.
    let config = parse(&all).expect("the documented keys");
    assert_eq!(
        (config.uplinks.len(), config.policies.len(), config.peers.len()),
        (1, 2, 1)
    );
    for key in keys::KEYS {
        let is_here = |line: &str| line.starts_with(&format!("{} = ", key.name));
        assert!(all.lines().any(is_here), "{} is not in the example", key.full());
    }
}

#[test]
fn the_documented_tables_are_made_of_the_description_of_the_keys() {
    let mut wanted = DOCS.to_owned();
    for table in keys::TABLES {
        let mark = format!("<!-- keys: {} -->\n", table.name);
        let (before, rest) = wanted.split_once(&mark).unwrap_or_else(|| panic!("no {mark}"));
        let (_, after) = rest.split_once("<!-- end -->").expect("an end");
        wanted = format!("{before}{mark}{}<!-- end -->{after}", render::markdown(table));
    }
    if wanted != DOCS {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let hint = "SHIM6_WRITE_DOCS=1 cargo test -p shim6-tun --lib documented_tables";
        assert!(
            std::env::var_os("SHIM6_WRITE_DOCS").is_some(),
            "the tables of {path} are old; write them with: {hint}"
        );
        std::fs::write(path, wanted).expect("the documentation");
    }
}

#[test]
fn every_key_that_is_read_is_described_and_every_described_one_is_read() {
    for table in keys::TABLES {
        let head = match (table.name, table.is_array) {
            ("", _) => String::new(),
            (name, true) => format!("[[{name}]]"),
            (name, false) => format!("[{name}]"),
        };
        // The reader lists the keys it knows when it meets one that is like no other.
        let message = refused(&format!("{head}\nzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz = 1"));
        let line = message
            .lines()
            .find(|line| line.contains("unknown key"))
            .expect("an unknown key");
        let (_, known) = line.split_once("expected one of ").expect("the known keys");
        let mut known: Vec<_> = known.split(", ").collect();
        known.retain(|name| !keys::TABLES.iter().any(|table| table.name == *name) || !table.name.is_empty());
        let mut described: Vec<_> = keys::of(table.name).map(|key| key.name).collect();
        known.sort_unstable();
        described.sort_unstable();
        assert_eq!(known, described, "[{}]", table.name);
    }
}

#[test]
fn the_commented_default_file_says_nothing_and_with_its_comments_in_force_the_defaults() {
    let text = default_file();
    assert_eq!(parse(&text).expect("the default file"), Config::default());
    // A rule has either ports or a say in answering.
    let without = |keys: &[&str]| {
        let lines = uncommented(&text);
        let is_kept = |line: &&str| !keys.iter().any(|key| line.starts_with(&format!("{key} = ")));
        lines
            .lines()
            .filter(is_kept)
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    parse(&without(&["ports", "protocols"])).expect("all but two keys of the default file");
    let mut all = parse(&without(&["answer"])).expect("all but one key of the default file");
    assert_eq!((all.uplinks.len(), all.policies.len(), all.peers.len()), (1, 1, 1));
    (all.uplinks, all.policies, all.peers) = (Vec::new(), Vec::new(), Vec::new());
    (all.tun.mtu, all.reap.keepalive_interval) = (None, None);
    assert_eq!(all, Config::default());
    for key in keys::KEYS {
        let line = format!("\n#{} = ", key.name);
        assert!(text.contains(&line), "{} is not there", key.full());
    }
    assert!(
        text.lines().all(|line| line.len() <= 100 || line.contains(" = ")),
        "{text}"
    );
}

#[test]
fn what_is_shown_says_the_same_and_where_it_is_set() {
    let text = "tun.mtu = 1400\n\n[reap]\nprofile = \"rfc\"\n[[uplink]]\ninterface = \"eth0\"\n[[uplink]]\ninterface = \"w\"\nmetered = true\n\
                [[policy]]\nports = [22, \"80-90\"]\n";
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("shim6.toml");
    std::fs::write(&path, text).expect("a file");
    let loaded = Source::new(Some(&path)).load().expect("a configuration");
    let shown = effective(&loaded);
    assert_eq!(parse(&shown).expect("what is shown"), loaded.config, "{shown}");
    let line = |start: &str| {
        shown
            .lines()
            .find(|line| line.starts_with(start))
            .expect(start)
            .to_owned()
    };
    assert!(line("mtu = 1400 ").ends_with("/shim6.toml:1"), "{shown}");
    assert!(line("ports = [22, \"80-90\"]").ends_with("/shim6.toml:11"), "{shown}");
    assert_eq!(line("queues"), "queues = 1");
    let json = effective_json(&loaded);
    assert_eq!(json["values"]["tun.mtu"]["value"], 1400);
    assert_eq!(json["values"]["uplink[1].metered"]["line"], 9);
    assert!(json["values"]["reap.send_timeout"]["file"].is_null());
}

#[test]
fn the_documented_example_is_taken() {
    parse(examples()[1]).expect("the rules");
    let config = parse(examples()[2]).expect("the example");
    assert_eq!(config.uplinks.len(), 3);
    assert_eq!((config.uplinks[2].priority, config.uplinks[2].metered), (255, true));
    assert_eq!(config.uplinks[1].interface, "eth1");
    assert_eq!(
        config.uplinks[1].prefix.map(|prefix| prefix.to_string()),
        Some("2001:db8:a2::/64".to_owned())
    );
    assert_eq!(config.uplinks[1].gateway, Some("fe80::1".parse().expect("an address")));
}

#[test]
fn the_documented_errors_are_the_real_ones() {
    let text =
        "\n\n[reap]\nsend_timout = \"1s\"\n\n\n[[uplink]]\ninterface = \"eth0\"\nprefix = \"2001:db8:a1::/48\"\n";
    for line in refused(text).lines() {
        assert!(DOCS.contains(&format!("\nshim6: {line}\n")), "not in the docs: {line}");
    }
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

/// A main file and drop-in files.
struct Files(tempfile::TempDir);

impl Files {
    fn new(main: &str, drop_ins: &[(&str, &str)]) -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        std::fs::write(files.main(), main).expect("a file");
        let directory = files.0.path().join("main.toml.d");
        std::fs::create_dir(&directory).expect("a directory");
        for (name, text) in drop_ins {
            std::fs::write(directory.join(name), text).expect("a file");
        }
        files
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("main.toml")
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        Source::new(Some(&self.main())).load()
    }

    /// The message of an error, with names of files only.
    fn refused(&self) -> String {
        let message = self.load().expect_err("a bad configuration").to_string();
        message.replace(&format!("{}/", self.0.path().display()), "")
    }

    /// The places and keys of all warnings.
    fn warned(&self) -> Vec<String> {
        let warnings = self.load().expect("a configuration").warnings;
        let name = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        warnings
            .iter()
            .map(|w| format!("{}:{}:{}", name(&w.file), w.line, w.key))
            .collect()
    }
}

#[test]
fn drop_in_files_are_read_after_the_main_file_in_the_order_of_their_names() {
    let files = Files::new(
        "[tun]\nmtu = 1400\nname = \"a\"\n[trigger]\npackets = 1\n",
        &[
            ("20-b.toml", "[tun]\nname = \"c\"\n"),
            ("10-a.toml", "[tun]\nname = \"b\"\nqueues = 2\n[trigger]\npackets = 2\n"),
            (".hidden.toml", "not = TOML"),
            ("30-c.toml.bak", "not = TOML"),
        ],
    );
    let loaded = files.load().expect("a configuration");
    let tun = &loaded.config.tun;
    assert_eq!((tun.name.as_str(), tun.mtu, tun.queues), ("c", Some(1400), 2));
    assert_eq!(loaded.config.trigger.packets, 2);
    let names: Vec<_> = loaded
        .files
        .iter()
        .map(|path| path.file_name().expect("a name"))
        .collect();
    assert_eq!(names, ["main.toml", "10-a.toml", "20-b.toml"]);
    let origin = |key| loaded.origin(key).map(|origin| (origin.file.clone(), origin.line));
    assert_eq!(origin("tun.name"), Some((loaded.files[2].clone(), 2)));
    assert_eq!(origin("tun.mtu"), Some((files.main(), 2)));
    assert_eq!(origin("steering.table"), None);
    assert!(
        files.warned().contains(&"30-c.toml.bak:1:".to_owned()),
        "{:?}",
        files.warned()
    );
}

#[test]
fn errors_name_the_file_that_they_are_in_and_all_files_are_reported() {
    let files = Files::new(
        "[tun]\nmtu = 1\n[reap]\nsend_timeout = \"60ms\"\n",
        &[
            ("1.toml", "\n[tun]\nmtu = 1400\nmtuu = 1\n"),
            ("2.toml", "[reap\n"),
            ("3.toml", "reap.keepalive_interval = \"70ms\"\n"),
        ],
    );
    let message = files.refused();
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines.len(), 4, "{message}");
    assert_eq!(
        lines[0],
        "main.toml:2: tun.mtu: 1 is out of range; expected an integer from 1280 to 65535"
    );
    assert_eq!(
        lines[1],
        "main.toml.d/1.toml:4: tun.mtuu: unknown key; did you mean mtu?"
    );
    assert!(
        lines[2].starts_with("main.toml.d/2.toml:1: this is not TOML: "),
        "{message}"
    );
    assert_eq!(
        lines[3],
        "main.toml.d/3.toml:1: reap.keepalive_interval: 70ms is not below the send timeout; \
         expected less than reap.send_timeout, 60ms"
    );
}

#[test]
fn an_uplink_or_peer_of_a_later_file_adds_to_that_of_an_earlier_one_and_rules_come_behind() {
    let files = Files::new(
        "[[uplink]]\ninterface = \"eth0\"\nweight = 1\n[[uplink]]\ninterface = \"wwan0\"\n[[policy]]\nports = 22\n\
         [[peer]]\nprefix = \"2001:db8::/32\"\nprofile = \"rfc\"\n",
        &[
            (
                "1.toml",
                "[[uplink]]\ninterface = \"wwan0\"\nmetered = true\n[[uplink]]\ninterface = \"eth1\"\n",
            ),
            (
                "2.toml",
                "[[policy]]\nports = 80\n[[peer]]\nprefix = \"2001:db8::/32\"\ncontexts_per_peer = 7\n",
            ),
        ],
    );
    let loaded = files.load().expect("a configuration");
    let uplinks: Vec<_> = loaded
        .config
        .uplinks
        .iter()
        .map(|u| (u.interface.as_str(), u.metered, u.weight))
        .collect();
    assert_eq!(uplinks, [("eth0", false, 1), ("wwan0", true, 0), ("eth1", false, 0)]);
    let ports: Vec<_> = loaded
        .config
        .policies
        .iter()
        .map(|policy| policy.ports[0].clone())
        .collect();
    assert_eq!(ports, [22..=22, 80..=80]);
    let [peer] = &loaded.config.peers[..] else {
        panic!("one peer")
    };
    assert_eq!((peer.reap.profile, peer.contexts_per_peer), (Profile::Rfc, Some(7)));
    assert_eq!(loaded.origin("uplink[1].metered").map(|origin| origin.line), Some(3));
    // Twice in one file is a mistake.
    let files = Files::new(
        "",
        &[(
            "1.toml",
            "[[uplink]]\ninterface = \"a\"\n[[uplink]]\ninterface = \"a\"\n",
        )],
    );
    assert!(
        files
            .refused()
            .contains("1.toml:4: uplink.interface: \"a\" is already on line 2"),
        "{}",
        files.refused()
    );
}

#[test]
fn the_default_file_may_be_missing_and_its_drop_ins_still_count() {
    let files = Files::new("", &[("1.toml", "tun.mtu = 1300\n")]);
    std::fs::remove_file(files.main()).expect("it is there");
    let optional = Source {
        path: files.main(),
        required: false,
    };
    assert_eq!(optional.load().expect("a configuration").config.tun.mtu, Some(1300));
    assert!(
        files
            .refused()
            .starts_with("the configuration main.toml cannot be read"),
        "{}",
        files.refused()
    );
    // A drop-in file that cannot be read is never passed over.
    let directory = optional.drop_in_directory();
    std::os::unix::fs::symlink("/nonexistent/file", directory.join("2.toml")).expect("a link");
    assert!(
        optional
            .load()
            .expect_err("a dangling link")
            .to_string()
            .contains("2.toml cannot be read")
    );
    std::fs::remove_file(directory.join("2.toml")).expect("it is there");
    std::os::unix::fs::symlink("/dev/null", directory.join("2.toml")).expect("a link");
    optional.load().expect("a masked file");
    std::fs::create_dir(directory.join("3.toml")).expect("a directory");
    assert!(
        optional
            .load()
            .expect_err("a directory")
            .to_string()
            .contains("3.toml cannot be read")
    );
}

#[test]
fn a_pipe_in_place_of_a_file_holds_nobody_up() {
    let files = Files::new("", &[]);
    let pipe = files.0.path().join("main.toml.d/1.toml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    assert_eq!(files.load().expect("an empty file").config, Config::default());
}

#[test]
fn rules_are_read_with_one_value_or_several() {
    let config = parse(
        "[[policy]]\npeer = [\"2001:db8::/32\", \"2001:db9::1\"]\nprotocols = [\"tcp\", 99]\nports = \"5000-5999\"\n\
         uplink = \"eth0\"\npackets = 3\n[[policy]]\npeer = \"::/0\"\nprotect = false\nanswer = true\n",
    )
    .expect("rules");
    let [first, second] = &config.policies[..] else {
        panic!("two rules")
    };
    assert_eq!(first.protocols, [Protocol(6), Protocol(99)]);
    assert_eq!(
        (first.ports.as_slice(), first.uplinks.as_slice()),
        ([5000..=5999].as_slice(), ["eth0".to_owned()].as_slice())
    );
    assert!(first.is_for("2001:db9::1".parse().expect("an address")));
    assert!(!first.is_for("2001:db9::2".parse().expect("an address")));
    // One count takes the place of both of [trigger].
    assert_eq!(first.threshold(&config.trigger), (3, 0));
    assert_eq!(second.threshold(&config.trigger), (50, 0));
    assert_eq!((second.protect, second.answer), (false, Some(true)));
}

#[test]
fn bad_rules_say_what_is_wrong() {
    for (line, wrong) in [
        (
            "peer = \"2001:db8::1/32\"",
            "policy.peer: \"2001:db8::1/32\" has bits set after the first 32",
        ),
        ("peer = []", "policy.peer: is empty; "),
        (
            "ports = 0",
            "policy.ports: \"0\" is no port; expected ports from 1 to 65535",
        ),
        ("ports = \"90-80\"", "policy.ports: \"90-80\" ends before it starts; "),
        ("ports = [22, true]", "policy.ports: has a boolean in it; "),
        ("protocols = \"tcpp\"", "policy.protocols: \"tcpp\" is no protocol; "),
        (
            "packets = 0",
            "policy.packets: is 0, so that no context would ever be set up by this rule; ",
        ),
        ("port = 22", "policy.port: unknown key; did you mean ports?"),
    ] {
        let message = refused(&format!("[[policy]]\n{line}\n"));
        assert!(message.starts_with(&format!("shim6.toml:2: {wrong}")), "{message}");
    }
    let message = refused("[[policy]]\nports = 22\nanswer = false\n");
    assert!(
        message.starts_with("shim6.toml:3: policy.answer: is set beside ports or protocols"),
        "{message}"
    );
    assert!(refused("[[peer]]\n").starts_with("shim6.toml:1: peer.prefix: is missing; "));
    let message = refused("[[uplink]]\ninterface = \"a\"\nmetered = true\npriority = 3\n");
    assert!(
        message.starts_with("shim6.toml:4: uplink.priority: is set on a metered uplink"),
        "{message}"
    );
    let many = "[[policy]]\n".repeat(257);
    assert_eq!(
        refused(&many),
        "shim6.toml:257: policy: there are 257 rules; expected at most 256"
    );
}

#[test]
fn a_peer_has_the_values_of_reap_but_for_its_own_and_a_profile_brings_all() {
    let config = parse(
        "[reap]\nsend_timeout = \"200ms\"\n[[peer]]\nprefix = \"2001:db8:1::/48\"\ninitial_probes = 2\n\
         [[peer]]\nprefix = \"2001:db8:2::/48\"\nprofile = \"rfc\"\n",
    )
    .expect("peers");
    let [own, profile] = &config.peers[..] else {
        panic!("two peers")
    };
    assert_eq!(
        (own.reap.send_timeout, own.reap.initial_probes),
        (Duration::from_millis(200), 2)
    );
    assert_eq!(profile.reap, ReapConfig::of(Profile::Rfc));
    let message = refused("[[peer]]\nprefix = \"::/0\"\nkeepalive_interval = \"1s\"\n");
    assert_eq!(
        message,
        "shim6.toml:3: peer.keepalive_interval: 1s is not below the send timeout; expected less than peer.send_timeout, 120ms"
    );
}

#[test]
fn what_is_doubtful_is_warned_of_where_it_is() {
    let cases = [
        ("[[uplink]]\ninterface = \"a\"\n", "main.toml:2:uplink.interface"),
        (
            "[reap]\nprofile = \"rfc\"\nsend_timeout = \"1s\"\n",
            "main.toml:3:reap.send_timeout",
        ),
        (
            "[reap]\nfollow_rtt = false\nsend_timeout = \"100ms\"\n",
            "main.toml:3:reap.send_timeout",
        ),
        ("[[policy]]\n[[policy]]\nports = 22\n", "main.toml:3:policy.protect"),
        (
            "[[policy]]\npeer = \"2001:db8::/32\"\n[[policy]]\npeer = \"2001:db8:1::/48\"\nports = 22\n",
            "main.toml:4:policy.protect",
        ),
        (
            "[[policy]]\nprotect = false\npackets = 3\n",
            "main.toml:3:policy.packets",
        ),
        (
            "[[policy]]\nports = 22\nprotocols = \"icmpv6\"\n",
            "main.toml:2:policy.ports",
        ),
        (
            "[limits]\ncontexts = 10\ncontexts_per_prefix = 20\n",
            "main.toml:3:limits.contexts_per_prefix",
        ),
        ("[addresses]\nidentity = \"none\"\n", "main.toml:2:addresses.identity"),
        (
            "[trigger]\ninitiate = false\npackets = 3\n",
            "main.toml:2:trigger.initiate",
        ),
        (
            "uplink = [{ interface = \"a\" }, { interface = \"b\", metered = true }]\nfailback.enabled = false\n",
            "main.toml:1:uplink.metered",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(Files::new(text, &[]).warned(), [wanted], "{text}");
    }
    let fine = "[[uplink]]\ninterface = \"a\"\n[[uplink]]\ninterface = \"b\"\nmetered = true\n\
                [[policy]]\npeer = \"2001:db8:1::/48\"\nports = 22\n[[policy]]\npeer = \"2001:db8::/32\"\n";
    assert_eq!(Files::new(fine, &[]).warned(), [""; 0]);
}

#[test]
fn changes_say_what_needs_a_restart() {
    let old = parse("[trigger]\npackets = 3\n[[uplink]]\ninterface = \"a\"\n").expect("a configuration");
    assert_eq!(changes(&old, &old), []);
    let new = parse("[trigger]\npackets = 4\n[tun]\nmtu = 1400\n[[uplink]]\ninterface = \"a\"\nweight = 2\n");
    let found = changes(&old, &new.expect("a configuration"));
    let found: Vec<_> = found
        .iter()
        .map(|c| (c.key.as_str(), c.from.as_deref(), c.to.as_deref(), c.needs_restart))
        .collect();
    assert_eq!(
        found,
        [
            ("tun.mtu", None, Some("1400"), true),
            ("uplink[0].weight", Some("0"), Some("2"), false),
            ("trigger.packets", Some("3"), Some("4"), false),
        ]
    );
}
