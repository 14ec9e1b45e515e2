//! The offloads of an interface, over the `ethtool` control call.
//!
//! Only what is needed here: a kernel that carries packet by packet, for the lab, and one that cuts and joins packets on the
//! daemon's own virtual link.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use super::while_doing;

// Commands and the set of names, from <linux/ethtool.h>.
const GET_STRINGS: u32 = 0x1b;
const GET_STRING_SET_INFO: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const SET_FEATURES: u32 = 0x3b;
const FEATURE_NAMES: u32 = 4;
/// Words of a name.
const NAME_WORDS: usize = 8;

/// A feature of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Feature {
    name: String,
    active: bool,
    /// Whether it can be changed.
    available: bool,
}

impl Feature {
    /// Whether it makes or keeps packets that are larger than the MTU.
    fn makes_large_packets(&self) -> bool {
        let name = self.name.as_str();
        name.contains("segmentation")
            || name.contains("gro")
            || name == "rx-lro"
            || (name.starts_with("tx-gso-") && name != "tx-gso-robust")
    }

    /// Whether it leaves to the interface what the kernel does itself otherwise.
    fn is_offload(&self) -> bool {
        let name = self.name.as_str();
        let rest = ["tx-checksum-", "tx-scatter-gather", "rx-checksum"];
        self.makes_large_packets() || rest.iter().any(|start| name.starts_with(start))
    }
}

/// Makes an interface in the network namespace of the calling thread one that sends and receives no packet larger than its
/// MTU: segmentation and coalescing of TCP and UDP are switched off, those in software, too. Checksum offload stays.
///
/// # Errors
/// There is no such interface, `CAP_NET_ADMIN` is missing, or something could not be switched off.
pub fn disable_segmentation(interface: &str) -> io::Result<()> {
    switch_off(interface, Feature::makes_large_packets)
}

/// Makes an interface in the network namespace of the calling thread one that does nothing for the kernel: beside what
/// [`disable_segmentation`] switches off, checksums and gathering.
///
/// # Errors
/// As for [`disable_segmentation`].
pub fn disable_offloads(interface: &str) -> io::Result<()> {
    switch_off(interface, Feature::is_offload)
}

/// Makes the ends of a virtual link in the network namespace of the calling thread such that the kernel finishes each packet before
/// it leaves `inside`, cut and with its checksum, and joins those that come in there.
///
/// # Errors
/// There is no such interface, or `CAP_NET_ADMIN` is missing.
pub fn cut_and_join(inside: &str, outside: &str) -> io::Result<()> {
    // A virtual link joins nothing that comes from an end which segments, since that would be whole already.
    disable_segmentation(outside)?;
    let prepare = || {
        let caller = Caller::new(inside)?;
        caller.set(|feature| match feature.name.as_str() {
            "rx-gro" => Some(true),
            name if name.starts_with("tx-") && feature.is_offload() => Some(false),
            _ => None,
        })
    };
    prepare().map_err(|error| while_doing(format_args!("prepare the offloads of {inside}"), error))
}

fn switch_off(interface: &str, which: impl Fn(&Feature) -> bool) -> io::Result<()> {
    let switch_off = || {
        let caller = Caller::new(interface)?;
        caller.set(|feature| which(feature).then_some(false))?;
        let after = caller.features()?;
        // What never can be changed is no offload, whatever its name.
        match after
            .iter()
            .find(|feature| feature.active && feature.available && which(feature))
        {
            None => Ok(()),
            Some(stays) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{} stays on", stays.name),
            )),
        }
    };
    switch_off().map_err(|error| while_doing(format_args!("switch off the offloads of {interface}"), error))
}

/// 32 features are in each block of a request.
fn blocks(features: usize) -> usize {
    features.div_ceil(32)
}

/// What the calls about one interface need.
struct Caller {
    socket: Socket,
    request: libc::ifreq,
}

impl Caller {
    fn new(interface: &str) -> io::Result<Self> {
        // SAFETY: `ifreq` is plain data of the C library, for which all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if interface.len() >= request.ifr_name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, &from) in request.ifr_name.iter_mut().zip(interface.as_bytes()) {
            *to = from as libc::c_char;
        }
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
        Ok(Self { socket, request })
    }

    /// All features, in the order of the kernel's bits.
    fn features(&self) -> io::Result<Vec<Feature>> {
        let names = self.names()?;
        let mut request = vec![GET_FEATURES, blocks(names.len()) as u32];
        request.resize(2 + 4 * blocks(names.len()), 0);
        self.call(&mut request)?;
        // Four words for each block: available, requested, active, never changed.
        let is_set = |word: usize, bit: usize| request[2 + 4 * (bit / 32) + word] & (1 << (bit % 32)) != 0;
        let feature = |(bit, name)| Feature {
            name,
            active: is_set(2, bit),
            available: is_set(0, bit) && !is_set(3, bit),
        };
        Ok(names.into_iter().enumerate().map(feature).collect())
    }

    /// Switches on or off those features that can be, where `wanted` says which.
    fn set(&self, wanted: impl Fn(&Feature) -> Option<bool>) -> io::Result<()> {
        let before = self.features()?;
        let mut request = vec![SET_FEATURES, blocks(before.len()) as u32];
        request.resize(2 + 2 * blocks(before.len()), 0);
        for (bit, feature) in before.iter().enumerate().filter(|(_, feature)| feature.available) {
            if let Some(on) = wanted(feature) {
                // Two words for each block: which are meant, and which of them are to be on.
                request[2 + 2 * (bit / 32)] |= 1 << (bit % 32);
                request[3 + 2 * (bit / 32)] |= u32::from(on) << (bit % 32);
            }
        }
        self.call(&mut request)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        // Command, reserved, a mask of sets in 64 bits, and a count for each set that is there.
        let mut request = [GET_STRING_SET_INFO, 0, 0, 0, 0];
        request[2..4].copy_from_slice(&words_of(1 << FEATURE_NAMES));
        self.call(&mut request)?;
        let count = request[4] as usize;
        let mut request = vec![GET_STRINGS, FEATURE_NAMES, request[4]];
        request.resize(3 + NAME_WORDS * count, 0);
        self.call(&mut request)?;
        Ok(request[3..].chunks_exact(NAME_WORDS).map(name_in).collect())
    }

    /// Has the kernel read and answer a request, which starts with its command and has room for the whole answer.
    fn call(&self, request: &mut [u32]) -> io::Result<()> {
        let mut envelope = self.request;
        envelope.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
        // SAFETY: `envelope` is a valid `ifreq` that outlives the call, and it points to a request that the callers above
        // made as long as their command says: two words and a block of two (set) or four (get) for each 32 features; five
        // words for the size of one set of names; three words and eight for each name of that set, the size of which is a
        // constant of the running kernel.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut envelope) };
        Errno::result(result)?;
        Ok(())
    }
}

/// A 64-bit value as the two words that it has in memory.
fn words_of(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

/// The text in a field of 32 octets, up to its first zero.
fn name_in(words: &[u32]) -> String {
    let octets = words.iter().flat_map(|word| word.to_ne_bytes());
    let text: Vec<u8> = octets.take_while(|&octet| octet != 0).collect();
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::isolated;
    use crate::sys::testing::Joined;

    #[test]
    fn only_what_makes_large_packets_is_switched_off() {
        isolated(
            "sys::ethtool::tests::only_what_makes_large_packets_is_switched_off",
            || async {
                let joined = Joined::new().await;
                let features = || {
                    let read = || Caller::new("eth0").and_then(|caller| caller.features());
                    joined.a.run(read).unwrap().unwrap()
                };
                let before = features();
                let is_active = |features: &[Feature], name: &str| features.iter().any(|f| f.name == name && f.active);
                for name in ["tx-tcp6-segmentation", "tx-generic-segmentation", "tx-udp-segmentation"] {
                    assert!(is_active(&before, name), "{name}: {before:?}");
                }
                joined.a.run(|| disable_segmentation("eth0")).unwrap().unwrap();
                let after = features();
                for (before, after) in before.iter().zip(&after) {
                    let expected = before.active && !before.makes_large_packets();
                    assert_eq!(after.active, expected, "{}", after.name);
                }
                assert!(is_active(&after, "tx-checksum-ip-generic"), "{after:?}");
                joined.a.run(|| disable_offloads("eth0")).unwrap().unwrap();
                let after = features();
                for name in ["tx-checksum-ip-generic", "tx-scatter-gather", "rx-checksum"] {
                    assert!(!is_active(&after, name), "{name}: {after:?}");
                }
            },
        );
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        for name in ["no-such", "a-name-that-no-interface-can-have"] {
            let error = disable_segmentation(name).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn names_end_at_their_first_zero() {
        let mut words = [0; NAME_WORDS];
        words[0] = u32::from_ne_bytes(*b"rx-g");
        words[1] = u32::from_ne_bytes(*b"ro\0x");
        assert_eq!(name_in(&words), "rx-gro");
    }
}
