//! What a world consists of and what happens to it, as data.

use std::net::Ipv6Addr;
use std::time::Duration;

use shim6_core::dataplane::HoldConfig;
use shim6_core::wire::Preference;
use shim6_core::{EndpointConfig, Hint};

use super::link::Link;
use super::pool::Locator;

/// A world that can be built and run, the same each time.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Where all randomness comes from.
    pub seed: u64,
    /// What a failure report says to run.
    pub command: String,
    /// The hosts.
    pub hosts: Vec<HostPlan>,
    /// Every directed pair of locators of different hosts, in the beginning.
    pub link: Link,
    /// Who sends payload to whom.
    pub sessions: Vec<Session>,
    /// What happens when, counted from the start.
    pub script: Vec<(Duration, Action)>,
    /// Somebody who sees all packets and sends what it likes.
    pub adversary: Option<AdversaryPlan>,
    /// How long the script runs. Then everything is mended, see [`World::run`](super::World::run).
    pub horizon: Duration,
    /// Whether each session has to survive the loss of its path in the end.
    pub exam: bool,
    /// Whether endpoints may be restarted with a seed that they had before, and so use tags again. Payload on its way may then
    /// be restored with ULIDs that it was not sent with; its checksum keeps it from applications.
    pub reuses_seeds: bool,
    /// How old what a host learns of a pair can be, where that is known: then no context may leave a pair that works for one
    /// that has been dead for longer.
    pub report_age: Option<Duration>,
    /// Whether everything is kept in the trace, or only the last entries.
    pub keep_trace: bool,
}

impl Scenario {
    /// Hosts of two HBA locators each, a network that delays by 10 ms, and nothing that happens.
    pub fn quiet(name: &str, hosts: usize, config: &EndpointConfig) -> Self {
        Self {
            seed: 1,
            command: format!("cargo test -p shim6-tests --test sim -- --exact {name}"),
            hosts: vec![HostPlan::new(2, config); hosts],
            link: Link::clean(Duration::from_millis(10)),
            sessions: Vec::new(),
            script: Vec::new(),
            adversary: None,
            horizon: Duration::ZERO,
            exam: false,
            reuses_seeds: false,
            report_age: None,
            keep_trace: true,
        }
    }
}

/// One host.
#[derive(Debug, Clone)]
pub struct HostPlan {
    /// Locators in its HBA set.
    pub members: usize,
    /// Locators signed with its key.
    pub signed: usize,
    /// Whether it has Shim6. Without, it answers "unrecognized next header".
    pub shim6: bool,
    /// Its endpoint's configuration.
    pub config: EndpointConfig,
    /// What it holds while a path is looked for.
    pub hold: HoldConfig,
    /// What is wrong with it, to see that it is noticed.
    pub sabotage: Option<Sabotage>,
}

impl HostPlan {
    /// A host with Shim6 and so many HBA locators.
    pub fn new(members: usize, config: &EndpointConfig) -> Self {
        Self {
            members,
            signed: 0,
            shim6: true,
            config: config.clone(),
            hold: HoldConfig::default(),
            sabotage: None,
        }
    }

    /// How many locators it has.
    pub fn locators(&self) -> usize {
        self.members + self.signed
    }
}

/// Payload between two ULIDs.
#[derive(Debug, Clone)]
pub struct Session {
    /// The host that begins, and its ULID.
    pub from: Locator,
    /// The other one.
    pub to: Locator,
    /// Time between datagrams of one sender, on average.
    pub interval: Duration,
    /// Who sends.
    pub kind: Kind,
    /// Whose first datagrams make a context.
    pub protect: Protect,
    /// Octets of data at most.
    pub octets: usize,
    /// The Forked Instance Identifier that both ends' applications name; 0 for none (RFC 5533 section 12.4).
    pub instance: u32,
}

/// Who sends in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first host only.
    OneWay,
    /// The first host, and the other replies to each datagram.
    Replies,
    /// Both, on their own.
    BothWays,
}

/// Whose payload makes a context where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protect {
    /// Nobody's.
    Nobody,
    /// The first host's.
    Initiator,
    /// That of both hosts, so that they may start at the same time.
    Both,
}

/// Something that happens to the world.
#[derive(Debug, Clone)]
pub enum Action {
    /// Packets sent from now on from one locator to another meet this path.
    SetLink {
        /// The source.
        from: Locator,
        /// The destination.
        to: Locator,
        /// The path.
        link: Link,
    },
    /// The same for all pairs.
    SetAllLinks(Link),
    /// A host loses all that it had in memory, and comes back after a while.
    Crash {
        /// The host.
        host: usize,
        /// How long it is away.
        down_for: Duration,
        /// With the seed that it began with: it will choose the same tags and nonces again.
        same_seed: bool,
    },
    /// A locator's uplink goes away or comes back.
    SetLocator {
        /// The locator.
        locator: Locator,
        /// Whether it works from now on.
        up: bool,
        /// Whether the endpoint is told.
        told: bool,
    },
    /// A host sets up a context for a session, as far as its endpoint lets it.
    Establish {
        /// Index of the session.
        session: usize,
        /// Whether it is the session's second host.
        reverse: bool,
    },
    /// A host forgets its context for a session.
    Close {
        /// Index of the session.
        session: usize,
        /// Whether it is the session's second host.
        reverse: bool,
    },
    /// A host has only those of its locators from now on, by index. One of its HBA set has to be among them.
    SetIdentity {
        /// The host.
        host: usize,
        /// Whether it has each of its locators.
        present: Vec<bool>,
    },
    /// A host prefers its locators in this way.
    SetPreferences {
        /// The host.
        host: usize,
        /// By index.
        preferences: Vec<Preference>,
    },
    /// A host gets another configuration while it runs. Limits and the time without payload stay.
    SetConfig {
        /// The host.
        host: usize,
        /// What holds from now on.
        config: Box<EndpointConfig>,
    },
    /// An upper layer has an opinion of a session's path.
    Hint {
        /// Index of the session.
        session: usize,
        /// Whether it is the session's second host.
        reverse: bool,
        /// The opinion, right or wrong.
        hint: Hint,
    },
    /// The applications of a session pause or go on.
    SetSession {
        /// Index of the session.
        session: usize,
        /// Whether they send from now on.
        running: bool,
    },
}

/// What the adversary does.
#[derive(Debug, Clone)]
pub struct AdversaryPlan {
    /// Time between its strokes.
    pub interval: Duration,
    /// Packets in each of them.
    pub burst: usize,
    /// How many packets in a thousand are ones that it saw, sent again; the others are made up.
    pub replays: u32,
    /// How many of those that it saw get another source address.
    pub redirects: u32,
    /// What it makes up.
    pub forgeries: Vec<Forgery>,
}

/// Kinds of packets that the adversary makes up, with source addresses of other hosts and of third parties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// An I1, with or without the ULID pair of a session.
    I1,
    /// An R1 for no I1.
    R1,
    /// An I2 with a validator that nobody made.
    I2,
    /// An R2 for no I2.
    R2,
    /// An R1bis about a tag that was seen or not.
    R1bis,
    /// An I2bis with a validator that nobody made.
    I2bis,
    /// An Update Request for a tag that nobody has.
    UpdateRequest,
    /// An Update Acknowledgement for a tag that nobody has.
    UpdateAcknowledgement,
    /// A Keepalive for a tag that nobody has.
    Keepalive,
    /// A Probe for a tag that nobody has.
    Probe,
    /// A Probe for a tag that was seen, from an address that is not the peer's.
    ProbeFromElsewhere,
    /// An Error about something.
    Error,
    /// Payload with a tag that nobody has.
    Payload,
    /// An ICMPv6 error about something that was seen, but for an I1: who sees that can speak for its peer.
    IcmpError,
    /// A Shim6 message with a right checksum and nothing else right.
    Garbage,
    /// A message that was seen, with a few octets changed and the checksum mended.
    Mutation,
}

impl Forgery {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::I1,
        Self::R1,
        Self::I2,
        Self::R2,
        Self::R1bis,
        Self::I2bis,
        Self::UpdateRequest,
        Self::UpdateAcknowledgement,
        Self::Keepalive,
        Self::Probe,
        Self::ProbeFromElsewhere,
        Self::Error,
        Self::Payload,
        Self::IcmpError,
        Self::Garbage,
        Self::Mutation,
    ];
}

/// Something wrong with a host. Each breaks one invariant: this shows that the invariants can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// What is restored gets another ULID as its source.
    Misdeliver,
    /// What is restored gets another octet.
    Garble,
    /// What arrives for this host is given to the applications of host 0.
    WrongHost,
    /// Rewritten payload goes to this address.
    Divert(Ipv6Addr),
    /// Shows the same CT(local) for all contexts.
    ReuseLocalTag,
    /// Shows the same CT(peer) for all contexts, with the Ls(peer) of them all.
    ConfusePeers,
    /// Answers each spoofed packet many times.
    Amplify,
    /// Sends to sources of spoofed packets on its own account, later.
    Remember,
    /// Its endpoint takes no notice of the bounds in its plan.
    Unbounded,
    /// Takes no message that ends an exchange or an exploration.
    Deaf,
    /// Wants to be called again at once, for ever.
    Restless,
    /// Its endpoint tears contexts down after a hundredth of the time that its plan says.
    Hasty,
    /// Its endpoint's Send Timeout is ten times what its plan says.
    Sluggish,
    /// Its endpoint takes pairs back after a fiftieth of the time that its plan says.
    Undamped,
    /// Its endpoint does not take pairs back.
    Stubborn,
    /// It does the opposite when it changes pairs.
    Backwards,
}
