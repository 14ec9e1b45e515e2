//! Router advertisements in the lab (RFC 4861 section 6.2).

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::node::Node;
use super::{LabError, Prefix};
use crate::sys::Readiness;
use crate::sys::router_socket::{ROUTER_ADVERTISEMENT, SolicitationSocket};

/// Between two advertisements that nobody asked for.
const INTERVAL: Duration = Duration::from_secs(5);
/// Between two advertisements, however often somebody asks.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);
/// For how long a host uses the router, in seconds.
const ROUTER_LIFETIME: u16 = 1800;
/// For how long a host uses the prefix, and prefers it, in seconds.
const VALID: u32 = 86_400;
const PREFERRED: u32 = 14_400;
const HOP_LIMIT: u8 = 64;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;
/// On link, and for autoconfiguration.
const FLAGS: u8 = 0xc0;
/// The default router preference of all uplinks but a host's first one: low (RFC 4191 section 2.1).
const LOW: u8 = 0x18;

/// What a router says on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Advertisement {
    pub(super) prefix: Prefix,
    pub(super) mtu: u32,
    /// Whether hosts shall prefer other routers.
    pub(super) is_second_choice: bool,
}

/// A router that advertises on one link, until this is dropped.
#[derive(Debug)]
pub(super) struct Advertiser {
    task: JoinHandle<()>,
}

impl Advertiser {
    /// Has `router` advertise on its interface with this index, from its address there.
    pub(super) fn start(
        router: &Node,
        index: u32,
        from: Ipv6Addr,
        advertisement: &Advertisement,
    ) -> Result<Self, LabError> {
        let namespace = &router.namespace;
        let failed = |source| LabError::namespace(namespace.name(), "advertise a prefix", source);
        let socket = namespace
            .run(|| SolicitationSocket::open(index, from))?
            .map_err(failed)?;
        let socket = Arc::new(socket);
        let readiness = Readiness::of(&*socket).map_err(failed)?;
        let message = message(advertisement);
        let task = tokio::spawn(async move {
            loop {
                // A link without carrier takes none; it may come back.
                let _ = socket.advertise(&message);
                let now = Instant::now();
                tokio::select! {
                    () = sleep_until(now + INTERVAL) => {}
                    heard = readiness.read(|| socket.receive()) => {
                        if heard.is_err() {
                            return;
                        }
                        sleep_until(now + LEAST_INTERVAL).await;
                    }
                }
            }
        });
        Ok(Self { task })
    }
}

impl Drop for Advertiser {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Section 4.2, with the options of sections 4.6.2 and 4.6.4.
fn message(advertisement: &Advertisement) -> Vec<u8> {
    let flags = if advertisement.is_second_choice { LOW } else { 0 };
    // The kernel fills the checksum in.
    let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, flags];
    message.extend(ROUTER_LIFETIME.to_be_bytes());
    message.extend([0; 8]);
    message.extend([PREFIX_INFORMATION, 4, advertisement.prefix.length(), FLAGS]);
    message.extend(VALID.to_be_bytes());
    message.extend(PREFERRED.to_be_bytes());
    message.extend([0; 4]);
    message.extend(advertisement.prefix.address().octets());
    message.extend([MTU, 1, 0, 0]);
    message.extend(advertisement.mtu.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_has_the_octets_of_the_rfc() {
        let message = message(&Advertisement {
            prefix: "2001:db8:a1::/64".parse().unwrap(),
            mtu: 1400,
            is_second_choice: true,
        });
        assert_eq!(message.len(), 16 + 32 + 8);
        assert_eq!(message[..8], [134, 0, 0, 0, 64, 0x18, 7, 8]);
        assert_eq!(message[16..20], [3, 4, 64, 0xc0]);
        assert_eq!(message[32..40], [0x20, 1, 0xd, 0xb8, 0, 0xa1, 0, 0]);
        assert_eq!(message[48..], [5, 1, 0, 0, 0, 0, 5, 0x78]);
    }
}
