//! The uplinks: interfaces with a provider's prefix and a way out.

use core::net::Ipv6Addr;
use std::collections::BTreeSet;

use super::advertisements::Advertised;
use crate::netlink::{Address, Link, MAIN_TABLE, Netlink, NetlinkError, RouteKind, RouteSpec};

/// A way to the Internet with a prefix of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Interface name.
    pub interface: String,
    /// Interface index; 0 as long as there is no such interface.
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

impl Uplink {
    /// Whether there is such an interface.
    pub fn is_present(&self) -> bool {
        self.index != 0
    }
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
/// unicast /64 and a default route. An interface with several prefixes is several uplinks. Sorted as the hints, else by
/// interface index.
///
/// One uplink is enough to run but not to fail over: logged as a [`warning`].
pub async fn discover(netlink: &Netlink, hints: &[UplinkHint]) -> Result<Vec<Uplink>, UplinkError> {
    let (uplinks, problems) = examine(netlink, hints).await?;
    if let Some(problem) = problems.into_iter().next() {
        return Err(problem);
    }
    if let Some(warning) = warning(&uplinks) {
        tracing::warn!("{warning}");
    }
    Ok(uplinks)
}

/// Those that [`discover`] would find, and why there are no others.
pub(crate) async fn examine(
    netlink: &Netlink,
    hints: &[UplinkHint],
) -> Result<(Vec<Uplink>, Vec<UplinkError>), UplinkError> {
    let known = Advertised::default();
    let Survey { uplinks, problems, .. } = survey(netlink, hints, &known, |_| false, |_| false).await?;
    Ok((uplinks, problems))
}

/// What there is of uplinks at one time.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Those that can be used.
    pub(super) uplinks: Vec<Uplink>,
    /// The prefixes that an interface has by an address which is not ours, or by the configuration.
    pub(super) prefixes: Vec<PrefixState>,
    /// All interfaces but loopback.
    pub(super) links: Vec<Link>,
    /// Why there are no others.
    pub(super) problems: Vec<UplinkError>,
}

/// A prefix of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PrefixState {
    pub(super) index: u32,
    pub(super) prefix: Ipv6Addr,
    /// No session is to start from it any more.
    pub(super) deprecated: bool,
}

impl Survey {
    /// Whether an interface has a prefix, and if so, whether it is deprecated.
    pub(super) fn prefix(&self, index: u32, prefix: Ipv6Addr) -> Option<PrefixState> {
        let mut all = self.prefixes.iter();
        all.find(|state| state.index == index && state.prefix == prefix)
            .copied()
    }
}

/// Looks for uplinks as [`discover`] does; what is wrong with one does not keep others from being found. What the daemon itself
/// has added says nothing: `is_ours` and `is_our_route` tell it.
pub(super) async fn survey(
    netlink: &Netlink,
    hints: &[UplinkHint],
    advertised: &Advertised,
    is_ours: impl Fn(&Address) -> bool,
    is_our_route: impl Fn(&RouteSpec) -> bool,
) -> Result<Survey, UplinkError> {
    let mut routes = netlink.routes(MAIN_TABLE).await?;
    routes.retain(|route| route.kind == RouteKind::Unicast && !is_our_route(route));
    let mut addresses = netlink.addresses().await?;
    addresses.retain(|address| address.global && !address.dad_failed && !is_ours(address));
    let (defaults, others) = routes.into_iter().partition(RouteSpec::is_default);
    let host = Host {
        links: netlink.links().await?,
        addresses,
        defaults,
        others,
        advertised: advertised.clone(),
    };
    let tuns = netlink.tun_links().await?;
    Ok(host.survey(hints, &tuns))
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
    /// Routes to some place.
    others: Vec<RouteSpec>,
    /// Which router has which prefix.
    advertised: Advertised,
}

impl Host {
    fn survey(&self, hints: &[UplinkHint], tuns: &[u32]) -> Survey {
        let mut survey = Survey {
            prefixes: self.candidates().flat_map(|link| self.prefixes(link.index)).collect(),
            links: self.candidates().cloned().collect(),
            ..Survey::default()
        };
        let found = if hints.is_empty() {
            self.found(tuns)
        } else {
            hints.iter().flat_map(|hint| self.hinted(hint)).collect()
        };
        for uplink in found {
            match uplink {
                Ok(uplink) => match survey.uplinks.iter().find(|other| other.prefix == uplink.prefix) {
                    None => survey.uplinks.push(uplink),
                    Some(other) => survey.problems.push(UplinkError::SamePrefix(
                        other.interface.clone(),
                        uplink.interface,
                        uplink.prefix,
                    )),
                },
                Err(problem) => survey.problems.push(problem),
            }
        }
        if survey.uplinks.is_empty() && survey.problems.is_empty() {
            survey.problems.push(UplinkError::None {
                interfaces: self.names(),
            });
        }
        let configured = hints.iter().filter_map(|hint| {
            let link = self.links.iter().find(|link| link.name == hint.interface)?;
            Some(PrefixState {
                index: link.index,
                prefix: hint.prefix?,
                deprecated: false,
            })
        });
        for state in configured {
            if survey.prefix(state.index, state.prefix).is_none() {
                survey.prefixes.push(state);
            }
        }
        survey
    }

    fn found(&self, tuns: &[u32]) -> Vec<Result<Uplink, UplinkError>> {
        let candidates = self.candidates().filter(|l| !tuns.contains(&l.index));
        let candidates = candidates.filter(|link| self.defaults.iter().any(|r| r.output == Some(link.index)));
        let each = candidates.flat_map(|link| {
            let prefixes = self.public_prefixes(link.index);
            prefixes.into_iter().map(|prefix| self.uplink(link, prefix, None))
        });
        each.collect()
    }

    fn hinted(&self, hint: &UplinkHint) -> Vec<Result<Uplink, UplinkError>> {
        match self.try_hinted(hint) {
            Ok(uplinks) => uplinks,
            Err(problem) => vec![Err(problem)],
        }
    }

    fn try_hinted(&self, hint: &UplinkHint) -> Result<Vec<Result<Uplink, UplinkError>>, UplinkError> {
        if let Some(prefix) = hint.prefix
            && (prefix_of(prefix) != prefix || !is_unicast(prefix))
        {
            return Err(UplinkError::BadPrefix {
                interface: hint.interface.clone(),
                prefix,
            });
        }
        let mut links = self.links.iter();
        let link = links.find(|link| link.name == hint.interface);
        let link = link.ok_or_else(|| UplinkError::NoInterface {
            interface: hint.interface.clone(),
            interfaces: self.names(),
        })?;
        let prefixes = match hint.prefix {
            Some(prefix) => BTreeSet::from([prefix]),
            None => self.named_prefixes(link)?,
        };
        let each = prefixes
            .into_iter()
            .map(|prefix| self.uplink(link, prefix, hint.gateway));
        Ok(each.collect())
    }

    fn uplink(&self, link: &Link, prefix: Ipv6Addr, gateway: Option<Ipv6Addr>) -> Result<Uplink, UplinkError> {
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

    /// Those of an interface that somebody named.
    fn named_prefixes(&self, link: &Link) -> Result<BTreeSet<Ipv6Addr>, UplinkError> {
        let mut prefixes = self.public_prefixes(link.index);
        if prefixes.is_empty() {
            // It may as well have a local prefix.
            prefixes = self.preferred(link.index).collect();
        }
        if prefixes.is_empty() {
            return Err(UplinkError::NoPrefix {
                interface: link.name.clone(),
            });
        }
        Ok(prefixes)
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
        // A default route for this prefix alone says best which router is the prefix's, then what the routers themselves say, or
        // their addresses.
        let mut gateways = over(true);
        if gateways.is_empty() {
            if let Some(router) = self.router_of(link, prefix) {
                return Ok(Some(router));
            }
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

    /// The router that advertises the prefix, or has an address in it, if there is a default route by it; of several the most preferred.
    fn router_of(&self, link: &Link, prefix: Ipv6Addr) -> Option<Ipv6Addr> {
        let here = self
            .defaults
            .iter()
            .filter(|route| route.output == Some(link.index) && route.source.is_none());
        let routers = here.filter_map(|route| Some((route.metric, route.gateway?)));
        let is_of = |router| prefix_of(router) == prefix || self.advertised.is_of(router, link.index, prefix);
        let of_prefix = routers.filter(|(_, router)| is_of(*router));
        of_prefix.min().map(|(_, router)| router)
    }

    fn public_prefixes(&self, index: u32) -> BTreeSet<Ipv6Addr> {
        self.preferred(index).filter(|p| is_public(*p)).collect()
    }

    fn preferred(&self, index: u32) -> impl Iterator<Item = Ipv6Addr> {
        let preferred = self.prefixes(index).into_iter().filter(|state| !state.deprecated);
        preferred.map(|state| state.prefix)
    }

    /// The /64 prefixes of an interface, each deprecated if all addresses under it are.
    fn prefixes(&self, index: u32) -> Vec<PrefixState> {
        let here = |address: &&Address| address.index == index && self.has_prefix(address);
        let mut states: Vec<PrefixState> = Vec::new();
        for address in self.addresses.iter().filter(here) {
            let prefix = prefix_of(address.address);
            match states.iter_mut().find(|state| state.prefix == prefix) {
                Some(state) => state.deprecated &= address.deprecated,
                None => states.push(PrefixState {
                    index,
                    prefix,
                    deprecated: address.deprecated,
                }),
            }
        }
        states
    }

    /// Whether an address tells its /64. DHCPv6 gives single ones (RFC 8415 section 18.2.10.1); then a router advertisement says
    /// that the prefix is on the link.
    fn has_prefix(&self, address: &Address) -> bool {
        let on_link = |route: &RouteSpec| {
            route.destination == (prefix_of(address.address), 64)
                && route.gateway.is_none()
                && route.output == Some(address.index)
        };
        let usable = address.global && !address.dad_failed;
        usable && (address.prefix_len == 64 || address.prefix_len == 128 && self.others.iter().any(on_link))
    }

    fn candidates(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(|link| !link.loopback)
    }

    fn names(&self) -> String {
        list(self.candidates().map(|link| link.name.clone()))
    }
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
