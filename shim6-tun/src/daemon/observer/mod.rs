//! Watches ordinary packets on the uplinks: which ULID pairs have traffic, and when the last packet came and went.

mod counting;
mod taps;

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;

use anyhow::Context as _;
use shim6_core::{DataplaneUpdate, LocatorPair};

use self::counting::Counting;
use self::taps::Taps;
use super::shared::Shared;
use super::trigger::Trigger;
use super::uplink::Uplink;
use crate::config::{Config, ObserveMethod};

/// What watches the packets.
#[derive(Debug)]
pub(crate) struct Observers(Means);

#[derive(Debug)]
enum Means {
    Taps(Taps),
    Counting(Counting),
}

impl Observers {
    /// Watches the uplinks, as the configuration says.
    ///
    /// # Errors
    ///
    /// What it says is not possible here.
    pub(crate) fn open(config: &Config, uplinks: &[Uplink], shared: Arc<Shared>) -> anyhow::Result<Self> {
        let counting = || {
            let mut observers = Self(Means::Counting(Counting::new(config, shared.clone())?));
            observers.watch_all(uplinks)?;
            anyhow::Ok(observers)
        };
        match config.observe.method {
            ObserveMethod::Ebpf => {
                return counting().context("observe.method is \"ebpf\"; \"auto\" would take the tap instead");
            }
            ObserveMethod::Auto => match counting() {
                Ok(observers) => return Ok(observers),
                Err(why) => tracing::info!("packets are watched by taps, which cost more than eBPF: {why:#}"),
            },
            ObserveMethod::Tap => {}
        }
        let trigger = Trigger::new(config.trigger.clone(), config.limits.candidates);
        let mut observers = Self::taps(trigger, shared);
        observers.watch_all(uplinks)?;
        Ok(observers)
    }

    /// Taps, which do not watch anything yet.
    pub(crate) fn taps(trigger: Trigger, shared: Arc<Shared>) -> Self {
        Self(Means::Taps(Taps::new(trigger, shared)))
    }

    /// By what packets are watched.
    pub(crate) fn method(&self) -> ObserveMethod {
        match self.0 {
            Means::Taps(_) => ObserveMethod::Tap,
            Means::Counting(_) => ObserveMethod::Ebpf,
        }
    }

    /// Watches an uplink's interface, unless it is watched already.
    ///
    /// # Errors
    ///
    /// The system's, for example if there is no such interface now.
    pub(crate) fn watch(&mut self, uplink: &Uplink) -> io::Result<()> {
        match &mut self.0 {
            Means::Taps(taps) => taps.watch(uplink),
            Means::Counting(counting) => counting.watch(uplink),
        }
    }

    /// Forgets an interface that was removed: should another come with the same index, what watched this one is deaf to it.
    pub(crate) fn forget(&mut self, index: u32) {
        match &mut self.0 {
            Means::Taps(taps) => taps.forget(index),
            Means::Counting(counting) => counting.forget(index),
        }
    }

    /// Forgets all interfaces, when it is not known which were removed.
    pub(crate) fn forget_all(&mut self) {
        match &mut self.0 {
            Means::Taps(taps) => taps.forget_all(),
            Means::Counting(counting) => counting.forget_all(),
        }
    }

    /// This host has these addresses from now on.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn set_locals(&mut self, locals: &BTreeSet<Ipv6Addr>) -> io::Result<()> {
        match &mut self.0 {
            // They ask for each packet.
            Means::Taps(_) => Ok(()),
            Means::Counting(counting) => counting.set_locals(locals),
        }
    }

    /// To be called with the pairs whose flows have come or gone, when the table says so.
    pub(crate) fn follow(&mut self, pairs: &[LocatorPair]) {
        match &mut self.0 {
            // They see all packets, and look each one up.
            Means::Taps(_) => {}
            Means::Counting(counting) => counting.follow(pairs),
        }
    }

    fn watch_all(&mut self, uplinks: &[Uplink]) -> anyhow::Result<()> {
        for uplink in uplinks {
            self.watch(uplink)
                .with_context(|| format!("cannot watch the packets on {}", uplink.interface))?;
        }
        Ok(())
    }
}

/// The ULID pairs of flows whose packets may bear the ULIDs alone on the wire.
pub(crate) fn pairs_of(updates: &[DataplaneUpdate]) -> Vec<LocatorPair> {
    let flows = updates.iter().map(|update| match update {
        DataplaneUpdate::Insert(flow) | DataplaneUpdate::Remove(flow) => flow,
    });
    let default = flows.filter(|flow| flow.forked_instance == 0);
    default.map(|flow| flow.ulids).collect()
}
