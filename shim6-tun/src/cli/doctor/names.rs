//! What DNS says of this host, against the addresses that are protected.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::Host;
use super::finding::Finding;
use crate::identity::Store;

const CHECK: &str = "names";
/// How long the resolver may take.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn check(host: &Host, name: Option<&str>) -> Vec<Finding> {
    let own = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.map_or_else(own, str::to_owned);
    let name = name.trim();
    let protected = protected(host);
    if protected.is_empty() {
        return vec![Finding::unchecked(
            CHECK,
            "there are no protected addresses yet that DNS could have",
        )];
    }
    match addresses(name).await {
        Ok(found) => vec![judge(name, &found, &protected)],
        Err(why) => vec![Finding::unchecked(
            CHECK,
            format!("{name:?} has no addresses ({why}); give this host's name in DNS with --name"),
        )],
    }
}

/// The IPv6 addresses of a name.
pub(super) async fn addresses(name: &str) -> Result<BTreeSet<Ipv6Addr>, String> {
    let looked_up = timeout(PATIENCE, lookup_host((name, 0))).await;
    let found = looked_up
        .map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
        .map_err(|error| error.to_string())?;
    let ipv6 = |address: IpAddr| match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    };
    Ok(found.filter_map(|address| ipv6(address.ip())).collect())
}

fn protected(host: &Host) -> BTreeSet<Ipv6Addr> {
    if let Some(status) = &host.status {
        return status
            .uplinks
            .iter()
            .filter(|uplink| uplink.ulid)
            .map(|uplink| uplink.address)
            .collect();
    }
    let directory = host.config.addresses.identity.as_deref();
    let identity = directory.and_then(|directory| Store::new(directory).load_public().ok().flatten());
    identity.map_or_else(BTreeSet::new, |identity| {
        identity.set.addresses().iter().copied().collect()
    })
}

fn judge(name: &str, found: &BTreeSet<Ipv6Addr>, protected: &BTreeSet<Ipv6Addr>) -> Finding {
    let list = |addresses: &[&Ipv6Addr]| {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        addresses.join(", ")
    };
    let global: BTreeSet<_> = found
        .iter()
        .filter(|a| !a.is_loopback() && !a.is_unicast_link_local())
        .copied()
        .collect();
    let (missing, others): (Vec<_>, Vec<_>) = (
        protected.difference(&global).collect(),
        global.difference(protected).collect(),
    );
    if global.is_empty() {
        return Finding::unchecked(
            CHECK,
            format!("{name} has no global IPv6 address; give the name in DNS with --name"),
        );
    }
    let mend = format!("shim6 address dns {name}   # the records to publish");
    if missing.len() == protected.len() {
        let found = format!("{name} has the address {}, which is not protected", list(&others));
        return Finding::doubtful(
            CHECK,
            found,
            "Connections that others make by that name are not protected.",
        )
        .mend(mend);
    }
    if !others.is_empty() {
        let found = format!("{name} also has the address {}, which is not protected", list(&others));
        let means = "Some of the connections that others make by that name are not protected.";
        return Finding::doubtful(CHECK, found, means).mend(mend);
    }
    if !missing.is_empty() {
        let found = format!("{name} lacks the address {}", list(&missing));
        let means = "Nobody can begin a connection by that name while the uplinks are down whose addresses it has.";
        return Finding::doubtful(CHECK, found, means).mend(mend);
    }
    Finding::good(CHECK, format!("{name} has the protected addresses, and no others"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn set(addresses: &[&str]) -> BTreeSet<Ipv6Addr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_has_to_have_the_protected_addresses_and_no_others() {
        let protected = set(&["2001:db8:1::1", "2001:db8:2::1"]);
        let level = |found: &[&str]| judge("host", &set(found), &protected).level;
        assert_eq!(level(&["2001:db8:1::1", "2001:db8:2::1"]), Level::Good);
        assert_eq!(level(&["2001:db8:1::1"]), Level::Doubtful);
        assert_eq!(
            level(&["2001:db8:1::1", "2001:db8:2::1", "2001:db8:1::99"]),
            Level::Doubtful
        );
        assert_eq!(level(&["2001:db8:1::99"]), Level::Doubtful);
        assert_eq!(level(&["::1", "fe80::1"]), Level::Unchecked);
        let other = judge("host", &set(&["2001:db8:1::99"]), &protected);
        assert_eq!(other.mend, ["shim6 address dns host   # the records to publish"]);
    }

    #[tokio::test]
    async fn a_number_is_its_own_address() {
        assert_eq!(addresses("2001:db8::7").await.unwrap(), set(&["2001:db8::7"]));
        assert!(addresses("192.0.2.1").await.unwrap().is_empty());
    }
}
