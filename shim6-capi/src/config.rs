//! What may be set.

use std::ffi::{CStr, c_char};
use std::ptr;
use std::time::Duration;

use shim6_core::{EndpointConfig, ShimConfig};

use crate::raw::{self, Growing, Plain};
use crate::status::Status;
use crate::types::micros;

/// Which timers are agreed upon with peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Profile {
    /// Timeouts in milliseconds with peers that announce that they can, those of RFC 5534 with all others.
    Fast = 0,
    /// The timers of RFC 5534 with all peers.
    Rfc = 1,
}

/// Configuration of a shim: shim6_config_init gives the defaults. Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// How long a sent packet may stay without an answer before another path is looked for, with peers that agree to such
    /// times: 50 ms to 100 s. 120 ms.
    pub send_timeout: u64,
    /// The time between the first probes: 10 ms to 10 s. 50 ms.
    pub initial_probe_timeout: u64,
    /// The longest time between probes: initial_probe_timeout to 10 min. 5 s.
    pub max_probe_timeout: u64,
    /// How long nothing has to pass before a context is torn down, at least 1 s. 2 h 4 min.
    pub quiescence: u64,
    /// Time between two probes of a pair that is preferred to the one in use: 10 ms to 1 h. 1 s.
    pub failback_interval: u64,
    /// How long it has to have answered to be taken back, at most 1 d. 10 s.
    pub failback_stable: u64,
    /// A packet that was held for longer while a path was looked for is not sent again. 2 s.
    pub hold_max_age: u64,
    /// Octets that are held for one context; with 0 nothing is held. 262,144.
    pub hold_octets_per_context: u64,
    /// Octets that are held for all contexts. 16,777,216.
    pub hold_octets: u64,
    /// Whose timers: a shim6_profile. SHIM6_PROFILE_FAST.
    pub profile: u32,
    /// A context is set up by itself after so many packets between two addresses, of which both hosts have sent some; with 0
    /// never. 10.
    pub trigger_packets: u32,
    /// Pairs of addresses whose packets are counted for that. 1,024.
    pub trigger_pairs: u32,
    /// How many flows may have contexts of their own: shim6_fork. 1,024.
    pub flows: u32,
    /// Contexts in total, at least 1. 10,000.
    pub contexts: u32,
    /// Contexts with one ULID of a peer, at least 1. 16.
    pub contexts_per_peer: u32,
    /// Contexts with peers that share their first 48 bits, at least 1. 2,500.
    pub contexts_per_prefix: u32,
    /// Locators accepted in a peer's list, 1 to 255. 16.
    pub peer_locators: u32,
    /// Peers that are remembered because they did not answer. 4,096.
    pub holddowns: u32,
    /// Messages that wait for shim6_poll_transmit; what is more is dropped. At least 1. 4,096.
    pub transmit_queue: u32,
    /// Prefixes of peers that are counted apart for each limit on rates, at least 1; each takes about 100 octets. 1,024.
    pub counted_prefixes: u32,
    /// Probes in a second, at least 1. 5,000.
    pub probes: u32,
    /// Whether a preferred pair is gone back to when it works again, 0 or 1. 1.
    pub failback: u32,
    /// Whether packets of transports that do not retransmit are held as well; they may then arrive twice. 0 or 1. 1.
    pub hold_datagrams: u32,
    /// Whether the upper layers get every ICMPv6 error, also those that made this host look for another path. 0 or 1. 0.
    pub deliver_all_icmp: u32,
    /// Whether a flow is answered on the context of its own that the peer sends it on. 0 or 1. 1.
    pub follow_forks: u32,
}

// SAFETY: all fields are integers.
unsafe impl Plain for Config {}

impl Growing for Config {
    const FIRST_SIZE: usize = 136;
}

const MILLISECOND: u64 = 1_000;
const SECOND: u64 = 1_000_000;

impl Default for Config {
    fn default() -> Self {
        let ShimConfig {
            endpoint,
            hold,
            trigger,
            flows,
            follow_forks,
            ..
        } = ShimConfig::default();
        let limits = &endpoint.limits;
        Self {
            send_timeout: micros(endpoint.reap.send_timeout),
            initial_probe_timeout: micros(endpoint.reap.initial_probe_timeout),
            max_probe_timeout: micros(endpoint.reap.max_probe_timeout),
            quiescence: micros(endpoint.quiescence),
            failback_interval: micros(endpoint.failback.interval),
            failback_stable: micros(endpoint.failback.stable),
            hold_max_age: micros(hold.max_age),
            hold_octets_per_context: wide(hold.octets_per_context),
            hold_octets: wide(hold.octets),
            profile: Profile::Fast as u32,
            trigger_packets: trigger.packets,
            trigger_pairs: narrow(trigger.pairs),
            flows: narrow(flows),
            contexts: narrow(limits.contexts),
            contexts_per_peer: narrow(limits.contexts_per_peer),
            contexts_per_prefix: narrow(limits.contexts_per_prefix),
            peer_locators: narrow(limits.peer_locators),
            holddowns: narrow(limits.holddowns),
            transmit_queue: narrow(limits.transmit_queue),
            counted_prefixes: narrow(limits.counted_prefixes),
            probes: limits.probes,
            failback: endpoint.failback.enabled.into(),
            hold_datagrams: hold.datagrams.into(),
            deliver_all_icmp: endpoint.deliver_all_icmp.into(),
            follow_forks: follow_forks.into(),
        }
    }
}

/// The name of a field.
type Field = &'static CStr;

impl Config {
    /// What the shim goes by, or the name of the field that is out of its range.
    pub(crate) fn to_shim(self) -> Result<ShimConfig, Field> {
        let mut config = ShimConfig::default();
        self.set_endpoint(&mut config.endpoint)?;
        config.hold.max_age = Duration::from_micros(self.hold_max_age);
        config.hold.octets_per_context = size(self.hold_octets_per_context).ok_or(c"hold_octets_per_context")?;
        config.hold.octets = size(self.hold_octets).ok_or(c"hold_octets")?;
        config.hold.datagrams = flag(self.hold_datagrams).ok_or(c"hold_datagrams")?;
        config.trigger.packets = self.trigger_packets;
        config.trigger.pairs = count(self.trigger_pairs, 0).ok_or(c"trigger_pairs")?;
        config.flows = count(self.flows, 0).ok_or(c"flows")?;
        config.follow_forks = flag(self.follow_forks).ok_or(c"follow_forks")?;
        Ok(config)
    }

    fn set_endpoint(&self, config: &mut EndpointConfig) -> Result<(), Field> {
        config.profile = match self.profile {
            profile if profile == Profile::Fast as u32 => shim6_core::Profile::Fast,
            profile if profile == Profile::Rfc as u32 => shim6_core::Profile::Rfc,
            _ => return Err(c"profile"),
        };
        config.reap.send_timeout =
            duration(self.send_timeout, 50 * MILLISECOND, 100 * SECOND).ok_or(c"send_timeout")?;
        config.reap.initial_probe_timeout =
            duration(self.initial_probe_timeout, 10 * MILLISECOND, 10 * SECOND).ok_or(c"initial_probe_timeout")?;
        let longest = 600 * SECOND;
        config.reap.max_probe_timeout =
            duration(self.max_probe_timeout, self.initial_probe_timeout, longest).ok_or(c"max_probe_timeout")?;
        config.quiescence = duration(self.quiescence, SECOND, u64::MAX).ok_or(c"quiescence")?;
        config.failback.enabled = flag(self.failback).ok_or(c"failback")?;
        config.failback.interval =
            duration(self.failback_interval, 10 * MILLISECOND, 3_600 * SECOND).ok_or(c"failback_interval")?;
        config.failback.stable = duration(self.failback_stable, 0, 86_400 * SECOND).ok_or(c"failback_stable")?;
        config.failback.max_stable = config.failback.max_stable.max(config.failback.stable);
        config.deliver_all_icmp = flag(self.deliver_all_icmp).ok_or(c"deliver_all_icmp")?;
        let limits = &mut config.limits;
        limits.contexts = count(self.contexts, 1).ok_or(c"contexts")?;
        limits.contexts_per_peer = count(self.contexts_per_peer, 1).ok_or(c"contexts_per_peer")?;
        limits.contexts_per_prefix = count(self.contexts_per_prefix, 1).ok_or(c"contexts_per_prefix")?;
        limits.peer_locators = count(self.peer_locators, 1).ok_or(c"peer_locators")?;
        if limits.peer_locators > 255 {
            return Err(c"peer_locators");
        }
        limits.holddowns = count(self.holddowns, 0).ok_or(c"holddowns")?;
        limits.transmit_queue = count(self.transmit_queue, 1).ok_or(c"transmit_queue")?;
        limits.counted_prefixes = count(self.counted_prefixes, 1).ok_or(c"counted_prefixes")?;
        // They are set aside at once.
        if limits.counted_prefixes > MOST_COUNTED_PREFIXES {
            return Err(c"counted_prefixes");
        }
        if self.probes == 0 {
            return Err(c"probes");
        }
        limits.probes = self.probes;
        Ok(())
    }
}

/// Some 100 MB.
const MOST_COUNTED_PREFIXES: usize = 1 << 20;

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn duration(micros: u64, least: u64, most: u64) -> Option<Duration> {
    (least..=most).contains(&micros).then(|| Duration::from_micros(micros))
}

fn size(octets: u64) -> Option<usize> {
    usize::try_from(octets).ok()
}

fn flag(number: u32) -> Option<bool> {
    match number {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn count(count: u32, least: usize) -> Option<usize> {
    usize::try_from(count).ok().filter(|&count| count >= least)
}

/// Writes the defaults; `size` is sizeof(shim6_config).
///
/// Then change what should be different, and pass it to shim6_new with the same size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_config_init(config: *mut Config, size: usize) -> Status {
    // SAFETY: the rules for all functions.
    let written = unsafe { raw::write_growing(config, size, Config::default()) };
    written.map_or_else(|error| error, |()| Status::Ok)
}

/// Whether shim6_new takes such a configuration, of `size` octets. With SHIM6_STATUS_BAD_ARGUMENT `field` is the name of the first field
/// that is out of its range, such as "send_timeout", else NULL. The text is not to be freed; `field` itself may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shim6_config_check(config: *const Config, size: usize, field: *mut *const c_char) -> Status {
    // SAFETY: the rules for all functions.
    let checked = unsafe { raw::read_growing(config, size, Config::default()) }.map(Config::to_shim);
    let (status, name) = match checked {
        Ok(Ok(_)) => (Status::Ok, ptr::null()),
        Ok(Err(name)) => (Status::BadArgument, name.as_ptr()),
        Err(error) => (error, ptr::null()),
    };
    // SAFETY: the rules for all functions.
    unsafe { raw::write_wanted(field, name) };
    status
}
