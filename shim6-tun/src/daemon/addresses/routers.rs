//! Routers that do not answer.
//!
//! While Neighbor Unreachability Detection has given up a router, Linux passes by the routes through it, even if there is none
//! that fits the source address as well: a packet of the second uplink leaves by the first one, whose provider drops it (or,
//! worse, does not). That lasts until something else makes the kernel try the router again, for up to a minute
//! (`router_probe_interval`). So an uplink that is whole again would seem dead, and one that is dead alive. A router of which nothing is
//! known is tried at once with the next packet, so what is known of one that has failed is forgotten.

use std::net::Ipv6Addr;

use super::{AddressError, Addresses};
use crate::netlink::{NetlinkError, unless_missing};

impl Addresses {
    /// Drops the packets that wait at the routers of these addresses' uplinks, which are lost.
    ///
    /// A packet that is sent when a link goes down may wait until the router has not answered for three seconds. As long as it
    /// waits, TCP sends it on no other path: it believes that it is still about to leave this host.
    pub async fn drop_waiting(&self, lost: &[Ipv6Addr]) -> Vec<NetlinkError> {
        let mut errors = Vec::new();
        for ours in self.assigned.iter().filter(|ours| lost.contains(&ours.address)) {
            if let Some(gateway) = ours.uplink.gateway {
                let answer = self.ledger.netlink().delete_neighbour(ours.uplink.index, gateway);
                errors.extend(unless_missing(answer.await).err());
            }
        }
        errors
    }

    /// A neighbour has failed; nothing is done where it is no uplink's router.
    pub(super) async fn forget_failed(&self, index: u32, address: Ipv6Addr) -> Result<(), AddressError> {
        let mut uplinks = self.assigned.iter().map(|ours| &ours.uplink);
        if uplinks.any(|uplink| uplink.index == index && uplink.gateway == Some(address)) {
            tracing::debug!(router = %address, interface = index, "the router does not answer");
            unless_missing(self.ledger.netlink().delete_neighbour(index, address).await)?;
        }
        Ok(())
    }

    /// Looks for routers that have failed before anybody was told.
    pub(super) async fn forget_failed_routers(&self) -> Result<(), AddressError> {
        for uplink in self.assigned.iter().map(|ours| &ours.uplink) {
            if let Some(router) = uplink.gateway
                && self.ledger.netlink().has_failed(uplink.index, router).await?
            {
                self.forget_failed(uplink.index, router).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use tokio::time::timeout;

    use crate::daemon::addresses::Addresses;
    use crate::daemon::testing::{LIMIT, PEER, Provider, hba};
    use crate::daemon::uplink::Uplink;
    use crate::lab::isolated;
    use crate::netlink::{Change, Monitor, Netlink};

    #[test]
    fn packets_keep_to_their_uplink_when_its_router_has_failed() {
        let name = "daemon::addresses::routers::tests::packets_keep_to_their_uplink_when_its_router_has_failed";
        isolated(name, || async {
            let netlink = Netlink::connect().unwrap();
            let mut monitor = Netlink::monitor().unwrap();
            let provider = Provider::new();
            provider.connect(&netlink, 1).await;
            let second = Uplink {
                gateway: Some("fe80::dead".parse().unwrap()),
                ..provider.connect(&netlink, 2).await
            };
            let ours = hba(second.prefix);
            let mut addresses = Addresses::new(&netlink, false);
            addresses.assign(&second, ours).await.unwrap();
            let leaves_by = async || netlink.route(ours, PEER, 0).await.unwrap().map(|route| route.interface);
            let fails = async |monitor: &mut Monitor| {
                // The kernel asks three times for the router of the first packet, a second apart.
                let socket = UdpSocket::bind((ours, 0)).unwrap();
                socket.send_to(b"anybody", (PEER, 9)).unwrap();
                let failed = Change::NeighbourFailed {
                    index: second.index,
                    address: second.gateway.unwrap(),
                };
                while monitor.next().await.unwrap() != failed {}
                failed
            };
            let change = timeout(LIMIT, fails(&mut monitor)).await.expect("it does not answer");
            addresses.handle_change(&change).await.unwrap();
            assert_eq!(leaves_by().await, Some(second.index));
            // As well when nobody was told.
            timeout(LIMIT, fails(&mut monitor)).await.expect("it does not answer");
            addresses.handle_change(&Change::Overrun).await.unwrap();
            assert_eq!(leaves_by().await, Some(second.index));
        });
    }
}
