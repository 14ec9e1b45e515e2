//! The addresses of a host through restarts, and on uplinks that its identity does not know.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::sys::signal::{Signal, raise};
use shim6_cga::{HbaSet, KeySizes, PrivateKey, Sec, SubnetPrefix};
use tempfile::TempDir;
use tokio::time::timeout;

use super::run::{config, ends, status};
use crate::config::Config;
use crate::control::Client;
use crate::daemon;
use crate::daemon::testing::{LIMIT, Provider};
use crate::identity::{Store, StoredIdentity};
use crate::lab::isolated;
use crate::netlink::Netlink;
use crate::status::UplinkStatus;

/// A host with uplinks, and the directory of its daemon.
struct Host {
    netlink: Netlink,
    provider: Provider,
    directory: TempDir,
}

impl Host {
    /// With `eth<number>` for each number, see [`Provider::connect`].
    async fn new(uplinks: &[u16]) -> Self {
        let host = Self {
            netlink: Netlink::connect().unwrap(),
            provider: Provider::new(),
            directory: tempfile::tempdir().unwrap(),
        };
        for number in uplinks {
            host.connect(*number).await;
        }
        host
    }

    async fn connect(&self, number: u16) {
        self.provider.connect(&self.netlink, number).await;
    }

    fn config(&self) -> Config {
        config(self.directory.path(), false)
    }

    /// The addresses that the daemon has, from a start to its end.
    async fn addresses(&self) -> Vec<Ipv6Addr> {
        addresses(self.config()).await
    }

    /// Stores what `shim6 address generate` would for these uplinks.
    fn store(&self, uplinks: &[u16], key: Option<PrivateKey>) -> HbaSet {
        let prefixes: Vec<_> = uplinks.iter().copied().map(prefix).collect();
        let mut rng = rand::rng();
        let set = match &key {
            None => HbaSet::generate(&prefixes, Sec::ZERO, &mut rng),
            Some(key) => HbaSet::generate_with_public_key(&prefixes, key.public_key().spki(), Sec::ZERO, &mut rng),
        };
        let identity = StoredIdentity {
            set: set.unwrap(),
            key,
            created: SystemTime::now(),
            automatic: false,
        };
        Store::new(self.directory.path().join("identity"))
            .save(&identity)
            .unwrap();
        identity.set
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("identity/identity.toml")
    }

    fn stored(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }
}

fn prefix(uplink: u16) -> SubnetPrefix {
    SubnetPrefix::from(Ipv6Addr::new(0x2001, 0xdb8, 0xa0 + uplink, 0, 0, 0, 0, 0))
}

async fn addresses(config: Config) -> Vec<Ipv6Addr> {
    uplinks(config).await.iter().map(|uplink| uplink.address).collect()
}

/// Runs the daemon until all its uplinks are up; gives what it says of them.
async fn uplinks(config: Config) -> Vec<UplinkStatus> {
    let socket = config.control_socket.clone();
    let daemon = tokio::spawn(daemon::run(config));
    status(&socket, |status| status.uplinks.iter().all(|uplink| uplink.up)).await;
    let said = Client::connect(&socket).await.unwrap().status().await.unwrap();
    raise(Signal::SIGTERM).unwrap();
    ends(daemon).await;
    said.uplinks
}

#[test]
fn addresses_are_the_same_after_a_restart_and_new_ones_with_another_uplink() {
    let name = "daemon::tests::identity::addresses_are_the_same_after_a_restart_and_new_ones_with_another_uplink";
    isolated(name, || async {
        let host = Host::new(&[1]).await;
        let first = host.addresses().await;
        assert_eq!(first.len(), 1);
        assert_eq!(host.addresses().await, first);
        // The daemon made this identity itself, so it may make it anew.
        host.connect(2).await;
        let both = host.addresses().await;
        assert_eq!(both.len(), 2);
        assert!(!both.contains(&first[0]));
        assert_eq!(host.addresses().await, both);
    });
}

#[test]
fn damaged_identity_is_kept_aside_and_brings_the_addresses_back_when_it_is_mended() {
    let name =
        "daemon::tests::identity::damaged_identity_is_kept_aside_and_brings_the_addresses_back_when_it_is_mended";
    isolated(name, || async {
        let host = Host::new(&[1]).await;
        let (first, good) = (host.addresses().await, host.stored());
        // As after a crash of the host at the wrong moment.
        std::fs::write(host.file(), "").unwrap();
        let socket = host.config().control_socket;
        let daemon = tokio::spawn(daemon::run(host.config()));
        status(&socket, |status| status.uplinks.iter().any(|uplink| uplink.up)).await;
        let said = Client::connect(&socket).await.unwrap().status().await.unwrap();
        raise(Signal::SIGTERM).unwrap();
        ends(daemon).await;
        let problem = said.problems.iter().find(|problem| problem.contains("is damaged"));
        assert!(problem.unwrap().contains("/identity/damaged-"), "{said:?}");
        let second = host.addresses().await;
        assert_eq!(second, [said.uplinks[0].address]);
        assert_ne!(second, first);

        std::fs::write(host.file(), good).unwrap();
        assert_eq!(host.addresses().await, first);
    });
}

#[test]
fn without_an_identity_addresses_are_new_at_each_start() {
    let name = "daemon::tests::identity::without_an_identity_addresses_are_new_at_each_start";
    isolated(name, || async {
        let host = Host::new(&[1]).await;
        let mut config = host.config();
        config.addresses.identity = None;
        assert_ne!(addresses(config.clone()).await, addresses(config).await);
        assert!(!host.directory.path().join("identity").exists());
    });
}

#[test]
fn search_for_addresses_that_a_signal_ends_goes_on_at_the_next_start() {
    let name = "daemon::tests::identity::search_for_addresses_that_a_signal_ends_goes_on_at_the_next_start";
    isolated(name, || async {
        let host = Host::new(&[1]).await;
        let mut config = host.config();
        config.addresses.sec = 2;
        let daemon = tokio::spawn(daemon::run(config.clone()));
        timeout(LIMIT, searching()).await.expect("no search");
        raise(Signal::SIGTERM).unwrap();
        ends(daemon).await;

        // How far it was is kept, and the next start goes on from there. Of some ten thousand searches one is over by now,
        // and has left an identity instead.
        let store = Store::new(host.directory.path().join("identity"));
        let kept = async {
            loop {
                match store.load_search().unwrap() {
                    None if !host.file().exists() => tokio::task::yield_now().await,
                    search => break search,
                }
            }
        };
        let Some(kept) = timeout(LIMIT, kept).await.expect("the search is not kept") else {
            return;
        };
        assert_eq!(kept.prefixes(), [prefix(1)]);
        let daemon = tokio::spawn(daemon::run(config));
        timeout(LIMIT, searching()).await.expect("no search");
        raise(Signal::SIGTERM).unwrap();
        ends(daemon).await;
        let goes_on = async {
            let tried = || store.load_search().unwrap().map(|search| search.tried);
            while tried() == Some(kept.tried) {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, goes_on).await.expect("the search does not go on");
    });
}

/// Waits for the threads of a search.
async fn searching() {
    let is_search = |comm: &Path| std::fs::read_to_string(comm).is_ok_and(|name| name.starts_with("search-"));
    let searches = || {
        let mut tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        tasks.any(|task| is_search(&task.path().join("comm")))
    };
    while !searches() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn host_that_cannot_keep_its_addresses_uses_them_nevertheless() {
    let name = "daemon::tests::identity::host_that_cannot_keep_its_addresses_uses_them_nevertheless";
    isolated(name, || async {
        let host = Host::new(&[1]).await;
        let mut config = host.config();
        // Where nobody can make a directory, root or not.
        config.addresses.identity = Some(PathBuf::from("/proc/no-such-process/identity"));
        assert_eq!(addresses(config).await.len(), 1);
    });
}

#[test]
fn identity_of_a_person_may_have_more_prefixes_than_there_are_uplinks_and_is_never_replaced() {
    let name = "daemon::tests::identity::\
                identity_of_a_person_may_have_more_prefixes_than_there_are_uplinks_and_is_never_replaced";
    isolated(name, || async {
        let host = Host::new(&[2]).await;
        let set = host.store(&[1, 2], None);
        let text = host.stored();
        assert_eq!(host.addresses().await, [set.addresses()[1]]);
        // An uplink that it does not know stays out of it, for want of a key.
        host.connect(3).await;
        assert_eq!(host.addresses().await, [set.addresses()[1]]);
        assert_eq!(host.stored(), text);
    });
}

#[test]
fn identity_for_other_prefixes_is_left_alone() {
    let name = "daemon::tests::identity::identity_for_other_prefixes_is_left_alone";
    isolated(name, || async {
        let host = Host::new(&[2]).await;
        let set = host.store(&[1], None);
        let text = host.stored();
        let addresses = host.addresses().await;
        assert!(prefix(2).contains(&addresses[0]));
        assert!(!set.addresses().contains(&addresses[0]));
        assert_eq!(host.stored(), text);
    });
}

#[test]
fn uplink_outside_an_identity_with_a_key_gets_an_address_of_that_key() {
    let name = "daemon::tests::identity::uplink_outside_an_identity_with_a_key_gets_an_address_of_that_key";
    isolated(name, || async {
        let host = Host::new(&[1, 2]).await;
        let key = PrivateKey::generate(1024, KeySizes::default(), &mut rand::rng()).unwrap();
        let set = host.store(&[1], Some(key));
        let text = host.stored();
        let uplinks = uplinks(host.config()).await;
        assert_eq!(uplinks.len(), 2);
        assert_eq!((uplinks[0].address, uplinks[0].ulid), (set.addresses()[0], true));
        assert!(prefix(2).contains(&uplinks[1].address));
        assert!(!uplinks[1].ulid);
        assert_eq!(host.stored(), text);
    });
}

#[test]
fn identity_that_cannot_be_read_keeps_the_daemon_from_starting() {
    let name = "daemon::tests::identity::identity_that_cannot_be_read_keeps_the_daemon_from_starting";
    isolated(name, || async {
        let host = Host::new(&[1]).await;
        host.netlink.settled().await;
        let before = host.netlink.snapshot().await;
        host.store(&[1], None);
        std::fs::write(host.file(), host.stored().replace("version = 1", "version = 99")).unwrap();
        let error = daemon::run(host.config()).await.unwrap_err();
        assert!(format!("{error:#}").contains("identity.toml"), "{error:#}");
        assert_eq!(host.netlink.snapshot().await, before);
    });
}
