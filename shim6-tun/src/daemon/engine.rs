//! The one task that owns the protocol: it feeds the [`Endpoint`] and carries out what the endpoint wants.

mod follow;

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::sync::Arc;

use anyhow::Context as _;
use shim6_core::dataplane::icmp;
use shim6_core::wire::{MAX_MESSAGE, PROTOCOL};
use shim6_core::{ContextId, Endpoint, EstablishError, LocatorPair, Transmit};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

mod advice;
mod figures;
mod journal;
mod requests;
mod sessions;

use self::journal::Journal;
use self::requests::Waiting;
use self::sessions::Sessions;
use super::StopSignals;
use super::addresses::{AddressEvent, Addresses};
use super::follower::{Follower, Made};
use super::forks::{ForkTable, Forks, Heard};
use super::notify::Notifier;
use super::observer::{self, Observers};
use super::path_mtu::PathMtus;
use super::paths::Paths;
use super::reload::Reload;
use super::report;
use super::retry::Retry;
use super::shared::{Inputs, Message, Shared, UnknownTag};
use super::shortcut::Shortcut;
use super::steering::Steering;
use crate::control::Request;
use crate::metrics::Failovers;
use crate::netlink::{Change, Monitor};
use crate::status;
use crate::sys::tun::Tun;

/// Inputs taken before their consequences are carried out together.
const INPUT_BATCH: usize = 256;
const IPV6_HEADER_LEN: usize = 40;
/// Hop limit of control messages: the usual default (RFC 1700).
const HOP_LIMIT: u8 = 64;

/// The protocol and the host's configuration that follows it.
pub(crate) struct Engine<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) shared: Arc<Shared>,
    paths: Paths<'a>,
    pub(super) addresses: &'a mut Addresses,
    /// The locators of which the endpoint knows that they can be used.
    usable: BTreeSet<Ipv6Addr>,
    /// Those that were lost since the paths were last changed.
    lost: Vec<Ipv6Addr>,
    /// Of following the addresses.
    retry: Retry,
    pub(super) follower: Follower,
    pub(super) observers: Observers,
    journal: Journal,
    /// The clients that wait for what is under way.
    waiting: Waiting,
    sessions: Sessions,
    forks: Forks,
    failovers: Failovers,
    pub(super) reload: Reload,
    tun: TunState,
    pub(super) notifier: Notifier,
    /// An IPv6 packet under construction, as long as a Shim6 message or an ICMPv6 error can be.
    packet: Vec<u8>,
}

/// What the engine changes on the host and watches there.
pub(crate) struct Host<'a> {
    pub(crate) steering: &'a mut Steering,
    /// None: all steered packets pass through the daemon.
    pub(crate) shortcut: Option<Shortcut>,
    pub(crate) path_mtus: PathMtus,
    pub(crate) addresses: &'a mut Addresses,
    pub(crate) follower: Follower,
    pub(crate) observers: Observers,
    pub(crate) reload: Reload,
}

struct TunState {
    device: Arc<Tun>,
    up: bool,
    /// 0 as long as it is that of its creation.
    mtu: u32,
}

/// Where the engine's inputs come from.
pub(crate) struct Sources {
    pub(crate) inputs: Inputs,
    pub(crate) monitor: Monitor,
    pub(crate) requests: mpsc::Receiver<Request>,
    /// What was made for the follower in the background.
    pub(crate) made: mpsc::Receiver<Made>,
    /// The packet tasks and the control socket. None of them ends while the daemon is whole.
    pub(crate) tasks: JoinSet<anyhow::Result<()>>,
    pub(crate) stop: StopSignals,
}

/// What the packet tasks said since the last round.
#[derive(Default)]
struct Batch {
    messages: Vec<Message>,
    unknown_tags: Vec<UnknownTag>,
    icmp_errors: Vec<Vec<u8>>,
    candidates: Vec<LocatorPair>,
    heard: Vec<Heard>,
    wakes: Vec<ContextId>,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(
        endpoint: Endpoint,
        shared: Arc<Shared>,
        host: Host<'a>,
        events: broadcast::Sender<status::Event>,
        tun: Arc<Tun>,
    ) -> Self {
        let Host {
            steering,
            shortcut,
            path_mtus,
            addresses,
            follower,
            observers,
            reload,
        } = host;
        Self {
            // What the endpoint assumes of its locators; those that are down from the start are reported in `run`.
            usable: endpoint.identity().locators().iter().copied().collect(),
            lost: Vec::new(),
            endpoint,
            paths: Paths::new(steering, shortcut, path_mtus, shared.clone()),
            shared,
            addresses,
            retry: Retry::default(),
            follower,
            observers,
            journal: Journal::new(events),
            waiting: Waiting::default(),
            sessions: Sessions::default(),
            forks: Forks::default(),
            failovers: Failovers::default(),
            reload,
            tun: TunState {
                device: tun,
                up: true,
                mtu: 0,
            },
            notifier: Notifier::from_environment(),
            packet: vec![0; IPV6_HEADER_LEN + MAX_MESSAGE],
        }
    }

    /// Runs until told to stop.
    ///
    /// Between two rounds nothing is half done: what is changed on the host is always recorded for undoing.
    ///
    /// # Errors
    ///
    /// A packet task that has failed, or a source of inputs that has ended.
    pub(crate) async fn run(&mut self, mut sources: Sources) -> anyhow::Result<()> {
        self.report_locators();
        self.paths.set_uplinks(self.addresses.uplinks());
        self.follow_addresses();
        let mut batch = Batch::default();
        self.notifier.ready(self.shared.clock.now());
        loop {
            self.drain().await;
            self.handle_timeouts().await;
            self.report_health();
            let deadline = self.poll_timeout().map(|at| self.shared.clock.std(at).into());
            // Nothing here is waited for with something half done: what a branch does, it does after the choice. Whatever
            // floods one source, the choice among those that are ready is random, and timers have had their turn above.
            let inputs = &mut sources.inputs;
            tokio::select! {
                count = inputs.messages.recv_many(&mut batch.messages, INPUT_BATCH) => {
                    anyhow::ensure!(count > 0, "the packet tasks have ended");
                }
                _ = inputs.unknown_tags.recv_many(&mut batch.unknown_tags, INPUT_BATCH) => {}
                _ = inputs.icmp_errors.recv_many(&mut batch.icmp_errors, INPUT_BATCH) => {}
                _ = inputs.candidates.recv_many(&mut batch.candidates, INPUT_BATCH) => {}
                _ = inputs.heard.recv_many(&mut batch.heard, INPUT_BATCH) => {}
                _ = inputs.wakes.recv_many(&mut batch.wakes, INPUT_BATCH) => {}
                change = sources.monitor.next() => {
                    let change = change.ok_or_else(|| anyhow::anyhow!("the kernel's notifications have ended"))?;
                    self.handle_change(&change).await;
                }
                ended = sources.tasks.join_next() => match ended {
                    Some(Ok(result)) => return result,
                    Some(Err(error)) => return Err(error).context("a task of the daemon failed"),
                    None => anyhow::bail!("the daemon has no tasks"),
                },
                signal = sources.stop.received() => {
                    tracing::info!("stopping: {signal}");
                    self.notifier.stopping();
                    return Ok(());
                }
                Some(request) = sources.requests.recv() => self.handle_request(request),
                Some(made) = sources.made.recv() => self.adopt(made),
                cue = self.reload.cue() => self.handle_cue(cue),
                () = sleep_until(deadline) => {}
            }
            self.handle_inputs(&mut batch);
        }
    }

    fn poll_timeout(&self) -> Option<shim6_core::Instant> {
        let notifier = self.notifier.poll_timeout();
        [self.protocol_timeout(), notifier].into_iter().flatten().min()
    }

    fn protocol_timeout(&self) -> Option<shim6_core::Instant> {
        let times = [
            self.endpoint.poll_timeout(),
            self.paths.poll_timeout(),
            self.retry.at(),
            self.follower.poll_timeout(),
            self.waiting.poll_timeout(),
            self.sessions.poll_timeout(),
            self.forks.poll_timeout(),
        ];
        times.into_iter().flatten().min()
    }

    /// Tells the service manager that the engine turns: whatever keeps it from coming here makes the watchdog bite.
    fn report_health(&mut self) {
        let now = self.shared.clock.now();
        if self.notifier.is_due(now) {
            let (all, usable) = (self.addresses.uplinks().count(), self.usable.len());
            let moved = |context: &shim6_core::ContextInfo| context.locators != context.ulids;
            let contexts = self.endpoint.contexts().count();
            let steered = self.endpoint.contexts().filter(moved).count();
            let problems: String = self.problems().map(|problem| format!("; {problem}")).collect();
            let line = format!("{usable} of {all} uplinks work; {contexts} contexts, {steered} moved{problems}");
            self.notifier.turn(now, line);
        }
    }

    async fn handle_timeouts(&mut self) {
        let now = self.shared.clock.now();
        if self.protocol_timeout().is_none_or(|at| at > now) {
            return;
        }
        self.endpoint.handle_timeout(now);
        self.paths.handle_timeout(now).await;
        self.waiting.handle_timeout(now);
        self.sessions.handle_timeout();
        self.follow_forks();
        if self.retry.is_due(now) {
            // Reads everything again, and brings back what is missing.
            self.handle_change(&Change::Overrun).await;
        }
        self.follow_uplinks_when_due().await;
        self.drain().await;
    }

    fn handle_inputs(&mut self, batch: &mut Batch) {
        let now = self.shared.clock.now();
        for context in batch.wakes.drain(..) {
            self.endpoint.handle_activity(now, context);
        }
        for Message {
            source,
            destination,
            octets,
        } in batch.messages.drain(..)
        {
            self.endpoint.handle_message(now, source, destination, &octets);
        }
        for UnknownTag {
            source,
            destination,
            tag,
        } in batch.unknown_tags.drain(..)
        {
            self.endpoint.handle_unknown_tag(now, source, destination, tag);
        }
        for packet in batch.icmp_errors.drain(..) {
            self.endpoint.handle_packet(now, &packet);
        }
        for heard in batch.heard.drain(..) {
            self.handle_heard(heard);
        }
        for ulids in batch.candidates.drain(..) {
            match self.endpoint.establish(now, ulids) {
                Ok(_) => tracing::debug!(%ulids, "setting up a context"),
                Err(EstablishError::Limit) => self.journal.warn_of_limit(ulids, now),
                // It exists by now, the peer did not answer a moment ago, or it is none of ours.
                Err(error) => tracing::trace!(%ulids, %error, "no context"),
            }
        }
    }

    async fn handle_change(&mut self, change: &Change) {
        let now = self.shared.clock.now();
        if let Change::Link(link) = change
            && self.addresses.is_renamed(link)
        {
            // What watches it is known by its name.
            self.observers.forget(link.index);
            self.paths.forget_link(link.index);
        }
        match self.addresses.handle_change(change).await {
            Ok(events) => {
                if !events.is_empty() {
                    self.follower.wake(now);
                }
                for event in events {
                    if let AddressEvent::Duplicate(locator) = event {
                        self.avoid_duplicate(locator).await;
                    }
                }
                if *change == Change::Overrun {
                    self.retry.succeeded();
                }
            }
            Err(error) => {
                let wait = self.retry.failed(now);
                tracing::error!(%error, "following a change of the host's addresses; tried again in {wait:?}");
            }
        }
        if !self.is_of_tun(change) {
            self.follower.note(change, self.addresses, now);
        }
        self.report_locators();
        self.shared.wire.look_up_again();
        if let Some(shortcut) = self.paths.shortcut() {
            shortcut.look_again();
        }
        self.paths.set_uplinks(self.addresses.uplinks());
        self.follow_addresses();
        self.follow_links(change).await;
        if matches!(change, Change::Rules | Change::Overrun) {
            self.paths.assert_precedence().await;
        }
        if let Change::Link(link) = change
            && link.index == self.tun.device.index()
        {
            let was_up = std::mem::replace(&mut self.tun.up, link.up);
            if !was_up && link.up {
                self.paths.restore(now).await;
            }
        }
    }

    /// Whether the daemon itself makes such changes, one for each context.
    fn is_of_tun(&self, change: &Change) -> bool {
        let index = match change {
            Change::Link(link) => link.index,
            Change::AddressAdded(address) | Change::AddressRemoved(address) => address.index,
            _ => return false,
        };
        index == self.tun.device.index()
    }

    /// Tells the endpoint which locators can be used by now and which cannot. By state and not by event, so that it is
    /// right again after an error.
    fn report_locators(&mut self) {
        let now = self.shared.clock.now();
        let usable: BTreeSet<_> = self.addresses.usable().collect();
        let changed: Vec<_> = usable.symmetric_difference(&self.usable).copied().collect();
        for locator in changed {
            let is_usable = usable.contains(&locator);
            let what = if is_usable {
                "can be used"
            } else {
                "is gone: its link, address or route went away"
            };
            let message = format!("locator {locator} {what}");
            let detail = serde_json::json!({ "locator": locator, "usable": is_usable });
            let at_ms = self.shared.clock.millis();
            self.publish(status::Event {
                at_ms,
                kind: "locator".to_owned(),
                context: None,
                message,
                detail,
            });
            self.endpoint.handle_locator(now, locator, is_usable);
            if !is_usable {
                self.lost.push(locator);
            }
        }
        self.usable = usable;
    }

    /// Watches the packets on uplinks whose interface was removed and is back.
    async fn follow_links(&mut self, change: &Change) {
        match change {
            Change::Link(_) => {}
            Change::LinkRemoved(index) => {
                self.observers.forget(*index);
                return self.paths.forget_link(*index);
            }
            Change::Overrun => {
                self.observers.forget_all();
                self.paths.forget_all_links();
            }
            _ => return,
        }
        self.watch_uplinks().await;
    }

    async fn watch_uplinks(&mut self) {
        let present = self.addresses.uplinks().map(|(uplink, _)| uplink);
        for uplink in present.filter(|uplink| uplink.is_present()) {
            if let Err(error) = self.observers.watch(uplink) {
                // Most likely it is gone, which the next change says.
                tracing::debug!(interface = uplink.interface, %error, "cannot watch the packets");
            }
            if let Some(shortcut) = self.paths.shortcut()
                && let Err(error) = shortcut.watch(uplink).await
            {
                tracing::debug!(interface = uplink.interface, %error, "packets pass through the daemon");
            }
        }
    }

    /// What is wrong, for people.
    fn problems(&self) -> impl Iterator<Item = String> {
        let obstacle = self.paths.obstacle().map(str::to_owned);
        self.follower.problems().chain(obstacle)
    }

    /// Carries out all that the endpoint wants: first the table, so that packets find it, then what is urgent, then the
    /// routes, which take a while when there are many.
    async fn drain(&mut self) {
        let updates: Vec<_> = std::iter::from_fn(|| self.endpoint.poll_dataplane()).collect();
        let touched = observer::pairs_of(&updates);
        let lost_forks = self.note_forks(&updates);
        self.paths.publish(updates, self.shared.clock.now());
        let forks = self.publish_forks();
        self.observers.follow(&touched);
        while let Some(transmit) = self.endpoint.poll_transmit(&mut self.packet[IPV6_HEADER_LEN..]) {
            self.transmit(transmit);
        }
        self.paths.follow(self.shared.clock.now()).await;
        if let Some(forks) = forks {
            // Nor are packets led here any more that belong to no fork now.
            self.shared.forks.store(forks);
        }
        self.note_lost_forks(lost_forks);
        // Only now those that are gone are in the table no more.
        self.observers.follow(&touched);
        if !self.lost.is_empty() {
            // Only now that nothing else is led there.
            for error in self.addresses.drop_waiting(&self.lost).await {
                tracing::debug!(%error, "dropping the packets that wait for a lost link");
            }
            // In the next round again, where there are too many contexts for one.
            if !self.paths.has_backlog() {
                self.lost.clear();
            }
        }
        while let Some(length) = self.endpoint.poll_deliver(&mut self.packet) {
            if let Some((ulids, mtu)) = icmp::restored_mtu(&self.packet[..length]) {
                // First, so that whoever is told of it finds it in the route.
                self.paths.limit_mtu(ulids, mtu, self.shared.clock.now()).await;
            }
            match self.tun.device.try_send(&self.packet[..length]) {
                Ok(()) => self.shared.counters.icmp_delivered.add(1),
                Err(_) => self.shared.counters.in_tun_full.add(1),
            }
        }
        while let Some(event) = self.endpoint.poll_event() {
            self.waiting.handle_event(&event, self.shared.clock.now());
            self.failovers.note(&event);
            let mut told = report::event(&event, self.shared.clock.millis());
            self.name_session(&event, &mut told);
            self.publish(told);
        }
        self.answer_sessions();
    }

    /// Lets those who move packets know of the forks that are new. Those that are gone they know until the kernel leads their
    /// packets here no more: then they get the table that this returns.
    fn publish_forks(&mut self) -> Option<Arc<ForkTable>> {
        let forks = Arc::new(self.forks.take_table()?);
        let meanwhile = self.shared.forks.load().with(&forks);
        self.shared.forks.store(Arc::new(meanwhile));
        self.paths.set_forks(forks.clone());
        Some(forks)
    }

    /// Puts an IPv6 header in front of the message in `packet` and sends it by the uplink that owns its source.
    fn transmit(&mut self, transmit: Transmit) {
        let Transmit {
            source,
            destination,
            len,
            ..
        } = transmit;
        let header = &mut self.packet[..IPV6_HEADER_LEN];
        header[..4].copy_from_slice(&[0x60, 0, 0, 0]);
        // MAX_MESSAGE bounds it.
        header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        header[6..8].copy_from_slice(&[PROTOCOL, HOP_LIMIT]);
        header[8..24].copy_from_slice(&source.octets());
        header[24..].copy_from_slice(&destination.octets());
        self.shared.send(source, &[self.packet[..IPV6_HEADER_LEN + len].into()]);
    }

    pub(super) fn publish(&mut self, event: status::Event) {
        self.journal.note(event);
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
