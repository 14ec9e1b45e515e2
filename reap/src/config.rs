//! The timers' values (RFC 5534 7).

use core::time::Duration;

/// The protocol's constants and variables (RFC 5534 7).
///
/// Values below one millisecond count as one millisecond. The default is the RFC's, [`Config::rfc`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a sent packet may stay without any answer before exploration starts. Default 15 s.
    ///
    /// The peer has to be told of any other value, in a Keepalive Timeout option.
    pub send_timeout: Duration,
    /// How long after a received packet the peer wants to hear from us: its own Send Timeout. Default 15 s.
    pub keepalive_timeout: Duration,
    /// The time between keepalives; `None`, the default, is a third of `keepalive_timeout`.
    pub keepalive_interval: Option<Duration>,
    /// The time between the first probes. Default 500 ms.
    pub initial_probe_timeout: Duration,
    /// How many probes go out at that spacing before it doubles each time. Default 4.
    pub initial_probes: u32,
    /// The longest time between probes. Default 60 s.
    pub max_probe_timeout: Duration,
    /// Whether `send_timeout` and `initial_probe_timeout` are floors that grow with the measured round-trip time: the
    /// one to RTT + 4 * variance + half of the floor, but not above 15 s, the other to RTT, but not above 500 ms, unless
    /// the floor is. The peer is told of the floor, and so keepalives stay as they are. Default false.
    pub follow_rtt: bool,
}

impl Config {
    /// RFC 5534's own values.
    pub const fn rfc() -> Self {
        Self {
            send_timeout: Duration::from_secs(15),
            keepalive_timeout: Duration::from_secs(15),
            keepalive_interval: None,
            initial_probe_timeout: Duration::from_millis(500),
            initial_probes: 4,
            max_probe_timeout: Duration::from_secs(60),
            follow_rtt: false,
        }
    }

    /// Values that notice and leave a failed pair in a fraction of a second, for two hosts that have agreed on them: a
    /// Send Timeout of 120 ms and probes 50 ms apart, both following the round-trip time, and at most 5 s between probes.
    pub const fn fast() -> Self {
        Self {
            send_timeout: Duration::from_millis(120),
            keepalive_timeout: Duration::from_millis(120),
            keepalive_interval: None,
            initial_probe_timeout: Duration::from_millis(50),
            initial_probes: 4,
            max_probe_timeout: Duration::from_secs(5),
            follow_rtt: true,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::rfc()
    }
}
