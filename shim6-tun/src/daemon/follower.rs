//! Follows what becomes of the uplinks and their prefixes while the daemon runs.
//!
//! A prefix that comes gives the host another locator, one that is deprecated none for new sessions, and one that is withdrawn
//! takes its locator away. Peers are told (RFC 5533 section 10). Here is what is known and wanted; the engine carries it out.

mod news;
mod plan;

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use shim6_core::{Identity, Instant};
use tokio::sync::mpsc;

pub(crate) use self::news::News;
use self::news::Told;
pub(crate) use self::plan::Plan;
use self::plan::Seen;
use super::addresses::{AddressError, Addresses};
use super::advertisements::{self, Advertised, Advertisement};
use super::identity::{HostAddresses, Renewal};
use super::retry::Retry;
use super::uplink::{self, Survey, Uplink, UplinkError, UplinkHint};
use crate::config::{AddressConfig, Config, UplinkConfig};
use crate::netlink::{Change, Link, Monitor, Netlink, NetlinkError};
use crate::sys::router_socket::RouterSocket;
use crate::sys::wire_socket::WireSender;

/// Changes come in groups, such as the addresses and routes of a router advertisement: they are followed together. An interface
/// that goes down is said to be only after its addresses are gone.
const SETTLE: Duration = Duration::from_millis(200);
/// How often it is looked whether sessions are left that are bound to addresses which the host does not have any more.
const LOOK: Duration = Duration::from_secs(30);
/// How long routers may take to answer: up to half a second (RFC 4861 section 6.2.6), and they need not answer each one alone.
const ANSWERS: Duration = Duration::from_secs(1);
/// What was made and heard in the background and is not taken yet.
const BACKGROUND_QUEUE: usize = 64;
/// Most locators of this host: whoever sends router advertisements could make it have any number.
const MAX_LOCATORS: usize = 16;
/// Addresses that other hosts have until no set is made any more to get around them.
const MAX_COLLISIONS: usize = 3;
/// The MTU that every IPv6 link has.
const MIN_MTU: u32 = 1280;

/// What was made or heard in the background.
#[derive(Debug)]
pub(crate) enum Made {
    /// A router has advertised its prefixes.
    Advertisement(Advertisement),
    /// The first addresses.
    Addresses(anyhow::Result<HostAddresses>),
    /// A set in place of one of whose prefixes none is left.
    Renewal(anyhow::Result<Renewal>),
}

/// What is known of the uplinks, and which addresses this host has there.
#[derive(Debug)]
pub(crate) struct Follower {
    netlink: Netlink,
    config: AddressConfig,
    uplinks: Vec<UplinkConfig>,
    fwmark: u32,
    tun_mtu: Option<u32>,
    hints: Vec<UplinkHint>,
    /// The interfaces that were called as the configuration does, as they may be renamed.
    called: HashMap<String, u32>,
    /// None as long as there was no uplink.
    host: Option<HostAddresses>,
    seen: Seen,
    due: Option<Instant>,
    retry: Retry,
    /// Why uplinks are not as they should be, for people.
    problems: Vec<String>,
    /// What the log says already.
    logged: Vec<String>,
    /// The addresses that peers may be told of: what duplicate address detection has not passed yet is nobody's.
    announced: BTreeSet<Ipv6Addr>,
    told: Told,
    /// None where it could not be opened.
    routers: Option<Arc<RouterSocket>>,
    advertised: Advertised,
    /// Something is being made.
    making: bool,
    /// What could not be made is made again after this time.
    make_after: Option<Instant>,
    remake: Retry,
    /// Why it could not.
    unmade: Option<String>,
    made: mpsc::Sender<Made>,
}

impl Follower {
    /// What is made in the background comes out of the other end.
    ///
    /// # Errors
    ///
    /// The kernel gives no connection.
    pub(super) fn new(config: &Config) -> Result<(Self, mpsc::Receiver<Made>), NetlinkError> {
        let (made, to_made) = mpsc::channel(BACKGROUND_QUEUE);
        let routers = RouterSocket::open().map(Arc::new);
        let routers = routers.inspect_err(|error| tracing::warn!(%error, "which router has which prefix is not known"));
        let follower = Self {
            // The routes of steered pairs are not of interest here.
            netlink: Netlink::connect_selective()?,
            config: config.addresses.clone(),
            uplinks: config.uplinks.clone(),
            fwmark: config.steering.fwmark,
            tun_mtu: config.tun.mtu,
            hints: super::hints(config),
            called: HashMap::new(),
            host: None,
            seen: Seen::default(),
            due: None,
            retry: Retry::default(),
            problems: Vec::new(),
            logged: Vec::new(),
            announced: BTreeSet::new(),
            told: Told::default(),
            routers: routers.ok(),
            advertised: Advertised::default(),
            making: false,
            make_after: None,
            remake: Retry::default(),
            unmade: None,
            made,
        };
        Ok((follower, to_made))
    }

    /// Finds the uplinks that there are, and addresses for them. Without any, others are waited for.
    ///
    /// # Errors
    ///
    /// The configuration cannot be meant so, or the identity on disk cannot be used.
    pub(super) async fn begin(
        &mut self,
        addresses: &Addresses,
        made: &mut mpsc::Receiver<Made>,
    ) -> anyhow::Result<Vec<Uplink>> {
        HostAddresses::check(&self.config)?;
        self.listen();
        let mut survey = self.survey(addresses).await?;
        if survey.problems.iter().any(is_ambiguous) {
            survey = self.ask_routers(survey, addresses, made).await?;
        }
        if let Some(number) = survey
            .problems
            .iter()
            .position(|problem| matches!(problem, UplinkError::BadPrefix { .. }))
        {
            return Err(survey.problems.remove(number).into());
        }
        self.seen.note(&survey);
        self.note_problems(&survey);
        let mut uplinks = self.with_absent(&survey);
        let prefixes = self.prefixes_of(&uplinks);
        if !prefixes.is_empty() {
            let mut host = HostAddresses::obtain(&self.config, &prefixes).await?;
            let mut kept = Vec::new();
            for uplink in uplinks {
                if host.under(uplink.prefix)?.is_some() {
                    kept.push(uplink);
                }
            }
            uplinks = kept;
            self.host = Some(host);
        }
        if let Some(warning) = uplink::warning(&uplinks) {
            tracing::warn!("{warning}");
        }
        Ok(uplinks)
    }

    /// Listens to routers from now on.
    fn listen(&self) {
        let Some(socket) = self.routers.clone() else { return };
        let made = self.made.clone();
        tokio::spawn(async move {
            if let Err(error) = advertisements::listen(socket, made, Made::Advertisement).await {
                tracing::warn!(%error, "listening to router advertisements");
            }
        });
    }

    /// Asks which of several routers on a link has which prefix, and waits a while for their answers.
    async fn ask_routers(
        &mut self,
        mut survey: Survey,
        addresses: &Addresses,
        made: &mut mpsc::Receiver<Made>,
    ) -> Result<Survey, UplinkError> {
        let socket = self.routers.clone();
        for link in survey.links.iter().filter(|link| link.up && link.running) {
            if let Some(Err(error)) = socket.as_ref().map(|socket| socket.solicit(link.index)) {
                tracing::debug!(%error, interface = link.name, "asking for router advertisements");
            }
        }
        let limit = tokio::time::Instant::now() + ANSWERS;
        while survey.problems.iter().any(is_ambiguous) {
            match tokio::time::timeout_at(limit, made.recv()).await {
                Ok(Some(Made::Advertisement(advertisement))) if self.advertised.note(&advertisement) => {
                    survey = self.survey(addresses).await?;
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        Ok(survey)
    }

    /// Assigns the addresses; where one of them is taken, the next collision count gives others (RFC 5535 section 6, step 6.4).
    ///
    /// # Errors
    ///
    /// All of them are taken, or the kernel refused.
    pub(super) async fn settle(
        &mut self,
        uplinks: &[Uplink],
        addresses: &mut Addresses,
        monitor: &mut Monitor,
    ) -> anyhow::Result<Identity> {
        let Some(host) = &mut self.host else {
            return Ok(Identity::none());
        };
        loop {
            for uplink in uplinks {
                if let Some(address) = host.under(uplink.prefix)? {
                    addresses.assign_as(uplink, address, !host.is_ulid(address)).await?;
                }
            }
            match addresses.settle(monitor).await {
                Ok(()) => break,
                Err(error @ AddressError::Duplicate { .. }) => {
                    tracing::warn!(%error, "trying the next address");
                    super::report_undo(addresses.undo().await);
                    if !host.avoid_duplicate() {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        host.keep();
        for (uplink, address) in addresses.uplinks() {
            tracing::info!(interface = uplink.interface, %address, "locator");
            self.announced.insert(address);
        }
        let news = self.news(addresses, &BTreeSet::new())?;
        let mut identities = news.map_or_else(Vec::new, |news| news.identities);
        Ok(identities.pop().unwrap_or_else(Identity::none))
    }

    /// Takes note of a change that may be one of uplinks.
    pub(super) fn note(&mut self, change: &Change, addresses: &Addresses, now: Instant) {
        match change {
            Change::Link(Link { index, up, running, .. }) if !(*up && *running) => {
                self.seen.forget(*index);
                self.advertised.forget(*index);
            }
            Change::LinkRemoved(index) => {
                self.seen.forget(*index);
                self.advertised.forget(*index);
            }
            // What is added of ours says nothing new; what is taken away is brought back.
            Change::AddressAdded(address) if addresses.owns(address) => return,
            Change::RouteAdded(route) if addresses.owns_route(route) => return,
            Change::Rules | Change::NeighbourFailed { .. } => return,
            _ => {}
        }
        self.wake(now + SETTLE);
    }

    /// Another configuration holds, whose uplinks are the same but may be preferred in another way. True: they are.
    pub(super) fn set_uplinks(&mut self, config: &Config) -> bool {
        let is_new = self.uplinks != config.uplinks;
        self.uplinks.clone_from(&config.uplinks);
        is_new
    }

    /// Looks again at this time at the latest.
    pub(super) fn wake(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.due, self.retry.at()].into_iter().flatten().min()
    }

    /// Whether it is time to look; then it is not any more.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.poll_timeout().is_some_and(|at| at <= now);
        if is_due {
            self.due = None;
        }
        is_due
    }

    /// Following has failed. Returns how long to wait until it is tried again.
    pub(super) fn failed(&mut self, now: Instant) -> Duration {
        self.retry.failed(now)
    }

    pub(super) fn succeeded(&mut self) {
        self.retry.succeeded();
    }

    /// What is wrong, for people.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let of_host = self.host.iter().flat_map(HostAddresses::problems);
        let others = of_host.chain(self.unmade.as_deref());
        self.problems.iter().cloned().chain(others.map(str::to_owned))
    }

    /// What there is now, and what becomes of the uplinks.
    ///
    /// # Errors
    ///
    /// The kernel cannot be asked.
    pub(super) async fn look(&mut self, addresses: &Addresses) -> Result<Plan, UplinkError> {
        let survey = self.survey(addresses).await?;
        let mut present: Vec<Uplink> = Vec::new();
        for (uplink, _) in addresses.uplinks() {
            if !present.contains(uplink) {
                present.push(uplink.clone());
            }
        }
        let plan = plan::plan(&present, &survey, &self.seen);
        self.seen.note(&survey);
        self.note_problems(&survey);
        Ok(plan)
    }

    /// The address that the host is to have under a prefix, and whether new sessions can start from it; none if there is none, or
    /// not yet.
    pub(super) fn address_under(&mut self, uplink: &Uplink, others: usize) -> Option<(Ipv6Addr, bool)> {
        let host = self.host.as_mut()?;
        let prefix = uplink.prefix;
        if others >= MAX_LOCATORS {
            self.note_problem(format!(
                "uplink {}: the prefix {prefix}/64 is not used, as there are {MAX_LOCATORS} others already",
                uplink.interface
            ));
            return None;
        }
        match host.under(prefix) {
            Ok(Some(address)) => Some((address, host.is_ulid(address))),
            Ok(None) => {
                let taken = host.taken().find(|taken| uplink::prefix_of(*taken) == prefix);
                let why = match taken {
                    Some(taken) => format!(
                        "other hosts on the link use {taken} and what was tried in its place: find out who answers for them \
                         (`ip -6 neigh` on a neighbour)"
                    ),
                    None => "the addresses of this host were made without a key, so none can be added to them; \
                             `shim6 address rotate --new-key` makes others"
                        .to_owned(),
                };
                self.note_problem(format!("uplink {}: {prefix}/64 is not used: {why}", uplink.interface));
                None
            }
            Err(error) => {
                self.note_problem(format!("uplink {}: {error:#}", uplink.interface));
                None
            }
        }
    }

    /// Another host has this address.
    pub(super) fn avoid(&mut self, taken: Ipv6Addr) {
        if let Some(host) = &mut self.host {
            host.avoid(taken);
        }
        self.announced.remove(&taken);
    }

    /// The uplink is gone with its prefix.
    pub(super) fn forget(&mut self, uplink: &Uplink) {
        if let Some(host) = &mut self.host {
            host.forget(uplink.prefix);
        }
    }

    /// Makes addresses in the background if there are none, or if none of them can be what sessions start from. A former set that
    /// has one is taken at once: true.
    pub(super) fn make(&mut self, uplinks: &[(Uplink, bool)], now: Instant) -> bool {
        let preferred = uplinks.iter().filter(|(_, deprecated)| !deprecated);
        let uplinks: Vec<_> = preferred.map(|(uplink, _)| uplink.clone()).collect();
        let is_early = self.make_after.is_some_and(|at| now < at);
        if self.making || is_early || uplinks.is_empty() {
            return false;
        }
        let prefixes = self.prefixes_of(&uplinks);
        let made = self.made.clone();
        match &mut self.host {
            None => {
                let config = self.config.clone();
                tokio::spawn(async move {
                    let addresses = HostAddresses::obtain(&config, &prefixes).await;
                    // Nobody waits for it when the daemon ends.
                    let _ = made.send(Made::Addresses(addresses)).await;
                });
            }
            Some(host) => {
                let is_served = uplinks.iter().any(|uplink| host.is_member(uplink.prefix));
                // Whoever answers for any address would have it make others for ever (RFC 3972 section 4).
                if is_served || host.taken().count() >= MAX_COLLISIONS {
                    return false;
                }
                if host.revive(&prefixes) {
                    return true;
                }
                tracing::info!("none of the prefixes of the host's addresses is left: making new addresses");
                let renewal = host.renewal(&self.config, &prefixes);
                tokio::spawn(async move {
                    let _ = made.send(Made::Renewal(renewal.await)).await;
                });
            }
        }
        self.making = true;
        false
    }

    /// Takes what was made or heard, and looks whether it changes something.
    pub(super) fn adopt(&mut self, made: Made, now: Instant) {
        let taken = match made {
            Made::Advertisement(advertisement) => {
                if self.advertised.note(&advertisement) {
                    self.wake(now);
                }
                return;
            }
            Made::Addresses(addresses) => addresses.map(|addresses| self.host = Some(addresses)),
            Made::Renewal(renewal) => renewal.map(|renewal| {
                if let Some(host) = &mut self.host {
                    host.renew(renewal);
                }
            }),
        };
        self.making = false;
        let wait = match taken {
            Ok(()) => {
                (self.make_after, self.unmade) = (None, None);
                self.remake.succeeded();
                Duration::ZERO
            }
            Err(error) => {
                let wait = self.remake.failed(now);
                tracing::error!("making addresses, tried again in {wait:?}: {error:#}");
                self.unmade = Some(format!(
                    "this host has no addresses from which sessions are protected: {error:#}"
                ));
                self.make_after = Some(now + wait);
                wait
            }
        };
        self.wake(now + wait);
    }

    /// What packets from a new locator are sent by.
    pub(super) fn open_sender(&self, locator: Ipv6Addr) -> std::io::Result<WireSender> {
        WireSender::open(locator, self.fwmark)
    }

    /// The MTU that the TUN device is to have.
    pub(super) fn tun_mtu(&self, addresses: &Addresses) -> u32 {
        super::tun_mtu(self.tun_mtu, addresses.uplinks().map(|(uplink, _)| uplink))
    }

    async fn survey(&mut self, addresses: &Addresses) -> Result<Survey, UplinkError> {
        let links = self.netlink.links().await?;
        let mut hints = self.hints.clone();
        for hint in &mut hints {
            if let Some(link) = links.iter().find(|link| link.name == hint.interface) {
                self.called.insert(hint.interface.clone(), link.index);
            } else if let Some(renamed) = renamed(&self.called, &hint.interface, &links) {
                hint.interface.clone_from(&renamed.name);
            }
        }
        let (owns, owns_route) = (|a: &_| addresses.owns(a), |r: &_| addresses.owns_route(r));
        uplink::survey(&self.netlink, &hints, &self.advertised, owns, owns_route).await
    }

    fn note_problems(&mut self, survey: &Survey) {
        let mut problems: Vec<_> = survey.problems.iter().map(waiting).collect();
        for hint in &self.hints {
            let is_there = survey.links.iter().any(|link| link.name == hint.interface);
            if !is_there && let Some(link) = renamed(&self.called, &hint.interface, &survey.links) {
                problems.push(format!(
                    "uplink {}: it was renamed and is called {} now; it is used all the same, but the next start needs the new \
                     name in its [[uplink]] section",
                    hint.interface, link.name
                ));
            }
        }
        self.logged = std::mem::take(&mut self.problems);
        for problem in problems {
            self.note_problem(problem);
        }
    }

    fn note_problem(&mut self, problem: String) {
        if !self.logged.contains(&problem) {
            tracing::warn!("{problem}");
        }
        self.problems.push(problem);
    }

    /// The uplinks, in the order of the configuration, and those that it describes in full but that are not there yet.
    fn with_absent(&self, survey: &Survey) -> Vec<Uplink> {
        if self.hints.is_empty() {
            return survey.uplinks.clone();
        }
        let each = self.hints.iter().flat_map(|hint| {
            let found = survey
                .uplinks
                .iter()
                .filter(|uplink| uplink.interface == hint.interface);
            let found: Vec<_> = found.cloned().collect();
            let is_there = survey.links.iter().any(|link| link.name == hint.interface);
            match (hint.prefix, hint.gateway) {
                (Some(prefix), Some(gateway)) if !is_there => vec![Uplink {
                    interface: hint.interface.clone(),
                    index: 0,
                    prefix,
                    gateway: Some(gateway),
                    up: false,
                    mtu: MIN_MTU,
                }],
                _ => found,
            }
        });
        each.collect()
    }

    /// Those of the uplinks and all that the configuration names.
    fn prefixes_of(&self, uplinks: &[Uplink]) -> Vec<Ipv6Addr> {
        let mut prefixes: Vec<Ipv6Addr> = Vec::new();
        let named = self.hints.iter().filter_map(|hint| hint.prefix);
        for prefix in uplinks.iter().map(|uplink| uplink.prefix).chain(named) {
            if !prefixes.contains(&prefix) {
                prefixes.push(prefix);
            }
        }
        prefixes
    }
}

/// Whether what routers advertise may help.
fn is_ambiguous(problem: &UplinkError) -> bool {
    matches!(problem, UplinkError::SeveralGateways { .. })
}

/// The interface that was called `name` and is called otherwise now.
fn renamed<'l>(called: &HashMap<String, u32>, name: &str, links: &'l [Link]) -> Option<&'l Link> {
    let index = called.get(name)?;
    links.iter().find(|link| link.index == *index)
}

/// What is not there may come.
fn waiting(problem: &UplinkError) -> String {
    match problem {
        UplinkError::NoInterface { interface, interfaces } => format!(
            "uplink {interface}: there is no such interface; it is used as soon as there is (there are {interfaces})"
        ),
        problem => problem.to_string(),
    }
}

impl From<UplinkError> for FollowError {
    fn from(error: UplinkError) -> Self {
        Self::Uplinks(error)
    }
}

/// Why a change could not be followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error(transparent)]
    Uplinks(UplinkError),
    #[error(transparent)]
    Addresses(#[from] AddressError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("sending and watching from the new addresses: {0}")]
    Sockets(#[from] std::io::Error),
    #[error("{0:#}")]
    Identity(#[from] anyhow::Error),
}
