//! Uplinks, their MTUs, and whether packets leave by the uplink that their source belongs to.

use std::fs;
use std::net::Ipv6Addr;

use super::finding::Finding;
use super::{Host, Local};
use crate::daemon::uplink::{Uplink, UplinkError, prefix_of, warning};
use crate::netlink::{Link, Netlink, NetlinkError};
use crate::status::UplinkStatus;

const LINKS: &str = "uplinks";
const ROUTES: &str = "routes";
/// A global address that nobody has and that no route is for but a default one.
const ANYWHERE: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);
/// What IPv6 needs, and the payload header beside it.
const LEAST_MTU: u32 = 1280 + 8;
const SEE_ALL: &str = "ip -6 address; ip -6 route show default";

pub(super) async fn check(host: &Host, netlink: &Netlink) -> Vec<Finding> {
    let mut findings = Vec::new();
    let routes = async {
        let links = netlink.links().await?;
        let mut findings = uplinks(host, &links);
        findings.extend(links.iter().filter_map(|link| advertisements(link, host)));
        // What the daemon says is down is told as such.
        for local in host.locals.iter().filter(|local| !is_down(local, host)) {
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

fn is_down(local: &Local, host: &Host) -> bool {
    let status = host.status.iter().flat_map(|status| &status.uplinks);
    status
        .into_iter()
        .any(|uplink| uplink.address == local.address && !uplink.up)
}

fn uplinks(host: &Host, links: &[Link]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_any = host.uplinks.iter().any(|uplink| uplink.up);
    findings.extend(host.no_uplinks.iter().map(|problem| unusable(problem, is_any, links)));
    let forgotten = forgotten(host);
    let told = host.status.iter().flat_map(|status| &status.uplinks).count();
    if let Some(warning) = warning(&host.uplinks).filter(|_| told < 2) {
        let means = "When it fails, there is nothing to move to. A peer with several uplinks still profits.";
        findings.push(Finding::doubtful(LINKS, warning, means).mend(SEE_ALL));
    }
    findings.extend(forgotten);
    findings.extend(host.uplinks.iter().map(state));
    findings
}

/// Why one that is configured, or any, cannot be used. One that may come later is no fault as long as there is another one.
fn unusable(problem: &UplinkError, is_any: bool, links: &[Link]) -> Finding {
    let means = match is_any {
        true => "The daemon uses it as soon as it can. Until then no session can move to it.",
        false => "The daemon waits for it, and can do nothing until there is one.",
    };
    let (found, mend) = match problem {
        UplinkError::NoInterface { interface, interfaces } => (
            format!("uplink {interface}: there is no such interface (there are {interfaces})"),
            "ip link   # if the name is wrong, correct it in the configuration: shim6 config show".to_owned(),
        ),
        UplinkError::NoPrefix { interface } | UplinkError::NoGateway { interface } if !is_running(interface, links) => {
            (
                format!("uplink {interface}: it is down or has no carrier, and has no address or default route"),
                format!("ip link set {interface} up   # and look at the cable, or let it connect"),
            )
        }
        problem => {
            let means = match problem {
                UplinkError::None { .. } => "The daemon waits for one, and is of no use without two.",
                _ => "The daemon uses it as soon as that has been mended.",
            };
            return Finding::wrong(LINKS, problem.to_string(), means).mend(SEE_ALL);
        }
    };
    if is_any {
        return Finding::doubtful(LINKS, found, means).mend(mend);
    }
    Finding::wrong(LINKS, found, means).mend(mend)
}

fn is_running(interface: &str, links: &[Link]) -> bool {
    links
        .iter()
        .any(|link| link.name == interface && link.up && link.running)
}

/// Those that the daemon still uses although the host has lost what they were found by, as when a link was down and nothing
/// has put its address back.
fn forgotten(host: &Host) -> Vec<Finding> {
    let used = host
        .status
        .iter()
        .flat_map(|status| &status.uplinks)
        .filter(|used| used.up);
    let is_found = |used: &UplinkStatus| {
        let mut found = host.uplinks.iter();
        found.any(|found| found.interface == used.interface && format!("{}/64", found.prefix) == used.prefix)
    };
    let lost = used.filter(|used| !is_found(used));
    lost.map(|UplinkStatus { interface, prefix, .. }| {
        let found = format!("{interface} is used, but has no address of the host itself in {prefix}, or no default route");
        let means = "The daemon goes on with what it knows. When it is started again, it does not find this uplink: restore what the host had there.";
        Finding::doubtful(LINKS, found, means).mend(format!(
            "ip -6 address show dev {interface}; ip -6 route show default dev {interface}"
        ))
    })
    .collect()
}

fn state(uplink: &Uplink) -> Finding {
    let (interface, mtu) = (&uplink.interface, uplink.mtu);
    if !uplink.up {
        let means = "Nothing can be sent by it.";
        return Finding::wrong(LINKS, format!("{interface} is down or has no carrier"), means)
            .mend(format!("ip link set {interface} up   # and look at the cable"));
    }
    if mtu < LEAST_MTU {
        let found = format!("{interface} has an MTU of {mtu} octets");
        let means = "A packet of a session that has moved is 8 octets longer than before, and IPv6 promises 1280 to \
                     applications: large packets do not pass.";
        return Finding::wrong(LINKS, found, means)
            .mend(format!("ip link set {interface} mtu {LEAST_MTU}   # or more"));
    }
    let gateway = uplink
        .gateway
        .map_or("no gateway".to_owned(), |gateway| format!("gateway {gateway}"));
    Finding::good(
        LINKS,
        format!("{interface} is up: {}/64, {gateway}, MTU {mtu}", uplink.prefix),
    )
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
    let strict =
        "A provider drops packets whose source is another provider's (BCP 38): connections from this address fail.";
    let found_wrong = |found: String| match &host.status {
        Some(_) => Finding::wrong(ROUTES, found, strict),
        // It would have added the routes.
        None => Finding::doubtful(
            ROUTES,
            found,
            &format!("{strict} The daemon adds such routes while it runs."),
        ),
    };
    let uplink = host.uplinks.iter().find(|uplink| uplink.interface == *interface);
    let mend = |finding: Finding| match uplink.and_then(|uplink| Some((uplink, uplink.gateway?))) {
        Some((Uplink { prefix, index, .. }, gateway)) => {
            // A table of its own for each.
            let table = 7000_u32.saturating_add(*index);
            finding
                .mend(format!("ip -6 rule add from {prefix}/64 table {table}"))
                .mend(format!(
                    "ip -6 route add default via {gateway} dev {interface} table {table}"
                ))
        }
        None => finding.mend("ip -6 route show default"),
    };
    Ok(match left_by {
        Some(link) if link.name == *interface => {
            Finding::good(ROUTES, format!("packets from {address} leave by {interface}"))
        }
        Some(link) => {
            let found = format!("packets from {address} leave by {}, and not by {interface}", link.name);
            mend(found_wrong(found))
        }
        None => mend(found_wrong(format!("packets from {address} have no way out"))),
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
