//! Uplinks, their MTUs, and whether packets leave by the uplink that their source belongs to.

use std::fs;
use std::net::Ipv6Addr;

use super::finding::Finding;
use super::{Host, Local};
use crate::daemon::uplink::{Uplink, prefix_of, warning};
use crate::netlink::{Link, Netlink, NetlinkError};

const LINKS: &str = "uplinks";
const ROUTES: &str = "routes";
/// A global address that nobody has and that no route is for but a default one.
const ANYWHERE: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);
/// What IPv6 needs, and the payload header beside it.
const LEAST_MTU: u32 = 1280 + 8;

pub(super) async fn check(host: &Host, netlink: &Netlink) -> Vec<Finding> {
    let mut findings = links(host);
    let routes = async {
        let mut findings = Vec::new();
        let links = netlink.links().await?;
        findings.extend(links.iter().filter_map(|link| advertisements(link, host)));
        for local in &host.locals {
            findings.push(own_way(local, host, netlink, &links).await?);
        }
        findings.extend(source(host, netlink, &links).await?);
        Ok::<_, NetlinkError>(findings)
    };
    match routes.await {
        Ok(routes) => findings.extend(routes),
        Err(error) => findings.push(Finding::unchecked(
            ROUTES,
            format!("the kernel could not be asked: {error}"),
        )),
    }
    findings
}

fn links(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(why) = &host.no_uplinks {
        findings.push(
            Finding::wrong(LINKS, why, "The daemon waits for one, and is of no use without two.")
                .mend("ip -6 address; ip -6 route show default"),
        );
    }
    if let Some(warning) = warning(&host.uplinks) {
        let means = "When it fails, there is nothing to move to. A peer with several uplinks still profits.";
        findings.push(Finding::doubtful(LINKS, warning, means).mend("ip -6 address; ip -6 route show default"));
    }
    for uplink in &host.uplinks {
        let (interface, mtu) = (&uplink.interface, uplink.mtu);
        if !uplink.up {
            let means = "Nothing can be sent by it.";
            findings.push(
                Finding::wrong(LINKS, format!("{interface} is down or has no carrier"), means)
                    .mend(format!("ip link set {interface} up   # and look at the cable")),
            );
        } else if mtu < LEAST_MTU {
            let found = format!("{interface} has an MTU of {mtu} octets");
            let means = "A packet of a session that has moved is 8 octets longer than before, and IPv6 promises 1280 to \
                         applications: large packets do not pass.";
            findings.push(
                Finding::wrong(LINKS, found, means)
                    .mend(format!("ip link set {interface} mtu {LEAST_MTU}   # or more")),
            );
        } else {
            let gateway = uplink
                .gateway
                .map_or("no gateway".to_owned(), |gateway| format!("gateway {gateway}"));
            let found = format!("{interface} is up: {}/64, {gateway}, MTU {mtu}", uplink.prefix);
            findings.push(Finding::good(LINKS, found));
        }
    }
    findings
}

/// A host that forwards takes no router advertisements unless told to.
fn advertisements(link: &Link, host: &Host) -> Option<Finding> {
    let name = &link.name;
    let is_uplink = host.uplinks.iter().any(|uplink| uplink.index == link.index);
    if link.loopback || is_uplink || !link.running || host.status.as_ref().is_some_and(|status| status.tun == *name) {
        return None;
    }
    let setting = |key: &str| fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}/{key}")).unwrap_or_default();
    if setting("forwarding").trim() != "1" || setting("accept_ra").trim() != "1" {
        return None;
    }
    let found = format!("{name} is no uplink: this host forwards, and so takes no router advertisements on it");
    let means = "If its address and route come by router advertisements, they are missing.";
    Some(Finding::doubtful(LINKS, found, means).mend(format!("sysctl -w net.ipv6.conf.{name}.accept_ra=2")))
}

/// Whether packets from an address leave by the uplink that it belongs to (RFC 8028).
async fn own_way(local: &Local, host: &Host, netlink: &Netlink, links: &[Link]) -> Result<Finding, NetlinkError> {
    let Local { interface, address } = local;
    let way = netlink.output_for(*address, ANYWHERE, 0).await?;
    let left_by = way.and_then(|(index, _)| links.iter().find(|link| link.index == index));
    let means =
        "A provider drops packets whose source is another provider's (BCP 38): connections from this address fail.";
    let uplink = host.uplinks.iter().find(|uplink| uplink.interface == *interface);
    let mend = |finding: Finding| match uplink.and_then(|uplink| Some((uplink, uplink.gateway?))) {
        Some((Uplink { prefix, .. }, gateway)) => finding
            .mend(format!("ip -6 rule add from {prefix}/64 table 7{}", links.len()))
            .mend(format!(
                "ip -6 route add default via {gateway} dev {interface} table 7{}",
                links.len()
            )),
        None => finding.mend("ip -6 route show default"),
    };
    Ok(match left_by {
        Some(link) if link.name == *interface => {
            Finding::good(ROUTES, format!("packets from {address} leave by {interface}"))
        }
        Some(link) => {
            let found = format!("packets from {address} leave by {}, and not by {interface}", link.name);
            mend(Finding::wrong(ROUTES, found, means))
        }
        None => mend(Finding::wrong(
            ROUTES,
            format!("packets from {address} have no way out"),
            means,
        )),
    })
}

/// Which address the kernel gives to new connections.
async fn source(host: &Host, netlink: &Netlink, links: &[Link]) -> Result<Option<Finding>, NetlinkError> {
    let Some(status) = &host.status else {
        return Ok(None);
    };
    let Some((index, Some(chosen))) = netlink.output_for(Ipv6Addr::UNSPECIFIED, ANYWHERE, 0).await? else {
        return Ok(None);
    };
    let is_protected = status
        .uplinks
        .iter()
        .any(|uplink| uplink.ulid && uplink.address == chosen);
    let interface = links
        .iter()
        .find(|link| link.index == index)
        .map_or("?", |link| link.name.as_str());
    if is_protected {
        return Ok(Some(Finding::good(
            ROUTES,
            format!("new connections are made from {chosen}, which is protected"),
        )));
    }
    let found = format!("new connections are made from {chosen}, which is not protected");
    let means = "Connections that programs of this host begin are not protected unless they choose their address.";
    let temporary = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/use_tempaddr")).unwrap_or_default();
    let finding = Finding::doubtful(ROUTES, found, means);
    let finding = match temporary.trim() {
        "2" => finding.mend(format!("sysctl -w net.ipv6.conf.{interface}.use_tempaddr=0")),
        _ => finding,
    };
    let length = if host.uplinks.iter().any(|uplink| uplink.prefix == prefix_of(chosen)) {
        64
    } else {
        128
    };
    Ok(Some(finding.mend(format!(
        "ip -6 address change {chosen}/{length} dev {interface} preferred_lft 0"
    ))))
}
