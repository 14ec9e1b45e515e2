//! `[hold]`: packets that are sent while a path is looked for.

use std::time::Duration;

use shim6_core::dataplane::HoldConfig as CoreConfig;

use super::read::Section;

/// `[hold]`: packets that are sent while a context looks for a working path, and once more when it has found one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldConfig {
    /// `enabled`: whether packets are held at all. Default true.
    pub enabled: bool,
    /// `octets_per_context`: octets held at most for one context, 2048 to 67108864 (64 MiB) and not above `octets`. Each packet
    /// counts for 64 more than it has. Default 262144 (256 KiB).
    pub octets_per_context: usize,
    /// `octets`: octets held at most for all contexts, 2048 to 1073741824 (1 GiB). Default 16777216 (16 MiB).
    pub octets: usize,
    /// `max_age`: a packet that has been held for longer is not sent again, 10 ms to 60 s. Default 2 s.
    pub max_age: Duration,
    /// `datagrams`: whether UDP and all else that is not TCP or SCTP is held; such a packet may arrive twice. Default true.
    pub datagrams: bool,
    /// `last_packet`: whether the last small TCP packet that was sent before the failure was noticed is sent again, too.
    /// Default true.
    pub last_packet: bool,
}

impl HoldConfig {
    /// For the buffer that holds them.
    pub(crate) fn core(&self) -> CoreConfig {
        CoreConfig {
            octets_per_context: self.octets_per_context,
            octets: self.octets,
            max_age: self.max_age,
            datagrams: self.datagrams,
            last_packet: self.last_packet,
        }
    }
}

impl Default for HoldConfig {
    fn default() -> Self {
        let CoreConfig {
            octets_per_context,
            octets,
            max_age,
            datagrams,
            last_packet,
        } = CoreConfig::default();
        Self {
            enabled: true,
            octets_per_context,
            octets,
            max_age,
            datagrams,
            last_packet,
        }
    }
}

/// Reads the section.
pub(super) fn hold(section: Section<'_>) -> HoldConfig {
    let defaults = HoldConfig::default();
    let octets = section.integer("octets").unwrap_or(defaults.octets);
    let hold = HoldConfig {
        enabled: section.boolean("enabled").unwrap_or(defaults.enabled),
        // A small total lowers the default share of one context, never a value that was written down.
        octets_per_context: section
            .integer("octets_per_context")
            .unwrap_or(defaults.octets_per_context.min(octets)),
        octets,
        max_age: section.duration("max_age").unwrap_or(defaults.max_age),
        datagrams: section.boolean("datagrams").unwrap_or(defaults.datagrams),
        last_packet: section.boolean("last_packet").unwrap_or(defaults.last_packet),
    };
    if hold.octets_per_context > hold.octets {
        section.problem_at(
            "octets_per_context",
            &format!("{} is above the total", hold.octets_per_context),
            &format!("expected at most hold.octets, {}", hold.octets),
        );
    }
    section.finish();
    hold
}
