//! What stands in the way of packets on a real link, ready-made: firewalls, ingress filters, prefix translation.
//!
//! An element has an inside, which is the first end of its link, and an outside. It looks at packets as a router forwards them: what
//! stays on the link, such as Neighbor Discovery and everything else with link-local addresses, passes it untouched.

mod headers;
mod nptv6;
mod stateful;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Instant;

use self::headers::Headers;
use self::nptv6::Translator;
use self::stateful::Firewall;
use super::Direction;
use crate::lab::Prefix;

/// An element to put on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Element {
    /// A firewall that does not know Shim6: it drops protocol 140, both ways.
    DropShim6,
    /// A firewall that takes Shim6 for a control protocol only: it drops payload that has the header, both ways, and lets
    /// control messages pass.
    DropShim6Payload,
    /// A firewall that drops every packet with an extension header (RFC 7045), protocol 140 among them. Not Encapsulating Security
    /// Payload, nor fragments.
    DropExtensionHeaders,
    /// A firewall that lets in only what answers: a flow begins with a packet from inside, and ends after two minutes without one
    /// (TCP: two hours).
    Stateful,
    /// What an ISP does to its customers (BCP 38): from inside come only packets with a source in one of these prefixes.
    IngressFilter(Vec<Prefix>),
    /// Network prefix translation (RFC 6296), neutral to checksums: inside the addresses are in one prefix, outside in the other.
    Nptv6 {
        /// The prefix inside.
        inside: Prefix,
        /// The prefix outside, of the same length.
        outside: Prefix,
    },
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DropShim6 => f.write_str("drops Shim6"),
            Self::DropShim6Payload => f.write_str("drops payload with Shim6"),
            Self::DropExtensionHeaders => f.write_str("drops extension headers"),
            Self::Stateful => f.write_str("stateful firewall"),
            Self::IngressFilter(prefixes) => {
                let prefixes: Vec<_> = prefixes.iter().map(Prefix::to_string).collect();
                write!(f, "ingress filter for {}", prefixes.join(", "))
            }
            Self::Nptv6 { inside, outside } => write!(f, "NPTv6 {inside} = {outside}"),
        }
    }
}

/// The elements of a link at work, from the inside outwards.
#[derive(Debug, Default)]
pub(super) struct Chain(Vec<Stage>);

#[derive(Debug)]
enum Stage {
    DropShim6,
    DropShim6Payload,
    DropExtensionHeaders,
    Stateful(Box<Firewall>),
    IngressFilter(Vec<Prefix>),
    Nptv6(Translator),
}

impl Chain {
    pub(super) fn new(elements: &[Element]) -> Self {
        Self(elements.iter().map(Stage::new).collect())
    }

    /// Has a packet, from its IPv6 header on, pass all elements, which may change it.
    ///
    /// # Errors
    /// What took it.
    pub(super) fn pass(&mut self, direction: Direction, packet: &mut [u8], now: Instant) -> Result<(), &'static str> {
        if self.0.is_empty() || headers::is_local(packet) {
            return Ok(());
        }
        match direction {
            Direction::Up => self
                .0
                .iter_mut()
                .try_for_each(|stage| stage.pass(direction, packet, now)),
            Direction::Down => self
                .0
                .iter_mut()
                .rev()
                .try_for_each(|stage| stage.pass(direction, packet, now)),
        }
    }
}

impl Stage {
    fn new(element: &Element) -> Self {
        match element {
            Element::DropShim6 => Self::DropShim6,
            Element::DropShim6Payload => Self::DropShim6Payload,
            Element::DropExtensionHeaders => Self::DropExtensionHeaders,
            Element::Stateful => Self::Stateful(Box::default()),
            Element::IngressFilter(prefixes) => Self::IngressFilter(prefixes.clone()),
            Element::Nptv6 { inside, outside } => Self::Nptv6(Translator::new(*inside, *outside)),
        }
    }

    fn pass(&mut self, direction: Direction, packet: &mut [u8], now: Instant) -> Result<(), &'static str> {
        let unless = |taken: bool, what| if taken { Err(what) } else { Ok(()) };
        match self {
            Self::DropShim6 => unless(Headers::of(packet).has_shim6, "firewall against Shim6"),
            Self::DropShim6Payload => unless(Headers::of(packet).has_shim6_payload, "firewall against Shim6's header"),
            Self::DropExtensionHeaders => {
                unless(Headers::of(packet).has_extension, "firewall against extension headers")
            }
            Self::Stateful(firewall) => unless(!firewall.passes(direction, packet, now), "stateful firewall"),
            Self::IngressFilter(prefixes) => {
                let is_ours = |source| prefixes.iter().any(|prefix| prefix.contains(source));
                let refused = direction == Direction::Up && !headers::source(packet).is_some_and(is_ours);
                unless(refused, "ingress filter")
            }
            Self::Nptv6(translator) => unless(!translator.translate(direction, packet), "prefix translation"),
        }
    }
}
