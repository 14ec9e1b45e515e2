use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::config::AddressConfig;
use crate::lab::isolated;

fn status(key: &str) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap().trim_start_matches(':').trim().to_owned()
}

/// In a process of its own, since nothing brings rights back.
#[test]
fn root_of_a_namespace_keeps_what_the_daemon_needs_and_cannot_get_more() {
    let name = "privileges::tests::root_of_a_namespace_keeps_what_the_daemon_needs_and_cannot_get_more";
    isolated(name, || async {
        // A thread: what is given up is the thread's.
        let check = || {
            let privileges = drop_surplus(&Config {
                user: RunAs::Unchanged,
                ..Config::default()
            });
            let expected = ["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW"];
            assert_eq!(privileges.unwrap().capabilities, expected);
            // With what is for loading programs, until they are.
            for (set, expected) in [
                ("CapEff", "c000003000"),
                ("CapPrm", "c000003000"),
                ("CapBnd", "8000003000"),
            ] {
                assert_eq!(status(set), format!("000000{expected}"), "{set}");
            }
            settle();
            for set in ["CapEff", "CapPrm", "CapBnd"] {
                assert_eq!(status(set), "0000008000003000", "{set}");
            }
            for set in ["CapInh", "CapAmb"] {
                assert_eq!(status(set), "0000000000000000", "{set}");
            }
            assert_eq!(status("NoNewPrivs"), "1");
            // Again, as the daemon that systemd has started with nothing else.
            drop_surplus(&Config::default()).unwrap();
        };
        std::thread::spawn(check).join().unwrap();
    });
}

#[test]
fn who_has_no_rights_is_told_how_to_get_them() {
    let name = "privileges::tests::who_has_no_rights_is_told_how_to_get_them";
    isolated(name, || async {
        let check = || {
            caps::drop(None, CapSet::Effective, Capability::CAP_NET_RAW).unwrap();
            caps::drop(None, CapSet::Permitted, Capability::CAP_NET_RAW).unwrap();
            drop_surplus(&Config::default()).unwrap_err().to_string()
        };
        let refused = std::thread::spawn(check).join().unwrap();
        assert!(refused.starts_with("the daemon needs CAP_NET_RAW, which"), "{refused}");
    });
}

#[test]
fn a_user_who_is_asked_for_has_to_exist_and_one_who_is_not_need_not() {
    let name = "privileges::tests::a_user_who_is_asked_for_has_to_exist_and_one_who_is_not_need_not";
    isolated(name, || async {
        let user = |name: &str| user(&RunAs::User(name.to_owned())).map(|user| user.map(|user| user.uid.as_raw()));
        let refused = user("nobody-of-this-name").unwrap_err().to_string();
        assert!(refused.contains("there is no such user"), "{refused}");
        // Everybody but root exists outside only.
        let refused = user("65534").unwrap_err().to_string();
        assert!(refused.contains("user namespace"), "{refused}");
        assert_eq!(user("root").unwrap(), None);
        assert_eq!(user("0").unwrap(), None);
        assert_eq!(super::user(&RunAs::Auto).unwrap(), None);
    });
}

#[test]
fn a_map_contains_the_numbers_of_its_lines() {
    let map = "         0       1000          1\n      1000     100000      65536\n";
    for (id, expected) in [
        (0, true),
        (1, false),
        (999, false),
        (1000, true),
        (66535, true),
        (66536, false),
    ] {
        assert_eq!(contains(map, id), expected, "{id}");
    }
    assert!(contains("0 0 4294967295", 1000));
    assert!(!contains("nonsense\n", 0));
}

/// Needs root, since only root can give anything away.
#[test]
fn directories_are_handed_over_and_what_is_somebody_elses_is_not() {
    let directory = tempfile::tempdir().unwrap();
    if !geteuid().is_root() || !is_mapped("uid", 4242) {
        return crate::lab::skip(
            "directories_are_handed_over_and_what_is_somebody_elses_is_not",
            "it needs root",
        );
    }
    let owner = Owner {
        user: Uid::from_raw(4242),
        group: Gid::from_raw(4243),
    };
    let of = |path: &Path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.uid(), metadata.gid())
    };
    let at = |name: &str| directory.path().join(name);
    let (given, kept) = ((4242, 4243), (0, 0));

    handover::directory(&at("new/run"), owner).unwrap();
    assert_eq!(of(&at("new/run")), given);
    fs::create_dir(at("old")).unwrap();
    handover::directory(&at("old"), owner).unwrap();
    assert_eq!(of(&at("old")), kept, "it was there before, and who knows who uses it");

    fs::create_dir(at("identity")).unwrap();
    fs::write(at("secret"), "").unwrap();
    fs::write(at("identity/key-1.pem"), "").unwrap();
    fs::hard_link(at("secret"), at("identity/key-2.pem")).unwrap();
    std::os::unix::fs::symlink(at("secret"), at("identity/key-3.pem")).unwrap();
    handover::identity(&at("identity"), owner).unwrap();
    assert_eq!(of(&at("identity")), given);
    assert_eq!(of(&at("identity/key-1.pem")), given);
    assert_eq!(of(&at("secret")), kept, "it has another name elsewhere");

    fs::create_dir(at("etc")).unwrap();
    fs::write(at("etc/passwd"), "").unwrap();
    fs::write(at("etc/identity.toml"), "").unwrap();
    handover::identity(&at("etc"), owner).unwrap();
    assert_eq!((of(&at("etc")), of(&at("etc/identity.toml"))), (kept, kept));
}

#[test]
fn preparing_makes_the_directories_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        control_socket: directory.path().join("run/shim6.sock"),
        addresses: AddressConfig {
            identity: Some(directory.path().join("lib/identity")),
            ..AddressConfig::default()
        },
        ..Config::default()
    };
    let me = User::from_uid(geteuid()).unwrap().unwrap();
    match prepare(&config, &me) {
        Ok(()) => {
            assert!(directory.path().join("run").is_dir());
            assert!(directory.path().join("lib/identity").is_dir());
        }
        // Without udev the node may be root's alone.
        Err(error) => assert!(error.to_string().contains("chmod 0666 /dev/net/tun"), "{error}"),
    }
}
