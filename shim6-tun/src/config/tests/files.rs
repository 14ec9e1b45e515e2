//! Configurations of several files, what is doubtful about them, and what changes from one to the next.

use super::super::*;
use super::parse;

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
