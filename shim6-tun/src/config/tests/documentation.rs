//! The documentation, the default file and what is shown say what the reader takes.

use super::super::*;
use super::{parse, refused};

const DOCS: &str = include_str!("../../../../docs/configuration.md");

/// The documented TOML examples, in order.
fn examples() -> Vec<&'static str> {
    DOCS.split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("a closed block"))
        .collect()
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
    (all.control_group, all.tun.mtu, all.reap.keepalive_interval) = (None, None, None);
    all.user = Config::default().user;
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
