//! The one task that owns the protocol: it feeds the [`Endpoint`] and carries out what the endpoint wants.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

use anyhow::Context as _;
use shim6_core::wire::{MAX_MESSAGE, PROTOCOL};
use shim6_core::{ContextId, DataplaneUpdate, Endpoint, EstablishError, LocatorPair, Transmit};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use super::StopSignals;
use super::addresses::{AddressEvent, Addresses};
use super::report;
use super::shared::{Input, Shared};
use super::steering::Steering;
use crate::control::Request;
use crate::netlink::{Change, Monitor};
use crate::status::{self, Status};

/// Inputs taken before their consequences are carried out together.
const INPUT_BATCH: usize = 256;
const IPV6_HEADER_LEN: usize = 40;
/// Hop limit of control messages: the usual default (RFC 1700).
const HOP_LIMIT: u8 = 64;

/// The protocol and the host's configuration that follows it.
pub(crate) struct Engine<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) shared: Arc<Shared>,
    pub(crate) steering: &'a mut Steering,
    pub(crate) addresses: &'a mut Addresses,
    pub(crate) events: broadcast::Sender<status::Event>,
    pub(crate) tun: String,
    steered: HashSet<LocatorPair>,
    /// The ULID that each established context holds on to.
    pinned: HashMap<ContextId, Ipv6Addr>,
    /// An IPv6 packet under construction.
    packet: Vec<u8>,
}

/// Where the engine's inputs come from.
pub(crate) struct Sources {
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) monitor: Monitor,
    pub(crate) requests: mpsc::Receiver<Request>,
    /// The packet tasks and the control socket. None of them ends while the daemon is whole.
    pub(crate) tasks: JoinSet<anyhow::Result<()>>,
    pub(crate) stop: StopSignals,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(
        endpoint: Endpoint,
        shared: Arc<Shared>,
        steering: &'a mut Steering,
        addresses: &'a mut Addresses,
        events: broadcast::Sender<status::Event>,
        tun: String,
    ) -> Self {
        let packet = vec![0; IPV6_HEADER_LEN + MAX_MESSAGE];
        let (steered, pinned) = (HashSet::new(), HashMap::new());
        Self { endpoint, shared, steering, addresses, events, tun, steered, pinned, packet }
    }

    /// Runs until told to stop.
    ///
    /// Between two rounds nothing is half done: what is changed on the host is always recorded for undoing.
    ///
    /// # Errors
    ///
    /// A packet task that has failed, or a source of inputs that has ended.
    pub(crate) async fn run(&mut self, mut sources: Sources) -> anyhow::Result<()> {
        self.report_unusable();
        let mut batch = Vec::with_capacity(INPUT_BATCH);
        loop {
            self.drain().await;
            let deadline = self.endpoint.poll_timeout().map(|at| self.shared.clock.std(at).into());
            tokio::select! {
                count = sources.inputs.recv_many(&mut batch, INPUT_BATCH) => {
                    anyhow::ensure!(count > 0, "the packet tasks have ended");
                    batch.drain(..).for_each(|input| self.handle_input(input));
                }
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
                    return Ok(());
                }
                Some(request) = sources.requests.recv() => self.handle_request(request),
                () = sleep_until(deadline) => self.endpoint.handle_timeout(self.shared.clock.now()),
            }
        }
    }

    /// Uplinks that are down from the start.
    fn report_unusable(&mut self) {
        let usable: Vec<_> = self.addresses.usable().collect();
        let now = self.shared.clock.now();
        for locator in self.endpoint.identity().locators().to_vec() {
            if !usable.contains(&locator) {
                self.endpoint.handle_locator(now, locator, false);
            }
        }
    }

    fn handle_input(&mut self, input: Input) {
        let now = self.shared.clock.now();
        match input {
            Input::Message { source, destination, octets } => {
                self.endpoint.handle_message(now, source, destination, &octets);
            }
            Input::Activity(context) => self.endpoint.handle_activity(now, context),
            Input::Candidate(ulids) => match self.endpoint.establish(now, ulids) {
                Ok(_) => tracing::debug!(%ulids, "setting up a context"),
                Err(EstablishError::Limit) => tracing::warn!(%ulids, "no context: the limit is reached, see [limits]"),
                // It exists by now, the peer did not answer a moment ago, or it is none of ours.
                Err(error) => tracing::trace!(%ulids, %error, "no context"),
            },
        }
    }

    async fn handle_change(&mut self, change: &Change) {
        let events = match self.addresses.handle_change(change).await {
            Ok(events) => events,
            Err(error) => return tracing::error!(%error, "following a change of the host's addresses"),
        };
        let now = self.shared.clock.now();
        for event in events {
            let (locator, usable, message) = match event {
                AddressEvent::Usable(locator) => (locator, true, "can be used"),
                AddressEvent::Lost(locator) => (locator, false, "is gone: its link or address went away"),
                AddressEvent::Duplicate(locator) => (locator, false, "is used by another host as well"),
            };
            let message = format!("locator {locator} {message}");
            tracing::info!("{message}");
            let detail = serde_json::json!({ "locator": locator, "usable": usable });
            self.publish(status::Event {
                at_ms: self.shared.clock.millis(),
                kind: "locator".to_owned(),
                context: None,
                message,
                detail,
            });
            self.endpoint.handle_locator(now, locator, usable);
        }
    }

    fn handle_request(&mut self, request: Request) {
        match request {
            // Whoever asked may have left already.
            Request::Status(reply) => drop(reply.send(self.status())),
        }
    }

    fn status(&self) -> Status {
        let now = self.shared.clock.now();
        let usable: Vec<_> = self.addresses.usable().collect();
        let uplinks = self.addresses.uplinks().map(|(uplink, address)| status::UplinkStatus {
            interface: uplink.interface.clone(),
            prefix: format!("{}/64", uplink.prefix),
            gateway: uplink.gateway,
            address,
            up: usable.contains(&address),
        });
        let mut contexts: Vec<_> = self.endpoint.contexts().map(|info| report::context(&info, now)).collect();
        contexts.sort_by_key(|context| context.id);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: self.shared.clock.millis(),
            tun: self.tun.clone(),
            uplinks: uplinks.collect(),
            contexts,
            counters: report::counters(&self.endpoint, self.shared.counters.report()),
        }
    }

    /// Carries out all that the endpoint wants: first the table, so that packets find it as soon as they are steered.
    async fn drain(&mut self) {
        self.apply_dataplane().await;
        while let Some(transmit) = self.endpoint.poll_transmit(&mut self.packet[IPV6_HEADER_LEN..]) {
            self.transmit(transmit);
        }
        while let Some(event) = self.endpoint.poll_event() {
            let event = report::event(&event, self.shared.clock.millis());
            tracing::info!(kind = event.kind, context = event.context, "{}", event.message);
            self.publish(event);
        }
    }

    async fn apply_dataplane(&mut self) {
        let mut table = None;
        let mut wanted = BTreeMap::new();
        let (mut pin, mut unpin) = (Vec::new(), Vec::new());
        while let Some(update) = self.endpoint.poll_dataplane() {
            match &update {
                DataplaneUpdate::Insert(flow) => {
                    wanted.insert(flow.ulids, flow.is_steered());
                    if self.pinned.insert(flow.context, flow.ulids.local).is_none() {
                        pin.push(flow.ulids.local);
                    }
                }
                DataplaneUpdate::Remove(flow) => {
                    wanted.insert(flow.ulids, false);
                    unpin.extend(self.pinned.remove(&flow.context));
                }
            }
            table.get_or_insert_with(|| (**self.shared.dataplane.load()).clone()).apply(update);
        }
        let Some(table) = table else { return };
        self.shared.dataplane.store(Arc::new(table));
        for ulid in pin {
            log_failure("keeping a ULID", self.steering.pin(ulid).await);
        }
        let changed = |steered: bool| {
            let change = move |(pair, wanted): (&LocatorPair, &bool)| (*wanted == steered).then_some(*pair);
            wanted.iter().filter_map(change).filter(|pair| self.steered.contains(pair) != steered).collect::<Vec<_>>()
        };
        let (steer, unsteer) = (changed(true), changed(false));
        if !steer.is_empty() || !unsteer.is_empty() {
            log_failure("steering packets", self.steering.apply(&steer, &unsteer).await);
            self.steered.extend(steer);
            self.steered.retain(|pair| !unsteer.contains(pair));
        }
        for ulid in unpin {
            log_failure("releasing a ULID", self.steering.unpin(ulid).await);
        }
    }

    /// Puts an IPv6 header in front of the message in `packet` and sends it by the uplink that owns its source.
    fn transmit(&mut self, transmit: Transmit) {
        let Transmit { source, destination, len, .. } = transmit;
        let header = &mut self.packet[..IPV6_HEADER_LEN];
        header[..4].copy_from_slice(&[0x60, 0, 0, 0]);
        // MAX_MESSAGE bounds it.
        header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        header[6..8].copy_from_slice(&[PROTOCOL, HOP_LIMIT]);
        header[8..24].copy_from_slice(&source.octets());
        header[24..].copy_from_slice(&destination.octets());
        self.shared.send(source, &[&self.packet[..IPV6_HEADER_LEN + len]]);
    }

    fn publish(&self, event: status::Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }
}

fn log_failure<E: std::fmt::Display>(what: &str, result: Result<(), E>) {
    if let Err(error) = result {
        tracing::error!(%error, "{what}");
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
