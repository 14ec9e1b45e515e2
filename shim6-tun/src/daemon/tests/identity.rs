//! The addresses of a host through restarts, and on uplinks that its identity does not know.

use std::net::Ipv6Addr;
use std::path::Path;
use std::time::SystemTime;

use nix::sys::signal::{Signal, raise};
use shim6_cga::{HbaSearch, HbaSet, KeySizes, PrivateKey, Sec, SubnetPrefix};

use super::run::{config, ends, status};
use crate::control::Client;
use crate::daemon;
use crate::daemon::testing::Provider;
use crate::identity::{Store, StoredIdentity};
use crate::lab::isolated;
use crate::netlink::Netlink;
use crate::status::Status;

/// Runs the daemon until all its uplinks are up, and gives its status.
async fn run(directory: &Path) -> Status {
    let config = config(directory, false);
    let socket = config.control_socket.clone();
    let daemon = tokio::spawn(daemon::run(config));
    status(&socket, |status| status.uplinks.iter().all(|uplink| uplink.up)).await;
    let said = Client::connect(&socket).await.unwrap().status().await.unwrap();
    raise(Signal::SIGTERM).unwrap();
    ends(daemon).await;
    said
}

fn addresses(status: &Status) -> Vec<Ipv6Addr> {
    status.uplinks.iter().map(|uplink| uplink.address).collect()
}

fn prefix(number: u16) -> SubnetPrefix {
    SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, 0xa0 + number, 0, 0, 0, 0, 0))
}

/// Stores what `shim6 address generate` would for these uplinks.
fn store(directory: &Path, numbers: &[u16], key: Option<PrivateKey>) -> HbaSet {
    let prefixes: Vec<_> = numbers.iter().copied().map(prefix).collect();
    let mut rng = rand::rng();
    let mut search = match &key {
        Some(key) => HbaSearch::with_public_key(&prefixes, key.public_key().spki(), Sec::ZERO, &mut rng),
        None => HbaSearch::new(&prefixes, Sec::ZERO, &mut rng),
    }
    .unwrap();
    let set = search.step(1).unwrap();
    let identity = StoredIdentity {
        set: set.clone(),
        key,
        created: SystemTime::now(),
        automatic: false,
    };
    Store::new(directory.join("identity")).save(&identity).unwrap();
    set
}

fn stored(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("identity/identity.toml")).unwrap()
}

#[test]
fn addresses_are_the_same_after_a_restart_and_new_ones_with_another_uplink() {
    let name = "daemon::tests::identity::addresses_are_the_same_after_a_restart_and_new_ones_with_another_uplink";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        provider.connect(&netlink, 1).await;
        let directory = tempfile::tempdir().unwrap();
        let first = addresses(&run(directory.path()).await);
        assert_eq!(first.len(), 1);
        assert_eq!(addresses(&run(directory.path()).await), first);
        // The daemon made this identity itself, so it may make it anew.
        provider.connect(&netlink, 2).await;
        let both = addresses(&run(directory.path()).await);
        assert_eq!(both.len(), 2);
        assert!(!both.contains(&first[0]));
        assert_eq!(addresses(&run(directory.path()).await), both);
    });
}

#[test]
fn without_an_identity_addresses_are_new_at_each_start() {
    let name = "daemon::tests::identity::without_an_identity_addresses_are_new_at_each_start";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        provider.connect(&netlink, 1).await;
        let directory = tempfile::tempdir().unwrap();
        let run = || async {
            let mut config = config(directory.path(), false);
            config.addresses.identity = None;
            let socket = config.control_socket.clone();
            let daemon = tokio::spawn(daemon::run(config));
            status(&socket, |status| status.uplinks.iter().all(|uplink| uplink.up)).await;
            let said = Client::connect(&socket).await.unwrap().status().await.unwrap();
            raise(Signal::SIGTERM).unwrap();
            ends(daemon).await;
            addresses(&said)
        };
        assert_ne!(run().await, run().await);
        assert!(!directory.path().join("identity").exists());
    });
}

#[test]
fn identity_of_a_person_may_have_more_prefixes_than_there_are_uplinks_and_is_never_replaced() {
    let name = "daemon::tests::identity::\
                identity_of_a_person_may_have_more_prefixes_than_there_are_uplinks_and_is_never_replaced";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        provider.connect(&netlink, 2).await;
        let directory = tempfile::tempdir().unwrap();
        let set = store(directory.path(), &[1, 2], None);
        let text = stored(directory.path());
        assert_eq!(addresses(&run(directory.path()).await), [set.addresses()[1]]);
        // An uplink that it does not know stays out of it, for want of a key.
        provider.connect(&netlink, 3).await;
        assert_eq!(addresses(&run(directory.path()).await), [set.addresses()[1]]);
        assert_eq!(stored(directory.path()), text);
    });
}

#[test]
fn identity_for_other_prefixes_is_left_alone() {
    let name = "daemon::tests::identity::identity_for_other_prefixes_is_left_alone";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        provider.connect(&netlink, 2).await;
        let directory = tempfile::tempdir().unwrap();
        let set = store(directory.path(), &[1], None);
        let text = stored(directory.path());
        let address = addresses(&run(directory.path()).await)[0];
        assert!(prefix(2).contains(&address));
        assert!(!set.addresses().contains(&address));
        assert_eq!(stored(directory.path()), text);
    });
}

#[test]
fn uplink_outside_an_identity_with_a_key_gets_an_address_of_that_key() {
    let name = "daemon::tests::identity::uplink_outside_an_identity_with_a_key_gets_an_address_of_that_key";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        provider.connect(&netlink, 1).await;
        provider.connect(&netlink, 2).await;
        let directory = tempfile::tempdir().unwrap();
        let key = PrivateKey::generate(1024, KeySizes::default(), &mut rand::rng()).unwrap();
        let set = store(directory.path(), &[1], Some(key));
        let text = stored(directory.path());
        let addresses = addresses(&run(directory.path()).await);
        assert_eq!(addresses[0], set.addresses()[0]);
        assert!(prefix(2).contains(&addresses[1]));
        assert_eq!(addresses.len(), 2);
        assert_eq!(stored(directory.path()), text);
    });
}

#[test]
fn identity_that_cannot_be_read_keeps_the_daemon_from_starting() {
    let name = "daemon::tests::identity::identity_that_cannot_be_read_keeps_the_daemon_from_starting";
    isolated(name, || async {
        let netlink = Netlink::connect().unwrap();
        let provider = Provider::new();
        provider.connect(&netlink, 1).await;
        netlink.settled().await;
        let before = netlink.snapshot().await;
        let directory = tempfile::tempdir().unwrap();
        store(directory.path(), &[1], None);
        let text = stored(directory.path()).replace("version = 1", "version = 99");
        std::fs::write(directory.path().join("identity/identity.toml"), text).unwrap();
        let error = daemon::run(config(directory.path(), false)).await.unwrap_err();
        assert!(format!("{error:#}").contains("identity.toml"), "{error:#}");
        assert_eq!(netlink.snapshot().await, before);
    });
}
