//! The documents that the control socket serves: what the daemon does at a moment, and what happens.
//!
//! Field names are the JSON names. Times are in milliseconds, volumes in packets and octets of IPv6 packets as the
//! applications see them (without the Shim6 payload header).

mod session;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

pub use session::{AdviceStatus, ForkStatus, LocatorStatus, SessionFlow, SessionName, SessionStatus};

/// What the daemon does right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// The name of the TUN device.
    pub tun: String,
    /// By what packets are watched that the daemon does not touch: `ebpf` or `tap`.
    #[serde(default)]
    pub observation: String,
    /// What keeps the daemon from doing its work, each in a sentence that says what to do; empty if nothing does.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The uplinks in use or waited for, in the order of their locators.
    pub uplinks: Vec<UplinkStatus>,
    /// The contexts, in the order of their ids.
    pub contexts: Vec<ContextStatus>,
    /// The peers with which no context can be set up for a while, the one first that can be tried again first.
    pub failures: Vec<FailureStatus>,
    /// Counters since the daemon started.
    pub counters: Counters,
    /// The last moves of contexts and changes of locators, at most 16, the latest last.
    #[serde(default)]
    pub recent: Vec<Event>,
}

/// One uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkStatus {
    /// The network interface.
    pub interface: String,
    /// The /64 our address is in, such as `2001:db8:a1::/64`.
    pub prefix: String,
    /// The router that packets from this prefix go to, if one is known.
    pub gateway: Option<Ipv6Addr>,
    /// Our address there.
    pub address: Ipv6Addr,
    /// Whether it is a member of the HBA set (RFC 5535). If not, it is signed with the set's key: sessions that use it are
    /// not protected, but others can move to it.
    pub ulid: bool,
    /// Whether the link is up and has the address.
    pub up: bool,
}

/// One context (RFC 5533 section 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextStatus {
    /// The daemon's number for it; never used twice in one run.
    pub id: u64,
    /// The addresses that applications see.
    pub ulids: PairStatus,
    /// The Forked Instance Identifier: 0 for the context of all packets between the ULIDs that no fork has (RFC 5533 section 4.2).
    #[serde(default)]
    pub forked_instance: u32,
    /// The context state: `i1-sent`, `i2-sent`, `i2bis-sent` or `established` (RFC 5533 section 6.2).
    pub state: String,
    /// The failure detection state: `operational`, `exploring` or `inbound-ok` (RFC 5534 section 6).
    pub reap: String,
    /// The addresses on the wire. The same as `ulids` until a path fails.
    pub locators: PairStatus,
    /// Where it goes back to when that has worked for a while; the same as `locators` if that is where it is at home.
    pub preferred: PairStatus,
    /// Whether its packets go through the TUN device.
    pub steered: bool,
    /// The smoothed round-trip time on the pair in use, in microseconds, if it was measured.
    pub rtt_us: Option<u64>,
    /// How long a packet may stay unanswered before another path is looked for, in milliseconds.
    pub send_timeout_ms: u64,
    /// The verified locators of the peer.
    pub peer_locators: Vec<Ipv6Addr>,
    /// Milliseconds since the context was made.
    pub age_ms: u64,
    /// What we sent to the peer.
    pub sent: Volume,
    /// What we received from the peer.
    pub received: Volume,
    /// How often it moved to another locator pair.
    pub failovers: u64,
    /// The last such move.
    pub last_failover: Option<FailoverStatus>,
    /// Whether the pair in use was chosen by hand, so that it is kept until it fails.
    #[serde(default)]
    pub pinned: bool,
}

/// A context, and the pairs that it may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextDetail {
    /// The context.
    pub context: ContextStatus,
    /// Its locator pairs, the most preferred first; none before it is established.
    pub paths: Vec<PathStatus>,
}

/// What is known of a locator pair, by all contexts together. A pair is directed: it is about what this host sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus {
    /// The pair.
    pub pair: PairStatus,
    /// The interface of our address, unless that is gone.
    pub uplink: Option<String>,
    /// `down`: our address cannot be used now. `in-doubt`: a context that sends on it looks for another pair. `working`: a
    /// context sends on it and hears its peer, or the last probe on it was answered. `failed`: the last context that sent on
    /// it left it because it had failed, and no probe was answered since. `unknown`: it was not tried.
    pub state: String,
    /// The first 16 contexts that send on it.
    pub used_by: Vec<u64>,
    /// How many send on it.
    pub users: u64,
    /// The smoothed round-trip time in microseconds, if it was measured.
    pub rtt_us: Option<u64>,
    /// Probes sent on it that want an answer.
    pub probes_sent: u64,
    /// How many of them were answered.
    pub probes_answered: u64,
    /// The share of the last 32 probes that got no answer, in thousandths; absent where none was sent.
    pub loss_permille: Option<u32>,
    /// Milliseconds since the peer last answered a probe on it.
    pub answered_ago_ms: Option<u64>,
    /// Milliseconds since a context last left it because it had failed.
    pub failed_ago_ms: Option<u64>,
    /// Milliseconds since the contexts that send on it last received a packet, whichever pair the peer sent it on.
    pub heard_ago_ms: Option<u64>,
}

/// The outcome of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeStatus {
    /// The context that was probed for.
    pub context: u64,
    /// The pair that was probed.
    pub pair: PairStatus,
    /// Whether the peer answered in time.
    pub answered: bool,
    /// The round-trip time in microseconds, if it could be measured.
    pub rtt_us: Option<u64>,
    /// Milliseconds from the probe to the answer, or to the end of patience.
    pub waited_ms: u64,
}

/// The outcome of a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveStatus {
    /// The context that was moved.
    pub context: u64,
    /// The pair that was left; the same as `to` if that was in use already.
    pub from: PairStatus,
    /// The pair in use.
    pub to: PairStatus,
    /// Whether it is kept until it fails. If not, the daemon chooses by itself again.
    pub pinned: bool,
    /// Whether the pair was probed for the move; if not, it was in use or known to work.
    pub probed: bool,
}

/// A peer that is left alone for a while, since an exchange with it failed (RFC 5533 section 6.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureStatus {
    /// The peer's ULID.
    pub peer: Ipv6Addr,
    /// `e-failed`: it does not answer. `no-support`: its host says that it does not speak Shim6.
    pub state: String,
    /// Milliseconds until it is tried again.
    pub ends_in_ms: u64,
}

/// An address of ours and one of the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairStatus {
    /// Ours.
    pub local: Ipv6Addr,
    /// The peer's.
    pub peer: Ipv6Addr,
}

/// An amount of traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// IPv6 packets.
    pub packets: u64,
    /// Octets of these packets, headers included.
    pub octets: u64,
}

/// A move from one locator pair to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverStatus {
    /// Why, in a few words.
    pub cause: String,
    /// The pair that was left.
    pub from: PairStatus,
    /// The pair in use since.
    pub to: PairStatus,
    /// Milliseconds since the move.
    pub ago_ms: u64,
    /// Milliseconds that nothing had worked: from the first packet without an answer, or the news of the failure, to the move.
    /// Absent where nothing had failed.
    #[serde(default)]
    pub took_ms: Option<u64>,
}

/// Counters since the daemon started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Control messages received and accepted, by message type.
    pub received: BTreeMap<String, u64>,
    /// Control messages sent, by message type.
    pub sent: BTreeMap<String, u64>,
    /// Messages and packets dropped, by reason; every reason is present, with 0 too.
    pub discards: BTreeMap<String, u64>,
    /// What the packet path did, by what.
    pub dataplane: BTreeMap<String, u64>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since the daemon started.
    pub at_ms: u64,
    /// What kind of event, such as `failover`. `lagged` ends a stream whose reader was too slow.
    pub kind: String,
    /// The context it is about, if it is about one.
    pub context: Option<u64>,
    /// One line for people.
    pub message: String,
    /// The same for programs; its fields depend on the kind.
    pub detail: serde_json::Value,
}
