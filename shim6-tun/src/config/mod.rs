//! The daemon's configuration: TOML files, every key optional.
//!
//! Unknown keys, wrong types and values out of range are errors that name the file, the line, the key and what is
//! expected. All of them are reported at once, in the order of the files. What keys there are, with ranges and meaning, is
//! described once, in `keys`.

mod changes;
mod error;
mod hold;
pub(crate) mod keys;
mod load;
mod metrics;
mod nearest;
mod network;
mod observe;
mod peer;
mod policy;
mod prefix;
pub(crate) mod read;
mod render;
mod sections;
mod user;
mod warn;
mod wire;

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shim6_cga::KeySizes;
use shim6_core::Profile;

pub use changes::{Change, changes};
pub use error::{ConfigError, Problem};
pub use hold::HoldConfig;
pub use load::{Loaded, Origin, Source};
pub use metrics::MetricsConfig;
pub(crate) use nearest::nearest;
pub use network::{Network, NetworkError};
pub use observe::{ObserveConfig, ObserveMethod};
pub use peer::PeerConfig;
pub use policy::{PolicyConfig, Protocol};
pub use prefix::{Prefix64, PrefixError};
pub use render::{default_file, effective, effective_json};
pub use user::RunAs;
pub use wire::WireConfig;

/// Where `shim6 run` looks for its configuration when it is not told.
pub const DEFAULT_PATH: &str = "/etc/shim6/shim6.toml";

/// Where the daemon's control socket is when the configuration does not say.
pub const DEFAULT_SOCKET: &str = "/run/shim6/shim6.sock";

/// Where the addresses are kept when the configuration does not say.
pub const DEFAULT_IDENTITY: &str = "/var/lib/shim6/identity";

/// The whole configuration. [`Config::default`] is what an empty file gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `control_socket`: absolute path of the control socket, at most 107 octets.
    /// Default `/run/shim6/shim6.sock`.
    pub control_socket: PathBuf,
    /// `control_group`: the group whose members may use the control socket, 1 to 32 octets. Default: `shim6` where there is
    /// such a group, else the daemon's own.
    pub control_group: Option<String>,
    /// `user`: whose rights the daemon keeps when root starts it. Default: those of `shim6`, if there is such a user.
    pub user: RunAs,
    /// `[tun]`: the device that steered packets go through.
    pub tun: TunConfig,
    /// `[[uplink]]`: the uplinks to use, at most 16. Default: none given, which means to discover them.
    pub uplinks: Vec<UplinkConfig>,
    /// `[addresses]`: how our own addresses are made.
    pub addresses: AddressConfig,
    /// `[trigger]`: when a pair of addresses gets a context.
    pub trigger: TriggerConfig,
    /// `[[policy]]`: which traffic gets contexts, in this order. At most 256. Default: none.
    pub policies: Vec<PolicyConfig>,
    /// `[reap]`: failure detection and exploration (RFC 5534).
    pub reap: ReapConfig,
    /// `[[peer]]`: what holds towards some peers only. At most 256. Default: none.
    pub peers: Vec<PeerConfig>,
    /// `[failback]`: the way back to a preferred path that works again.
    pub failback: FailbackConfig,
    /// `[hold]`: packets that are sent while a path is looked for.
    pub hold: HoldConfig,
    /// `[wire]`: how rewritten packets are sent.
    pub wire: WireConfig,
    /// `[observe]`: how packets are watched that the daemon does not touch.
    pub observe: ObserveConfig,
    /// `[steering]`: the routing table, rule and mark that steering uses.
    pub steering: SteeringConfig,
    /// `[icmp]`: errors that routers send about steered packets.
    pub icmp: IcmpConfig,
    /// `[limits]`: bounds on what peers and traffic can make grow.
    pub limits: LimitsConfig,
    /// `[metrics]`: figures for Prometheus.
    pub metrics: MetricsConfig,
}

/// `[tun]`: the device that steered packets go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunConfig {
    /// `name`: the device's name, 1 to 15 octets. Default `shim0`.
    pub name: String,
    /// `mtu`: the most octets that a packet may have, 1280 to 65535. Default: none but what each uplink carries, less the
    /// 8-octet payload header.
    pub mtu: Option<u32>,
    /// `queues`: threads that take packets from the device, each with a queue of its own, 1 to 16. Default 1: with more, fragments
    /// and whole datagrams of one flow may overtake each other, since the kernel takes them for different flows.
    pub queues: usize,
}

/// One `[[uplink]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkConfig {
    /// `interface`: the network interface, 1 to 15 octets; required, and different in each uplink.
    pub interface: String,
    /// `prefix`: the one /64 to make an address in, such as `2001:db8:a1::/64`. Default: all of the interface.
    pub prefix: Option<Prefix64>,
    /// `gateway`: the router's unicast address on this uplink. Default: taken from the routing table.
    pub gateway: Option<Ipv6Addr>,
    /// `priority`: of the uplinks that work, those with the lowest number are used. Peers are told, too. 0 to 255, default 0.
    pub priority: u8,
    /// `weight`: which share of the contexts that can choose among uplinks of one priority this one gets, in proportion to
    /// the weights of the others. 0 to 255, default 0.
    pub weight: u8,
    /// `metered`: whether what passes costs money, so that the uplink is the last resort. It then has the priority
    /// [`LAST_RESORT`](Self::LAST_RESORT). Default false.
    pub metered: bool,
}

impl UplinkConfig {
    /// The priority of an uplink that is used only while no other one works.
    pub const LAST_RESORT: u8 = shim6_core::LAST_RESORT;
}

/// `[addresses]`: how our own addresses are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressConfig {
    /// `dad`: whether the kernel checks for duplicates (RFC 4862 section 5.4) before an address is used.
    /// Default true.
    pub dad: bool,
    /// `sec`: the security parameter of generated addresses (RFC 3972 section 2), 0 to 2. Default 0;
    /// 1 costs milliseconds once, 2 minutes to an hour. An identity that is there keeps its own.
    pub sec: u8,
    /// `identity`: absolute path of the directory in which the addresses are kept from one start to the next; `None`,
    /// written `"none"`, for new addresses at each start. Default `/var/lib/shim6/identity`.
    pub identity: Option<PathBuf>,
}

/// `[trigger]`: when a pair of addresses gets a context. Reaching either count is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerConfig {
    /// `packets`: packets of the pair, both directions together; 0 means not used. Default 50.
    pub packets: u64,
    /// `octets`: octets of the pair, both directions together; 0 means not used. Default 0.
    pub octets: u64,
    /// `initiate`: whether this host sets up contexts at all; if not, it only answers. Default true.
    pub initiate: bool,
}

/// `[reap]`: failure detection and exploration (RFC 5534). The profile gives the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReapConfig {
    /// `profile`: `"fast"` for timeouts in milliseconds with peers that can, `"rfc"` for those of RFC 5534 with all. Default
    /// fast.
    pub profile: Profile,
    /// `send_timeout`: how long we send without hearing anything before we explore (RFC 5534 section 7),
    /// 50 ms to 100 s. Default 120 ms (fast), 15 s (rfc).
    pub send_timeout: Duration,
    /// `follow_rtt`: whether `send_timeout` and `initial_probe_timeout` are the least, and grow with the measured round-trip
    /// time. Default true (fast), false (rfc).
    pub follow_rtt: bool,
    /// `keepalive_interval`: time between the keepalives of a receiver that has nothing to send, from 10 ms to less
    /// than `send_timeout`. Default: a third of `send_timeout`; see [`ReapConfig::keepalive_interval`].
    pub keepalive_interval: Option<Duration>,
    /// `initial_probe_timeout`: time between the first probes (RFC 5534 section 7), 10 ms to 60 s, and at most
    /// `max_probe_timeout`. Default 50 ms (fast), 500 ms (rfc).
    pub initial_probe_timeout: Duration,
    /// `initial_probes`: probes sent before the time between them starts to double, 1 to 64. Default 4.
    pub initial_probes: u32,
    /// `max_probe_timeout`: where that doubling ends, 10 ms to 10 min. Default 5 s (fast), 60 s (rfc).
    pub max_probe_timeout: Duration,
}

/// `[failback]`: the way back to a preferred path that works again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailbackConfig {
    /// `enabled`: whether there is one. Default true.
    pub enabled: bool,
    /// `interval`: time between two probes of a path that would be preferred, 100 ms to 60 s. Default 1 s.
    pub interval: Duration,
    /// `stable`: how long they have to be answered before it is taken back, from `interval` to 1 h. Default 10 s.
    pub stable: Duration,
    /// `max_stable`: the most that `stable` grows to for a path that keeps failing, from `stable` to 24 h. Default 10 min.
    pub max_stable: Duration,
    /// `rate`: such probes in a second, of all contexts together, 1 to 10000. Default 100.
    pub rate: u32,
}

/// `[steering]`: the routing table, rule and mark that steering uses. All are ours alone: the daemon empties them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SteeringConfig {
    /// `table`: routing table number, 1 to 4294967295 but not 253, 254 or 255 (the kernel's). Default 21302.
    pub table: u32,
    /// `rule_priority`: priority of the rule that looks that table up, 1 to 32765 (before the main table's).
    /// Default 140.
    pub rule_priority: u32,
    /// `fwmark`: mark on the daemon's own packets, so that they are not steered again, 1 to 4294967295.
    /// Default 0x5336.
    pub fwmark: u32,
}

/// `[icmp]`: errors that routers send about steered packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IcmpConfig {
    /// `deliver_all`: whether applications get every error, also those that make the daemon look for another path (RFC
    /// 5533 section 8). Default false.
    pub deliver_all: bool,
}

/// `[limits]`: bounds on what peers and traffic can make grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// `contexts`: contexts in total, 1 to 1000000. Default 10000.
    pub contexts: usize,
    /// `contexts_per_peer`: contexts with one peer, 1 to 65535, at most `contexts`. Default 16.
    pub contexts_per_peer: usize,
    /// `contexts_per_prefix`: contexts with peers that share the first 48 bits of their addresses, 1 to 1000000. Default a
    /// quarter of `contexts`, 2500.
    pub contexts_per_prefix: usize,
    /// `probes`: probes in a second, of all contexts together, 10 to 1000000. Default 5000.
    pub probes: u32,
    /// `quiescence`: how long nothing has to pass before a context is forgotten, 5 min to 30 days. Default 2 h 4 min.
    pub quiescence: Duration,
    /// `candidates`: pairs of addresses watched before they have a context, 1 to 1000000. Default 4096.
    pub candidates: usize,
    /// `min_key_bits` and `max_key_bits`: which RSA keys of peers are accepted, 1024 to 4096 bits. Default 1024 to 3072;
    /// see [`KeySizes`] for why.
    pub peer_key_sizes: KeySizes,
}

impl Config {
    /// Reads and checks the file at `path`, and its drop-in files; see [`Source::load`].
    ///
    /// # Errors
    ///
    /// When a file cannot be read, is larger than 1 MiB, or says something that is not understood.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Source::new(Some(path)).load().map(|loaded| loaded.config)
    }

    /// Checks the text of a configuration; `origin` is the file named in errors.
    ///
    /// # Errors
    ///
    /// When the text is not TOML or says something that is not understood.
    pub fn parse(text: &str, origin: &Path) -> Result<Self, ConfigError> {
        load::parse([(origin, text)]).map(|(config, _)| config)
    }
}

impl ReapConfig {
    /// The keepalive interval in force: the configured one, else a third of the send timeout.
    #[must_use]
    pub fn keepalive_interval(&self) -> Duration {
        self.keepalive_interval.unwrap_or(self.send_timeout / 3)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            control_socket: PathBuf::from(DEFAULT_SOCKET),
            control_group: None,
            user: RunAs::default(),
            tun: TunConfig::default(),
            uplinks: Vec::new(),
            addresses: AddressConfig::default(),
            trigger: TriggerConfig::default(),
            policies: Vec::new(),
            reap: ReapConfig::default(),
            peers: Vec::new(),
            failback: FailbackConfig::default(),
            hold: HoldConfig::default(),
            wire: WireConfig::default(),
            observe: ObserveConfig::default(),
            steering: SteeringConfig::default(),
            icmp: IcmpConfig::default(),
            limits: LimitsConfig::default(),
            metrics: MetricsConfig::default(),
        }
    }
}

impl Default for TunConfig {
    fn default() -> Self {
        Self {
            name: "shim0".to_owned(),
            mtu: None,
            queues: 1,
        }
    }
}

impl Default for AddressConfig {
    fn default() -> Self {
        Self {
            dad: true,
            sec: 0,
            identity: Some(PathBuf::from(DEFAULT_IDENTITY)),
        }
    }
}

impl Default for TriggerConfig {
    fn default() -> Self {
        Self {
            packets: 50,
            octets: 0,
            initiate: true,
        }
    }
}

impl ReapConfig {
    /// The defaults of a profile.
    #[must_use]
    pub fn of(profile: Profile) -> Self {
        let reap = match profile {
            Profile::Fast => shim6_core::ReapConfig::fast(),
            Profile::Rfc => shim6_core::ReapConfig::rfc(),
        };
        Self {
            profile,
            send_timeout: reap.send_timeout,
            follow_rtt: reap.follow_rtt,
            keepalive_interval: reap.keepalive_interval,
            initial_probe_timeout: reap.initial_probe_timeout,
            initial_probes: reap.initial_probes,
            max_probe_timeout: reap.max_probe_timeout,
        }
    }
}

impl Default for ReapConfig {
    fn default() -> Self {
        Self::of(Profile::default())
    }
}

impl Default for FailbackConfig {
    fn default() -> Self {
        let failback = shim6_core::FailbackConfig::default();
        Self {
            enabled: failback.enabled,
            interval: failback.interval,
            stable: failback.stable,
            max_stable: failback.max_stable,
            rate: failback.rate,
        }
    }
}

impl Default for SteeringConfig {
    fn default() -> Self {
        Self {
            table: 21302,
            rule_priority: 140,
            fwmark: 0x5336,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            contexts: 10_000,
            contexts_per_peer: 16,
            contexts_per_prefix: 2_500,
            probes: shim6_core::LimitsConfig::default().probes,
            quiescence: shim6_core::EndpointConfig::default().quiescence,
            candidates: 4096,
            peer_key_sizes: KeySizes::default(),
        }
    }
}

#[cfg(test)]
mod tests;
