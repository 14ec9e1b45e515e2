//! `[wire]`: how rewritten packets are sent.

use super::read::Section;

/// `[wire]`: how rewritten packets are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireConfig {
    /// `below_ip`: whether packets are given to the next hop below the kernel's IP layer, but for one now and then. Much faster;
    /// but packet filters on output and IPsec see only those few. Default true.
    pub below_ip: bool,
    /// `in_kernel`: whether programs in the kernel carry what they can, so that it need not pass through the daemon. Without effect if
    /// `below_ip` is false or packets are watched by taps. Default true.
    pub in_kernel: bool,
}

impl Default for WireConfig {
    fn default() -> Self {
        Self {
            below_ip: true,
            in_kernel: true,
        }
    }
}

/// Reads the section.
pub(super) fn wire(section: Section<'_>) -> WireConfig {
    let defaults = WireConfig::default();
    let wire = WireConfig {
        below_ip: section.boolean("below_ip").unwrap_or(defaults.below_ip),
        in_kernel: section.boolean("in_kernel").unwrap_or(defaults.in_kernel),
    };
    section.finish();
    wire
}
