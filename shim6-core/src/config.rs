//! What an embedder may set, with the defaults of RFC 5533 section 14 and RFC 5534 section 7.

use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

#[cfg(feature = "rsa")]
use shim6_cga::KeySizes;
use shim6_reap::{Config as ReapConfig, LocatorPair};

/// The priority of a locator that is the last resort: it is left for a better one that works, even by a context that began
/// on it. All other priorities only matter once the path of the ULIDs has failed.
pub const LAST_RESORT: u8 = u8::MAX;

/// Configuration of an [`Endpoint`](crate::Endpoint).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Which timers are agreed upon with peers. Fast.
    pub profile: Profile,
    /// REAP timing wished for with peers that announce that they know [`KEEPALIVE_TIMEOUT_MS`], if the profile is fast.
    /// Towards any other peer a Send Timeout below the RFC's 15 s is raised to it and the RFC's probe intervals apply.
    ///
    /// [`KEEPALIVE_TIMEOUT_MS`]: crate::wire::OptionType::KEEPALIVE_TIMEOUT_MS
    pub reap: ReapConfig,
    /// The way back to a preferred pair that works again.
    pub failback: FailbackConfig,
    /// Whether flows ask for copies of their packets while their path is in doubt, see
    /// [`HoldBuffer`](crate::dataplane::HoldBuffer). True.
    pub hold: bool,
    /// Timers of the exchanges that make and recover contexts.
    pub establishment: EstablishmentConfig,
    /// Timers of Update Requests.
    pub update: UpdateConfig,
    /// How long nothing has to pass before a context is torn down. 2 h 4 min.
    ///
    /// RFC 5533 section 9 asks for 5 minutes at least. But a session that outlives its context has lost its protection,
    /// and after a change of path its peer; a TCP connection may be quiet for as long as this (RFC 5382 section 5).
    pub quiescence: Duration,
    /// Whether the upper layers get every ICMPv6 error, also those that made this host look for another path (RFC 5533
    /// section 8). False.
    pub deliver_all_icmp: bool,
    /// Bounds on everything that a peer can make grow.
    pub limits: LimitsConfig,
    /// What holds towards some peers only: the longest prefix that has the peer's ULID counts. None.
    pub peers: Vec<PeerConfig>,
    /// Who may set up contexts with this host: the first rule that fits decides. Without any, everybody may. None.
    pub answers: Vec<AnswerRule>,
}

/// The first bits of some addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// An address that has them.
    pub address: Ipv6Addr,
    /// How many; more than 128 count as 128.
    pub length: u8,
}

impl Prefix {
    /// The first `length` bits of an address.
    pub const fn new(address: Ipv6Addr, length: u8) -> Self {
        Self { address, length }
    }

    /// Whether `address` begins so.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        let behind = 128 - u32::from(self.length.min(128));
        let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
        (address.to_bits() ^ self.address.to_bits()) & mask == 0
    }
}

/// What holds towards the peers of a prefix instead of what [`EndpointConfig`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// The peers' ULIDs begin so.
    pub prefix: Prefix,
    /// Which timers are agreed upon.
    pub profile: Profile,
    /// REAP timing wished for.
    pub reap: ReapConfig,
    /// Contexts with one of them; `None` for what [`LimitsConfig`] says.
    pub contexts_per_peer: Option<usize>,
}

/// Whether peers may set up contexts with this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerRule {
    /// About peers whose ULID begins so; empty: all.
    pub peers: Vec<Prefix>,
    /// About these ULIDs of this host; `None`: all.
    pub locals: Option<Vec<Ipv6Addr>>,
    /// Whether they may. If not, they get no answer.
    pub answer: bool,
}

impl PeerConfig {
    /// What holds by default, towards the peers of `prefix`.
    pub const fn new(prefix: Prefix) -> Self {
        Self {
            prefix,
            profile: Profile::Fast,
            reap: ReapConfig::fast(),
            contexts_per_peer: None,
        }
    }
}

impl AnswerRule {
    /// About all peers and all ULIDs of this host.
    pub const fn new(answer: bool) -> Self {
        Self {
            peers: Vec::new(),
            locals: None,
            answer,
        }
    }
}

impl EndpointConfig {
    /// For small devices: few contexts and small tables, as [`LimitsConfig::small`] has them, and the default timers.
    ///
    /// With [`HoldConfig::small`](crate::dataplane::HoldConfig::small) for the packets held, as
    /// [`ShimConfig::small`](crate::ShimConfig::small) has it, all takes some tens of kilobytes; the crate's README has figures.
    pub fn small() -> Self {
        Self {
            failback: FailbackConfig {
                rate: 10,
                ..FailbackConfig::default()
            },
            limits: LimitsConfig::small(),
            ..Self::default()
        }
    }

    /// What holds towards a peer in particular.
    pub(crate) fn towards(&self, ulid: Ipv6Addr) -> Option<&PeerConfig> {
        let having = self.peers.iter().filter(|peer| peer.prefix.contains(ulid));
        having.max_by_key(|peer| peer.prefix.length)
    }

    /// The timers towards a peer.
    pub(crate) fn reap_towards(&self, ulid: Ipv6Addr) -> (Profile, &ReapConfig) {
        self.towards(ulid)
            .map_or((self.profile, &self.reap), |peer| (peer.profile, &peer.reap))
    }

    /// Whether the peer of this ULID pair may set up a context for it.
    pub(crate) fn is_answered(&self, ulids: LocatorPair) -> bool {
        let fits = |rule: &&AnswerRule| {
            let locals = rule.locals.as_ref();
            locals.is_none_or(|locals| locals.contains(&ulids.local))
                && (rule.peers.is_empty() || rule.peers.iter().any(|prefix| prefix.contains(ulids.peer)))
        };
        self.answers.iter().find(fits).is_none_or(|rule| rule.answer)
    }
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            reap: ReapConfig::fast(),
            failback: FailbackConfig::default(),
            hold: true,
            establishment: EstablishmentConfig::default(),
            update: UpdateConfig::default(),
            quiescence: Duration::from_secs(7_440),
            deliver_all_icmp: false,
            limits: LimitsConfig::default(),
            peers: Vec::new(),
            answers: Vec::new(),
        }
    }
}

/// Which timers two hosts use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// Timeouts in milliseconds with peers that announce that they can, those of RFC 5534 with all others.
    #[default]
    Fast,
    /// The timers of RFC 5534 with all peers. Nothing is announced that the RFC does not know.
    Rfc,
}

/// The way back to a pair that is preferred to the one in use, once it works again.
///
/// While a context has traffic, the pairs that it would rather use are probed quietly. One that has answered without a gap
/// for `stable` is taken back. What is found out counts for all contexts between the same hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailbackConfig {
    /// Whether there is one. True.
    pub enabled: bool,
    /// Time between two probes of one pair. 1 s.
    pub interval: Duration,
    /// How long a pair has to have answered. 10 s.
    pub stable: Duration,
    /// The most that `stable` grows to: it doubles each time that a pair fails soon after it was taken back. 10 min.
    pub max_stable: Duration,
    /// Such probes in a second, of all contexts together. 100.
    pub rate: u32,
}

impl Default for FailbackConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(1),
            stable: Duration::from_secs(10),
            max_stable: Duration::from_secs(600),
            rate: 100,
        }
    }
}

/// Timers of context establishment (RFC 5533 section 14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EstablishmentConfig {
    /// First I1 retransmission interval, before backoff and randomisation. 4 s.
    pub i1_timeout: Duration,
    /// How often an I1 is retransmitted. 4.
    pub i1_retries_max: u32,
    /// First I2 retransmission interval. 4 s.
    pub i2_timeout: Duration,
    /// How often an I2 is retransmitted before falling back to I1. 2.
    pub i2_retries_max: u32,
    /// First I2bis retransmission interval. 4 s.
    pub i2bis_timeout: Duration,
    /// How often an I2bis is retransmitted before falling back to I1. 2.
    pub i2bis_retries_max: u32,
    /// How long a peer that stayed silent is left alone. 60 s.
    pub no_r1_holddown: Duration,
    /// How long a peer is left alone that does not know the protocol, as an ICMPv6 error said. 10 min.
    pub icmp_holddown: Duration,
    /// How long a Responder Validator is accepted. 30 s.
    pub validator_lifetime: Duration,
}

impl Default for EstablishmentConfig {
    fn default() -> Self {
        Self {
            i1_timeout: Duration::from_secs(4),
            i1_retries_max: 4,
            i2_timeout: Duration::from_secs(4),
            i2_retries_max: 2,
            i2bis_timeout: Duration::from_secs(4),
            i2bis_retries_max: 2,
            no_r1_holddown: Duration::from_secs(60),
            icmp_holddown: Duration::from_secs(600),
            validator_lifetime: Duration::from_secs(30),
        }
    }
}

/// Timers of Update Requests (RFC 5533 section 14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateConfig {
    /// First retransmission interval, before backoff and randomisation. 4 s.
    pub timeout: Duration,
    /// Where the backoff stops. 120 s.
    pub max_timeout: Duration,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(4),
            max_timeout: Duration::from_secs(120),
        }
    }
}

/// How often in a second something may be done for others: on average, and as often in one burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// For all of them together.
    pub total: u32,
    /// For the addresses that share their first 48 bits, as those of one site do (RFC 6177). Prefixes share their counts with
    /// a few others, by chance: the table of counts never grows.
    pub per_prefix: u32,
}

impl Rate {
    /// No bound that could be reached.
    pub const UNLIMITED: Rate = Rate {
        total: u32::MAX,
        per_prefix: u32::MAX,
    };

    /// So many for all, of which so many for one prefix.
    pub const fn new(total: u32, per_prefix: u32) -> Self {
        Self { total, per_prefix }
    }
}

/// Bounds on what a peer can make grow or make us send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Contexts in total, being set up or established. 10,000. When there are as many, one that is idle makes room, of a
    /// prefix that has more than others.
    pub contexts: usize,
    /// Contexts with one peer ULID. 16.
    pub contexts_per_peer: usize,
    /// Contexts with ULIDs that share their first 48 bits. 2,500.
    pub contexts_per_prefix: usize,
    /// How long nothing has to have passed on a context that makes room for another one. 30 s.
    pub idle_before_eviction: Duration,
    /// Locators accepted in a peer's list. 16.
    pub peer_locators: usize,
    /// Remembered peers that did not answer. 4,096.
    pub holddowns: usize,
    /// Messages waiting in the output queue; further ones are dropped and counted. 4,096.
    pub transmit_queue: usize,
    /// Prefixes that are counted apart for each of the rates below. 1,024; 16 octets each and rate, and never more
    /// than 65,536.
    pub counted_prefixes: usize,
    /// Probes in a second, of all contexts together: what is more waits for its turn. Never more than a fiftieth of it at
    /// once. 5,000.
    pub probes: u32,
    /// R1 messages. 10,000, of which 1,000 to one prefix.
    pub r1: Rate,
    /// R2 messages. 10,000, of which 1,000 to one prefix.
    pub r2: Rate,
    /// R1bis messages. 1,000, of which 100 to one prefix.
    pub r1bis: Rate,
    /// Error messages. 10, of which 5 to one prefix.
    pub errors: Rate,
    /// Locator lists and parameters verified: each costs a few hashes. 20,000, of which 2,000 from one prefix.
    pub verifications: Rate,
    /// Signatures verified: each costs about a tenth of a millisecond. 1,000, of which 100 from one prefix.
    #[cfg(feature = "rsa")]
    pub signatures: Rate,
    /// RSA keys accepted from peers, by the size of their modulus: see [`KeySizes`].
    #[cfg(feature = "rsa")]
    pub peer_key_sizes: KeySizes,
}

impl LimitsConfig {
    /// Bounds for small devices: 16 contexts, 4 with one peer, 8 with the peers of one prefix, with 4 locators of a peer; 16
    /// peers that are left alone, messages that wait and prefixes that are counted; some tens of answers and hashes in a second, and 4
    /// signatures.
    pub fn small() -> Self {
        Self {
            contexts: 16,
            contexts_per_peer: 4,
            contexts_per_prefix: 8,
            peer_locators: 4,
            holddowns: 16,
            transmit_queue: 16,
            counted_prefixes: 16,
            probes: 50,
            r1: Rate::new(100, 20),
            r2: Rate::new(50, 10),
            r1bis: Rate::new(20, 5),
            errors: Rate::new(2, 1),
            verifications: Rate::new(50, 10),
            #[cfg(feature = "rsa")]
            signatures: Rate::new(4, 2),
            ..Self::default()
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            contexts: 10_000,
            contexts_per_peer: 16,
            contexts_per_prefix: 2_500,
            idle_before_eviction: Duration::from_secs(30),
            peer_locators: 16,
            holddowns: 4_096,
            transmit_queue: 4_096,
            counted_prefixes: 1_024,
            probes: 5_000,
            r1: Rate::new(10_000, 1_000),
            r2: Rate::new(10_000, 1_000),
            r1bis: Rate::new(1_000, 100),
            errors: Rate::new(10, 5),
            verifications: Rate::new(20_000, 2_000),
            #[cfg(feature = "rsa")]
            signatures: Rate::new(1_000, 100),
            #[cfg(feature = "rsa")]
            peer_key_sizes: KeySizes::default(),
        }
    }
}
