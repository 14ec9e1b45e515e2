//! A black-box tester of Shim6 implementations: it plays the peer and holds the answers against the RFCs.
//!
//! [`Run::new`] makes a host of its own for each check, with addresses under the tester's prefixes; these have to lead to the
//! [`Wire`] that [`Run::play`] is given. [`RawWire`] is one on the interfaces of this host; a test has another. All that is
//! known of the target is its address, and all that is looked at are packets: nothing here shares state, or anything but the
//! codec of messages, with the stack in this repository. Time is that of tokio, so that a test can have it pass at will.

mod checks;
mod finding;
mod host;
mod packet;
mod raw;
mod report;
mod session;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use sha2::{Digest as _, Sha256};
use shim6_core::cga::GenerateError;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use self::checks::all;
pub use self::finding::{Finding, Level, LoggedPacket, Outcome};
use self::host::OwnHost;
use self::packet::destination;
pub use self::raw::{Interface, RawWire, interfaces, is_occupied};
pub use self::report::{junit, markdown, table};
use self::session::{Arrival, Pacer, Session};

/// Checks that are played at the same time. Each has addresses of its own, and most of its time it waits.
const AT_ONCE: usize = 64;
/// Packets from the target that wait to be looked at.
const WAITING: usize = 4096;

/// Something that an implementation has to do.
#[derive(Debug)]
pub struct Check {
    /// RFC, section and number, such as `5533-7.9-01`.
    pub id: &'static str,
    /// The RFC's key word.
    pub level: Level,
    /// What must hold.
    pub title: &'static str,
    /// Whether it takes longer than ten seconds.
    pub slow: bool,
    run: fn(&mut Session) -> BoxFuture<'_, Done>,
}

impl Check {
    /// The number of the RFC.
    #[must_use]
    pub fn rfc(&self) -> &'static str {
        self.id.split('-').next().unwrap_or_default()
    }

    /// The section of the RFC.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.id.split('-').nth(1).unwrap_or_default()
    }

    /// Whether somebody who says this means the check: its id, its section or one above, an RFC, or an RFC and a section
    /// with `-` between them.
    #[must_use]
    pub fn is_meant_by(&self, said: &str) -> bool {
        let below = |section: &str| {
            let rest = self.section().strip_prefix(section);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let both = || {
            said.split_once('-')
                .is_some_and(|(rfc, section)| rfc == self.rfc() && below(section))
        };
        said == self.id || said == self.rfc() || below(said) || both()
    }
}

/// Why a check ends early.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stop {
    /// The target does not do what it should.
    Fail(String),
    /// The target, or the place of the tester, does not let it be seen.
    NotApplicable(String),
}

type Done<T = ()> = Result<T, Stop>;

/// What the target is to be made to set up a context with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// With at most so many echo requests, which it answers.
    Echo(u32),
    /// With nothing: what takes its initiative is not applicable.
    None,
}

/// What is to be checked, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The address of the implementation, which has to be a ULID of it.
    pub target: Ipv6Addr,
    /// The prefixes under which the tester has addresses, the first leading to the ULIDs. One will do; two let it see more.
    pub prefixes: Vec<Ipv6Addr>,
    /// The checks.
    pub checks: Vec<&'static Check>,
    /// How the target is made to set up contexts.
    pub trigger: Trigger,
    /// Of everything that is random: the same addresses, tags and nonces for the same seed.
    pub seed: u64,
}

/// Why there is nothing to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It answers neither Shim6 nor echo requests.
    #[error("no answer from it, to I1 messages or echo requests")]
    Silent,
    /// It answers echo requests.
    #[error("it answers echo requests and no I1: it does not speak Shim6, or a firewall on the way drops protocol 140")]
    NoShim6,
    /// Its kernel says that it does not know Shim6.
    #[error("it does not speak Shim6: it answers an I1 with the ICMPv6 error Unrecognized Next Header")]
    Unknown,
    /// Another ICMPv6 error came for an I1, of this type and code.
    #[error("an I1 does not get there: the answer is the ICMPv6 error of type {0}, code {1}")]
    Refused(u8, u8),
}

/// Whole IPv6 packets from and to the target.
#[derive(Debug)]
pub struct Wire {
    /// What the tester sends.
    pub outbound: mpsc::UnboundedSender<Vec<u8>>,
    /// What comes for the tester's addresses; other packets are passed over.
    pub inbound: mpsc::Receiver<Vec<u8>>,
}

impl Wire {
    /// A wire, and its other end: what the tester sends, and where to put what is for it.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Vec<u8>>, mpsc::Sender<Vec<u8>>) {
        let (outbound, sent) = mpsc::unbounded_channel();
        let (deliver, inbound) = mpsc::channel(WAITING);
        (Self { outbound, inbound }, sent, deliver)
    }
}

/// Checks that are ready to be played, each with a host of its own.
#[derive(Debug)]
pub struct Run {
    target: Ipv6Addr,
    trigger: Trigger,
    /// Looks at first whether the target is there.
    scout: (OwnHost, ChaCha8Rng),
    cases: Vec<(&'static Check, OwnHost, ChaCha8Rng)>,
}

impl Run {
    /// Makes the hosts.
    ///
    /// # Errors
    /// No set of addresses can be made for these prefixes.
    pub fn new(plan: &Plan) -> Result<Self, GenerateError> {
        let mut checks = plan.checks.clone();
        // What takes longest begins first.
        checks.sort_by_key(|check| !check.slow);
        let host = |name: &str| {
            let mut rng = rng(plan.seed, name);
            OwnHost::new(&plan.prefixes, &mut rng).map(|host| (host, rng))
        };
        let case = |check: &'static Check| host(check.id).map(|(host, rng)| (check, host, rng));
        Ok(Self {
            target: plan.target,
            trigger: plan.trigger,
            scout: host("scout")?,
            cases: checks.into_iter().map(case).collect::<Result<_, _>>()?,
        })
    }

    /// All addresses of all hosts.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        let hosts = self.cases.iter().map(|(_, host, _)| host);
        hosts.chain([&self.scout.0]).flat_map(OwnHost::all_addresses)
    }

    /// Plays the checks; shows each finding to `done` as soon as there is one. They are in the order of the checks in the
    /// end.
    ///
    /// # Errors
    /// There is nothing to check: the target is not there, or does not speak Shim6.
    pub async fn play(self, wire: Wire, mut done: impl FnMut(&Finding)) -> Result<Vec<Finding>, Unfit> {
        let Wire { outbound, inbound } = wire;
        let pacer = Arc::new(Pacer::default());
        let mut listeners = HashMap::new();
        let mut session = |(host, rng): (OwnHost, ChaCha8Rng)| {
            let (arrived, arrivals) = mpsc::unbounded_channel();
            listeners.extend(host.all_addresses().map(|address| (address, arrived.clone())));
            let wire = (outbound.clone(), arrivals);
            Session::new(self.target, self.trigger, host, rng, wire, Arc::clone(&pacer))
        };
        let mut scout = session(self.scout);
        let cases: Vec<_> = self
            .cases
            .into_iter()
            .map(|(check, host, rng)| (check, session((host, rng))))
            .collect();
        let play = async {
            scout.is_there().await?;
            let mut findings = Vec::with_capacity(cases.len());
            let cases = cases.into_iter().map(|(check, session)| judge(check, session));
            let mut played = futures_util::stream::iter(cases).buffer_unordered(AT_ONCE);
            while let Some(finding) = played.next().await {
                done(&finding);
                findings.push(finding);
            }
            let place = |finding: &Finding| all().iter().position(|check| check.id == finding.id);
            findings.sort_by_key(place);
            Ok(findings)
        };
        tokio::select! {
            // What has come counts before what should have come by now.
            biased;
            never = dispatch(inbound, listeners) => match never {},
            findings = play => findings,
        }
    }
}

/// Gives each packet to the session that has its destination address.
async fn dispatch(
    mut inbound: mpsc::Receiver<Vec<u8>>,
    listeners: HashMap<Ipv6Addr, mpsc::UnboundedSender<Arrival>>,
) -> Infallible {
    while let Some(packet) = inbound.recv().await {
        let listener = destination(&packet).and_then(|address| listeners.get(&address));
        if let Some(listener) = listener {
            let at = Instant::now();
            // A check that is over does not listen any more.
            drop(listener.send(Arrival { at, packet }));
        }
    }
    // Nothing comes any more; the checks are still to say so.
    std::future::pending().await
}

async fn judge(check: &'static Check, mut session: Session) -> Finding {
    let begun = Instant::now();
    session.begin();
    let (outcome, reason) = match (check.run)(&mut session).await {
        Ok(()) => (Outcome::Pass, None),
        Err(Stop::Fail(why)) => (Outcome::Fail, Some(why)),
        Err(Stop::NotApplicable(why)) => (Outcome::NotApplicable, Some(why)),
    };
    Finding {
        id: check.id,
        level: check.level,
        title: check.title,
        outcome,
        reason,
        took: begun.elapsed(),
        packets: session.into_log(),
    }
}

/// The generator of one check, which does not depend on the others.
fn rng(seed: u64, id: &str) -> ChaCha8Rng {
    let digest = Sha256::new()
        .chain_update(seed.to_be_bytes())
        .chain_update(id)
        .finalize();
    ChaCha8Rng::from_seed(digest.into())
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
