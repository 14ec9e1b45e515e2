//! The daemon: `shim6 run`.
//!
//! One task, the [engine](engine), owns the protocol. The packet tasks only move packets: [`inbound`] and [`outbound`]
//! rewrite those of steered contexts by a table that they read without locks, [`observer`]s note the ordinary ones. What
//! the daemon changes on the host it changes through [`addresses`] and [`steering`], which undo it at the end.

pub mod addresses;
mod clock;
mod engine;
mod inbound;
pub mod ledger;
mod observer;
mod outbound;
mod report;
mod shared;
pub mod steering;
mod trigger;
pub mod uplink;

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use rand::Rng as _;
use shim6_cga::{HbaSet, Sec, SubnetPrefix};
use shim6_core::{Endpoint, EndpointConfig, Identity, LimitsConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use self::addresses::{AddressError, Addresses};
use self::clock::Clock;
use self::engine::{Engine, Sources};
use self::shared::{INPUT_QUEUE, Shared};
use self::steering::Steering;
use self::trigger::Trigger;
use self::uplink::{Uplink, UplinkHint};
use crate::config::{Config, ReapConfig};
use crate::control::Server;
use crate::netlink::Netlink;
use crate::sys::{PacketTap, TapOptions, Tun, WireReceiver, WireSender};

/// How many events wait for a slow reader before it is told that it missed some.
const EVENT_QUEUE: usize = 1_024;
/// Requests from control connections that wait for the engine.
const REQUEST_QUEUE: usize = 64;
/// Duplicate addresses before giving up (RFC 3972 section 4, step 8).
const MAX_COLLISIONS: u8 = 2;

/// Runs the daemon until SIGINT or SIGTERM, and takes away all that it added to the host.
///
/// # Errors
///
/// What kept it from starting, or what broke while it ran; the host is put back in either case.
pub async fn run(config: Config) -> anyhow::Result<()> {
    // First of all, so that a signal during the start is not lost and a second daemon changes nothing.
    let mut stop = StopSignals::listen()?;
    let control = Server::bind(&config.control_socket)?;
    let clock = Clock::start();
    let netlink = Netlink::connect()?;
    let leftovers = ledger::remove_leftovers(&netlink).await?;
    if leftovers > 0 {
        tracing::info!(leftovers, "removed what an earlier run that was killed had left");
    }
    let mut addresses = Addresses::new(&netlink, config.addresses.dad);
    let result = tokio::select! {
        result = start(&config, clock, control, &netlink, &mut addresses) => result,
        name = stop.received() => {
            tracing::info!("{name}: stopping");
            Ok(())
        }
    };
    result
}
