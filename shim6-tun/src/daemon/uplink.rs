//! The uplinks: interfaces with a provider's prefix and a way out.

use core::net::Ipv6Addr;
use std::collections::BTreeSet;

use crate::netlink::{Address, Link, MAIN_TABLE, Netlink, NetlinkError, RouteKind, RouteSpec};

/// A way to the Internet with a prefix of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Interface name.
    pub interface: String,
    /// Interface index.
    pub index: u32,
    /// The provider's /64 prefix; the lower 64 bits are zero.
    pub prefix: Ipv6Addr,
    /// The provider's router, `None` on a point-to-point link.
    pub gateway: Option<Ipv6Addr>,
    /// Administratively up and with a carrier.
    pub up: bool,
    /// The interface's MTU, in octets.
    pub mtu: u32,
}

/// What the configuration says about an uplink; the rest is read from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkHint {
    /// Interface name.
    pub interface: String,
    /// The provider's /64 prefix.
    pub prefix: Option<Ipv6Addr>,
    /// The provider's router.
    pub gateway: Option<Ipv6Addr>,
}

/// Why there are no usable uplinks, with what to write into the configuration.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// Discovery found none.
    #[error(
        "no uplink found: none of the interfaces ({interfaces}) has a global IPv6 address with a \
         /64 prefix and a default route; bring one up, or name it in an [[uplink]] section with \
         `interface`, `prefix` and `gateway`"
    )]
    None {
        /// Names of the interfaces looked at.
        interfaces: String,
    },
    /// The configuration names an interface that does not exist.
    #[error("uplink {interface}: there is no such interface; `interface` has to be one of {interfaces}")]
    NoInterface {
        /// The name in the configuration.
        interface: String,
        /// The names that exist.
        interfaces: String,
    },
    /// The interface has no /64 prefix.
    #[error(
        "uplink {interface}: it has no global IPv6 address with a /64 prefix; configure one, or \
         write the provider's prefix into its [[uplink]] section, as in \
         `prefix = \"2001:db8:a1::/64\"`"
    )]
    NoPrefix {
        /// Interface name.
        interface: String,
    },
    /// The interface has several /64 prefixes.
    #[error(
        "uplink {interface}: it has the prefixes {prefixes}; write an [[uplink]] section with \
         `interface = \"{interface}\"` and one of them as `prefix`"
    )]
    SeveralPrefixes {
        /// Interface name.
        interface: String,
        /// The prefixes found.
        prefixes: String,
    },
    /// There is no default route over the interface.
    #[error(
        "uplink {interface}: there is no default route over it; add one, or write the router's \
         address into its [[uplink]] section, as in `gateway = \"fe80::1\"`"
    )]
    NoGateway {
        /// Interface name.
        interface: String,
    },
    /// There are several default routes over the interface.
    #[error(
        "uplink {interface}: there are default routes over {gateways}; write the router of \
         {prefix}/64 into its [[uplink]] section, as in `gateway = \"fe80::1\"`"
    )]
    SeveralGateways {
        /// Interface name.
        interface: String,
        /// The uplink's prefix.
        prefix: Ipv6Addr,
        /// The routers found.
        gateways: String,
    },
    /// Two uplinks have the same prefix.
    #[error("uplinks {0} and {1} have the same prefix {2}/64; each uplink needs one of its own")]
    SamePrefix(String, String, Ipv6Addr),
    /// The prefix in the configuration is no unicast prefix of 64 bits.
    #[error(
        "uplink {interface}: `prefix` {prefix}/64 is not the /64 of a provider; expected one as \
         in \"2001:db8:a1::/64\""
    )]
    BadPrefix {
        /// Interface name.
        interface: String,
        /// The prefix in the configuration.
        prefix: Ipv6Addr,
    },
    /// The kernel could not be asked.
    #[error("cannot look for uplinks: {0}")]
    Netlink(#[from] NetlinkError),
}

/// Finds the uplinks: those that `hints` name, with what they leave out filled in from the
/// kernel; without hints, every interface but loopback and TUN that has an address in a global
/// unicast /64 and a default route. Sorted as the hints, else by interface index.
///
/// One uplink is enough to run but not to fail over: logged as a [`warning`].
pub async fn discover(netlink: &Netlink, hints: &[UplinkHint]) -> Result<Vec<Uplink>, UplinkError> {
    let host = Host {
        links: netlink.links().await?,
        addresses: netlink.addresses().await?,
        defaults: defaults(netlink.routes(MAIN_TABLE).await?),
    };
    let uplinks = if hints.is_empty() {
        host.found(&netlink.tun_links().await?)?
    } else {
        let hinted = hints.iter().map(|hint| host.hinted(hint));
        hinted.collect::<Result<_, _>>()?
    };
    check_distinct(&uplinks)?;
    if let Some(warning) = warning(&uplinks) {
        tracing::warn!("{warning}");
    }
    Ok(uplinks)
}

/// What a person should know about these uplinks although they can be used.
pub fn warning(uplinks: &[Uplink]) -> Option<String> {
    match uplinks {
        [only] => Some(format!(
            "{} is the only uplink: sessions cannot move away from it; a second one is found when \
             it has a global /64 prefix and a default route, or can be named in an [[uplink]] \
             section",
            only.interface
        )),
        _ => None,
    }
}

/// The /64 prefix of an address.
pub fn prefix_of(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))
}

/// The host's configuration at one time.
struct Host {
    links: Vec<Link>,
    addresses: Vec<Address>,
    defaults: Vec<RouteSpec>,
}

impl Host {
    fn found(&self, tuns: &[u32]) -> Result<Vec<Uplink>, UplinkError> {
        let candidates = self.candidates().filter(|l| !tuns.contains(&l.index));
        let uplinks: Vec<Uplink> = candidates
            .filter(|link| !self.public_prefixes(link.index).is_empty())
            .filter(|link| self.defaults.iter().any(|r| r.output == Some(link.index)))
            .map(|link| self.uplink(link, None, None))
            .collect::<Result<_, _>>()?;
        if uplinks.is_empty() {
            return Err(UplinkError::None {
                interfaces: self.names(),
            });
        }
        Ok(uplinks)
    }

    fn hinted(&self, hint: &UplinkHint) -> Result<Uplink, UplinkError> {
        let mut links = self.links.iter();
        let link = links.find(|link| link.name == hint.interface);
        let link = link.ok_or_else(|| UplinkError::NoInterface {
            interface: hint.interface.clone(),
            interfaces: self.names(),
        })?;
        if let Some(prefix) = hint.prefix
            && (prefix_of(prefix) != prefix || !is_unicast(prefix))
        {
            return Err(UplinkError::BadPrefix {
                interface: hint.interface.clone(),
                prefix,
            });
        }
        self.uplink(link, hint.prefix, hint.gateway)
    }

    fn uplink(&self, link: &Link, prefix: Option<Ipv6Addr>, gateway: Option<Ipv6Addr>) -> Result<Uplink, UplinkError> {
        let prefix = match prefix {
            Some(prefix) => prefix,
            None => self.only_prefix(link)?,
        };
        let gateway = match gateway {
            Some(gateway) => Some(gateway),
            None => self.only_gateway(link, prefix)?,
        };
        Ok(Uplink {
            interface: link.name.clone(),
            index: link.index,
            prefix,
            gateway,
            up: link.up && link.running,
            mtu: link.mtu,
        })
    }

    fn only_prefix(&self, link: &Link) -> Result<Ipv6Addr, UplinkError> {
        let mut prefixes = self.public_prefixes(link.index);
        if prefixes.is_empty() {
            // An interface that somebody named may as well have a local prefix.
            prefixes = self.prefixes(link.index).collect();
        }
        let interface = link.name.clone();
        match (prefixes.pop_first(), prefixes.is_empty()) {
            (None, _) => Err(UplinkError::NoPrefix { interface }),
            (Some(prefix), true) => Ok(prefix),
            (Some(first), false) => {
                let all = core::iter::once(first).chain(prefixes);
                Err(UplinkError::SeveralPrefixes {
                    interface,
                    prefixes: list(all.map(|prefix| format!("{prefix}/64"))),
                })
            }
        }
    }

    /// The router for packets from `prefix` over `link`, `None` if it has a default route that
    /// needs no router.
    fn only_gateway(&self, link: &Link, prefix: Ipv6Addr) -> Result<Option<Ipv6Addr>, UplinkError> {
        let over = |from_prefix: bool| {
            let matching = self.defaults.iter().filter(move |route| {
                let source_fits = match route.source {
                    Some(source) => from_prefix && contains(source, prefix),
                    None => !from_prefix,
                };
                route.output == Some(link.index) && source_fits
            });
            let best = matching.clone().filter_map(|route| route.metric).min();
            let gateways = matching.filter(move |route| route.metric == best);
            gateways.map(|r| r.gateway).collect::<BTreeSet<_>>()
        };
        // A default route for this prefix alone says best which router is the prefix's.
        let mut gateways = over(true);
        if gateways.is_empty() {
            gateways = over(false);
        }
        let interface = link.name.clone();
        match (gateways.pop_first(), gateways.is_empty()) {
            (None, _) => Err(UplinkError::NoGateway { interface }),
            (Some(gateway), true) => Ok(gateway),
            (Some(first), false) => {
                let all = core::iter::once(first).chain(gateways);
                Err(UplinkError::SeveralGateways {
                    interface,
                    prefix,
                    gateways: list(all.map(|g| g.map_or("no router".to_owned(), |g| g.to_string()))),
                })
            }
        }
    }

    fn public_prefixes(&self, index: u32) -> BTreeSet<Ipv6Addr> {
        self.prefixes(index).filter(|p| is_public(*p)).collect()
    }

    fn prefixes(&self, index: u32) -> impl Iterator<Item = Ipv6Addr> {
        let usable = self
            .addresses
            .iter()
            .filter(move |a| a.index == index && a.global && a.prefix_len == 64 && !a.deprecated && !a.dad_failed);
        usable.map(|a| prefix_of(a.address))
    }

    fn candidates(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(|link| !link.loopback)
    }

    fn names(&self) -> String {
        list(self.candidates().map(|link| link.name.clone()))
    }
}

fn defaults(mut routes: Vec<RouteSpec>) -> Vec<RouteSpec> {
    routes.retain(|route| route.is_default() && route.kind == RouteKind::Unicast);
    routes
}

fn check_distinct(uplinks: &[Uplink]) -> Result<(), UplinkError> {
    for (i, one) in uplinks.iter().enumerate() {
        if let Some(other) = uplinks[..i].iter().find(|u| u.prefix == one.prefix) {
            let (first, second) = (other.interface.clone(), one.interface.clone());
            return Err(UplinkError::SamePrefix(first, second, one.prefix));
        }
    }
    Ok(())
}

/// Whether the /64 `prefix` is within `(address, length)`.
fn contains((address, length): (Ipv6Addr, u8), prefix: Ipv6Addr) -> bool {
    let beyond = u32::from(length.min(64));
    let mask = u128::MAX.checked_shl(128 - beyond).unwrap_or(0);
    length <= 64 && (address.to_bits() ^ prefix.to_bits()) & mask == 0
}

/// Global unicast: 2000::/3, all that the registries give out.
fn is_public(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xe000 == 0x2000
}

fn is_unicast(address: Ipv6Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_unicast_link_local()
}

fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests;
