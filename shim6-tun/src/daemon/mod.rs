//! The daemon: `shim6 run`.
//!
//! One task, the engine, owns the protocol. The packet tasks only move packets: `inbound` and `outbound`
//! rewrite those of steered contexts by a table that they read without locks, `observer`s note the ordinary ones. What
//! the daemon changes on the host it changes through [`addresses`] and [`steering`], which undo it at the end.

pub mod addresses;
mod advertisements;
mod clock;
mod engine;
mod follower;
mod forks;
mod generation;
mod hold;
mod identity;
mod inbound;
pub mod ledger;
mod lock;
mod notify;
mod observer;
mod outbound;
mod path_mtu;
mod paths;
mod policy;
mod reload;
mod report;
mod retry;
mod shared;
mod shortcut;
pub mod steering;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod trigger;
pub mod uplink;
mod wire;
mod worker;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::Rng as _;
use shim6_core::dataplane::PAYLOAD_HEADER_LEN;
use shim6_core::{AnswerRule, Endpoint, EndpointConfig, Identity, LimitsConfig, Prefix};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use self::addresses::Addresses;
use self::clock::Clock;
use self::engine::{Engine, Host, Sources};
use self::follower::{Follower, Made};
use self::lock::NamespaceLock;
use self::notify::Notifier;
use self::observer::Observers;
use self::path_mtu::PathMtus;
use self::reload::Reload;
use self::shared::Shared;
use self::shortcut::Shortcut;
use self::steering::Steering;
use self::uplink::{Uplink, UplinkHint};
use self::wire::Wire;
use self::worker::{Stop, Workers};
use crate::config::{Config, Loaded, PeerConfig, Prefix64, ReapConfig, UplinkConfig};
use crate::control::{Access, Server};
use crate::metrics;
use crate::netlink::{Monitor, Netlink, NetlinkError};
use crate::privileges;
use crate::sys::tun::Tun;
use crate::sys::wire_socket::{LinkSender, WireReceiver, WireSender};

/// How many events wait for a slow reader before it is told that it missed some.
const EVENT_QUEUE: usize = 1_024;
/// The bounds of a TUN device's MTU: what IPv6 needs, and what it can use.
const MIN_TUN_MTU: u32 = 1280;
const MAX_TUN_MTU: u32 = 65_535;
/// The MTU of an Ethernet, which is expected as long as there is no uplink.
const USUAL_MTU: u32 = 1500;
/// Requests from control connections that wait for the engine.
const REQUEST_QUEUE: usize = 64;

/// Time between two signs of life during a start.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Runs the daemon until SIGINT or SIGTERM, and takes away all that it added to the host.
///
/// # Errors
///
/// What kept it from starting, or what broke while it ran; the host is put back in either case.
pub async fn run(config: Config) -> anyhow::Result<()> {
    run_loaded(Loaded::built_in(config)).await
}

/// As [`run`], with a configuration that is read again from where it comes from when SIGHUP or a client asks for it.
///
/// # Errors
///
/// As [`run`].
pub async fn run_loaded(loaded: Loaded) -> anyhow::Result<()> {
    let config = &loaded.config;
    // First of all, so that a signal during the start is not lost and a second daemon changes nothing.
    let stop = StopSignals::listen()?;
    let hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    let access = config.control_group.clone().map_or(Access::DefaultGroup, Access::Group);
    let control = Server::bind_for(&config.control_socket, &access)?;
    let _lock = NamespaceLock::take()?;
    let netlink = Netlink::connect()?;
    let leftovers = ledger::remove_leftovers(&netlink).await?;
    if leftovers > 0 {
        tracing::info!(leftovers, "removed what an earlier run that was killed had left");
    }
    let mut addresses = Addresses::new(&netlink, config.addresses.dad);
    let reload = Reload::new(loaded.clone(), Some(hangup));
    let result = start_and_serve(config, &netlink, &mut addresses, control, (stop, reload)).await;
    report_undo(addresses.undo().await);
    result
}

async fn start_and_serve(
    config: &Config,
    netlink: &Netlink,
    addresses: &mut Addresses,
    control: Server,
    (mut stop, reload): (StopSignals, Reload),
) -> anyhow::Result<()> {
    let notifier = Notifier::from_environment();
    // Duplicate address detection takes its time. What was added until the signal is recorded, hence undone.
    let start = tokio::select! {
        start = start(config, addresses) => start?,
        signal = stop.received() => {
            tracing::info!("stopping before the start is complete: {signal}");
            return Ok(());
        }
        never = signs_of_life(&notifier) => match never {},
    };
    serve(config, netlink, addresses, control, (stop, reload), start).await
}

/// Tells the service manager that the start goes on, until it is dropped.
async fn signs_of_life(notifier: &Notifier) -> Infallible {
    let mut tick = tokio::time::interval(SIGN_OF_LIFE);
    loop {
        tick.tick().await;
        notifier.starting();
    }
}

/// What there is once the host has its addresses.
struct Start {
    /// Subscribed before anything was looked at, so that no change is missed.
    monitor: Monitor,
    uplinks: Vec<Uplink>,
    tun: Arc<Tun>,
    identity: Identity,
    follower: Follower,
    made: mpsc::Receiver<Made>,
}

async fn start(config: &Config, addresses: &mut Addresses) -> anyhow::Result<Start> {
    let mut monitor = Netlink::monitor()?;
    let (mut follower, mut made) = Follower::new(config)?;
    let uplinks = follower.begin(addresses, &mut made).await?;
    let tun = Arc::new(Tun::create(
        &config.tun.name,
        tun_mtu(config.tun.mtu, &uplinks),
        config.tun.queues,
    )?);
    let identity = follower.settle(&uplinks, addresses, &mut monitor).await?;
    Ok(Start {
        monitor,
        uplinks,
        tun,
        identity,
        follower,
        made,
    })
}

/// Sets up the packet tasks and the steering, serves until told to stop, and takes the steering away.
async fn serve(
    config: &Config,
    netlink: &Netlink,
    addresses: &mut Addresses,
    control: Server,
    (stop, reload): (StopSignals, Reload),
    start: Start,
) -> anyhow::Result<()> {
    let Start {
        monitor,
        uplinks,
        tun,
        identity,
        follower,
        made,
    } = start;
    let clock = Clock::start();
    let link = config.wire.below_ip.then(|| LinkSender::open(config.steering.fwmark));
    let (wire, wanted) = Wire::new(senders(config, identity.locators())?, link.transpose()?);
    let (shared, inputs) = Shared::new(clock, wire, &config.hold);
    let shared = Arc::new(shared);
    let present: Vec<_> = uplinks.into_iter().filter(Uplink::is_present).collect();
    let mut observers = Observers::open(config, &present, shared.clone())?;
    tracing::info!(method = %observers.method(), "watching the packets on the uplinks");
    let mut tasks = JoinSet::new();
    tasks.spawn(inbound::run_icmp(WireReceiver::open_icmp_errors()?, shared.clone()));
    let workers = start_workers(&tun, &shared, &mut tasks)?;
    let (fwmark, routes, looking) = (config.steering.fwmark, netlink.clone(), shared.clone());
    tasks.spawn(async move {
        looking.wire.follow(&routes, fwmark, wanted).await;
        anyhow::bail!("nobody asks for next hops any more")
    });
    let (to_requests, requests) = mpsc::channel(REQUEST_QUEUE);
    let (events, _) = broadcast::channel(EVENT_QUEUE);
    // Nothing may fail any more once steering is there, which is undone at the end.
    if let Some(listen) = config.metrics.listen {
        tasks.spawn(metrics::Server::bind(listen)?.serve(to_requests.clone()));
    }

    let steer = &config.steering;
    let mut steering = Steering::install(netlink, tun.index(), steer.table, steer.rule_priority, steer.fwmark).await?;
    let control_events = events.clone();
    tasks.spawn(async move {
        control.serve(to_requests, control_events).await;
        anyhow::bail!("the control socket has closed")
    });
    let endpoint = endpoint(config, identity);
    let shortcut = Shortcut::open(config, netlink, &tun, &mut observers, &present).await;
    // All programs are loaded by now.
    privileges::settle();
    let virtual_link = shortcut.as_ref().map(Shortcut::link);
    let host = Host {
        steering: &mut steering,
        shortcut,
        path_mtus: PathMtus::new(config.tun.mtu),
        addresses,
        follower,
        observers,
        reload,
    };
    let mut engine = Engine::new(endpoint, shared.clone(), host, events, tun);
    let result = engine
        .run(Sources {
            inputs,
            monitor,
            requests,
            made,
            tasks,
            stop,
        })
        .await;
    let held = shared.hold.end();
    if held > 0 {
        tracing::warn!(packets = held, "dropping what was held for contexts without a path");
    }
    report_undo(steering.undo().await);
    if let Some(link) = virtual_link {
        shortcut::remove(netlink, link).await;
    }
    drop(workers);
    result
}

/// The threads that move packets.
fn start_workers(
    tun: &Arc<Tun>,
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Workers> {
    let mut workers = Workers::new()?;
    let receiver = WireReceiver::open()?;
    let (device, packets) = (tun.clone(), shared.clone());
    workers.spawn("shim6-in", tasks, move |stop| {
        inbound::run(&receiver, &device, &packets, stop)
    })?;
    for index in 0..tun.queues().len() {
        let (device, packets) = (tun.clone(), shared.clone());
        let work = move |stop: &Stop| outbound::run(&device.queues()[index], device.name(), &packets, stop);
        workers.spawn(&format!("shim6-out-{index}"), tasks, work)?;
    }
    Ok(workers)
}

fn report_undo(errors: Vec<NetlinkError>) {
    for error in errors {
        tracing::warn!(%error, "putting the host back");
    }
}

/// The TUN device's own MTU, which counts for what has no route of its own into it.
fn tun_mtu<'u>(configured: Option<u32>, uplinks: impl IntoIterator<Item = &'u Uplink>) -> u32 {
    let present = uplinks.into_iter().filter(|uplink| uplink.is_present());
    let largest = present.map(|uplink| uplink.mtu).max().unwrap_or(USUAL_MTU);
    let less_header = largest.saturating_sub(PAYLOAD_HEADER_LEN as u32);
    configured.unwrap_or(less_header.clamp(MIN_TUN_MTU, MAX_TUN_MTU))
}

/// What the configuration says about the uplinks.
pub(crate) fn hints(config: &Config) -> Vec<UplinkHint> {
    let hint = |uplink: &UplinkConfig| UplinkHint {
        interface: uplink.interface.clone(),
        prefix: uplink.prefix.map(Prefix64::address),
        gateway: uplink.gateway,
    };
    config.uplinks.iter().map(hint).collect()
}

fn senders(config: &Config, locators: &[Ipv6Addr]) -> anyhow::Result<HashMap<Ipv6Addr, WireSender>> {
    let open = |&address: &Ipv6Addr| Ok((address, WireSender::open(address, config.steering.fwmark)?));
    locators.iter().map(open).collect()
}

fn endpoint(config: &Config, identity: Identity) -> Endpoint {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    // Who is answered follows when it is known which address is on which uplink.
    Endpoint::new(endpoint_config(config, Vec::new()), identity, seed)
}

fn endpoint_config(config: &Config, answers: Vec<AnswerRule>) -> EndpointConfig {
    let failback = &config.failback;
    EndpointConfig {
        profile: config.reap.profile,
        reap: reap_config(&config.reap),
        peers: config.peers.iter().map(peer_config).collect(),
        answers,
        failback: shim6_core::FailbackConfig {
            enabled: failback.enabled,
            interval: failback.interval,
            stable: failback.stable,
            max_stable: failback.max_stable,
            rate: failback.rate,
        },
        hold: config.hold.enabled,
        deliver_all_icmp: config.icmp.deliver_all,
        quiescence: config.limits.quiescence,
        limits: LimitsConfig {
            contexts: config.limits.contexts,
            contexts_per_peer: config.limits.contexts_per_peer,
            contexts_per_prefix: config.limits.contexts_per_prefix,
            probes: config.limits.probes,
            peer_key_sizes: config.limits.peer_key_sizes,
            ..Default::default()
        },
        ..Default::default()
    }
}

fn reap_config(reap: &ReapConfig) -> shim6_core::ReapConfig {
    shim6_core::ReapConfig {
        send_timeout: reap.send_timeout,
        follow_rtt: reap.follow_rtt,
        keepalive_interval: reap.keepalive_interval,
        initial_probe_timeout: reap.initial_probe_timeout,
        initial_probes: reap.initial_probes,
        max_probe_timeout: reap.max_probe_timeout,
        ..Default::default()
    }
}

fn peer_config(peer: &PeerConfig) -> shim6_core::PeerConfig {
    shim6_core::PeerConfig {
        prefix: Prefix {
            address: peer.prefix.address(),
            length: peer.prefix.length(),
        },
        profile: peer.reap.profile,
        reap: reap_config(&peer.reap),
        contexts_per_peer: peer.contexts_per_peer,
    }
}

/// SIGINT and SIGTERM.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The name of the signal that arrived.
    pub(crate) async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
