//! What an IPv6 packet carries, as far as its first octets show.

/// The headers between IPv6's and the upper layer's that have a length in units of eight octets.
const EXTENSIONS: [u8; 3] = [0, 43, 60];
const FRAGMENT: u8 = 44;
/// Its length is in units of four octets.
const AUTHENTICATION: u8 = 51;
/// TCP, UDP, DCCP, SCTP and UDP-Lite begin with two ports.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
const IPV6_HEADER_LEN: usize = 40;

/// The upper-layer protocol of a packet and its ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UpperLayer {
    /// `None` if the packet is cut off in front of it.
    pub(crate) protocol: Option<u8>,
    /// Source and destination; `None` also for protocols without, and for fragments behind the first.
    pub(crate) ports: Option<(u16, u16)>,
}

impl UpperLayer {
    /// Of a packet from its IPv6 header on, or of the first octets of it.
    pub(crate) fn of(octets: &[u8]) -> Self {
        let mut next = octets.get(6).copied();
        let mut at = IPV6_HEADER_LEN;
        // Each extension header moves on by eight octets at least.
        while let Some(protocol) = next {
            let field = |offset: usize| octets.get(at.checked_add(offset)?).copied();
            let length = match protocol {
                _ if EXTENSIONS.contains(&protocol) => field(1).map(|units| (usize::from(units) + 1) * 8),
                AUTHENTICATION => field(1).map(|units| (usize::from(units) + 2) * 4),
                FRAGMENT => {
                    let offset = field(2)
                        .zip(field(3))
                        .map(|(high, low)| u16::from_be_bytes([high, low]) >> 3);
                    if offset != Some(0) {
                        return Self {
                            protocol: field(0),
                            ports: None,
                        };
                    }
                    Some(8)
                }
                _ => break,
            };
            next = length.and(field(0));
            at = at.saturating_add(length.unwrap_or(0));
        }
        let ports = next.filter(|protocol| WITH_PORTS.contains(protocol)).and_then(|_| {
            let &[a, b, c, d] = octets.get(at..at.checked_add(4)?)? else {
                return None;
            };
            Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
        });
        Self { protocol: next, ports }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; IPV6_HEADER_LEN];
        (packet[0], packet[6]) = (0x60, next);
        packet.extend(rest);
        packet
    }

    fn found(next: u8, rest: &[u8]) -> (Option<u8>, Option<(u16, u16)>) {
        let upper = UpperLayer::of(&packet(next, rest));
        (upper.protocol, upper.ports)
    }

    #[test]
    fn ports_are_found_behind_extension_headers() {
        assert_eq!(found(6, &[0, 22, 1, 0]), (Some(6), Some((22, 256))));
        assert_eq!(found(58, &[128, 0, 0, 0]), (Some(58), None));
        let hop_by_hop = [60, 0, 5, 2, 0, 0, 1, 0];
        let destination = [17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let udp = [0, 53, 0, 99];
        let rest = [&hop_by_hop[..], &destination, &udp].concat();
        assert_eq!(found(0, &rest), (Some(17), Some((53, 99))));
        let authentication = [6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 80, 0, 81];
        assert_eq!(found(AUTHENTICATION, &authentication), (Some(6), Some((80, 81))));
    }

    #[test]
    fn only_the_first_fragment_has_ports() {
        let first = [6, 0, 0, 1, 0, 0, 0, 9, 0, 22, 0, 23];
        assert_eq!(found(FRAGMENT, &first), (Some(6), Some((22, 23))));
        let later = [6, 0, 5, 0, 0, 0, 0, 9, 0, 22, 0, 23];
        assert_eq!(found(FRAGMENT, &later), (Some(6), None));
    }

    #[test]
    fn what_is_cut_off_is_not_guessed() {
        assert_eq!(found(6, &[0, 22, 1]), (Some(6), None));
        assert_eq!(found(60, &[6]), (None, None));
        assert_eq!(found(60, &[6, 7, 0, 0]), (Some(6), None));
        assert_eq!(UpperLayer::of(&[]), UpperLayer::default());
        assert_eq!(UpperLayer::of(&[0x60, 0, 0, 0, 0, 0]), UpperLayer::default());
    }

    proptest::proptest! {
        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..256)) {
            let _ = UpperLayer::of(&octets);
        }
    }
}
