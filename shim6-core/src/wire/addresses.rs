//! What RFC 5533 section 12.3 asks of the addresses of a control message.

use core::net::Ipv6Addr;

use super::Discard;

/// Checks the addresses of a packet with a control message, as far as this takes no knowledge of the host: neither may be
/// multicast or unspecified (RFC 5533 section 12.3). Such a message is dropped silently, whatever else is wrong with it,
/// since an answer would go astray: check this before [`View::parse`](super::View::parse).
///
/// # Errors
///
/// [`Discard::Multicast`] or [`Discard::UnspecifiedAddress`].
pub fn check_addresses(source: Ipv6Addr, destination: Ipv6Addr) -> Result<(), Discard> {
    if source.is_multicast() || destination.is_multicast() {
        Err(Discard::Multicast)
    } else if source.is_unspecified() || destination.is_unspecified() {
        Err(Discard::UnspecifiedAddress)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multicast_and_unspecified_addresses_are_refused_on_either_side() {
        let unicast = Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0xaa);
        let multicast = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let unspecified = Ipv6Addr::UNSPECIFIED;
        for (source, destination, expected) in [
            (unicast, unicast, Ok(())),
            (multicast, unicast, Err(Discard::Multicast)),
            (unicast, multicast, Err(Discard::Multicast)),
            (unspecified, unicast, Err(Discard::UnspecifiedAddress)),
            (unicast, unspecified, Err(Discard::UnspecifiedAddress)),
            (unspecified, multicast, Err(Discard::Multicast)),
        ] {
            assert_eq!(check_addresses(source, destination), expected);
        }
    }
}
