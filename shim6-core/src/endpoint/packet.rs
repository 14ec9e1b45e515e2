//! Whole IPv6 packets: what is in them, and who takes it.

use shim6_reap::Instant;

use super::Endpoint;
use crate::dataplane::{addresses, icmp, position};
use crate::wire::{Discard, PROTOCOL, PacketKind, classify};

impl Endpoint {
    pub(super) fn sort_packet(&mut self, now: Instant, packet: &[u8]) -> Result<(), Discard> {
        let (source, destination) = addresses(packet).ok_or(Discard::Truncated)?;
        let (packet, field, offset) = position(packet).ok_or(Discard::Truncated)?;
        if packet.get(field) != Some(&PROTOCOL) {
            let error = icmp::parse(packet).map_err(|fault| match fault {
                icmp::IcmpFault::NotError | icmp::IcmpFault::NoShim6Header => Discard::Unrelated,
                icmp::IcmpFault::Truncated => Discard::Truncated,
                icmp::IcmpFault::Checksum => Discard::BadChecksum,
            })?;
            let now = self.advance(now);
            return self.handle_icmp(now, &error);
        }
        let (headers, octets) = packet.split_at_checked(offset).ok_or(Discard::Truncated)?;
        match classify(octets) {
            Ok(PacketKind::Payload { tag, .. }) => {
                let now = self.advance(now);
                let on = self.check_addresses(source, destination)?;
                self.handle_payload_tag(now, on, tag)
            }
            // What is wrong with its lengths is said, and counted, there.
            Ok(PacketKind::Control(_)) | Err(_) => {
                self.handle_control(now, (source, destination), headers, octets);
                Ok(())
            }
        }
    }
}
