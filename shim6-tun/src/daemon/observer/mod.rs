//! Watches ordinary packets on the uplinks: which ULID pairs have traffic, and when the last packet came and went.

mod closer;
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
use super::policy::Policy;
use super::shared::Shared;
use super::trigger::{SharedTrigger, Trigger};
use super::uplink::{Uplink, prefix_of};
use crate::config::{Config, ObserveMethod};

/// What watches the packets.
#[derive(Debug)]
pub(crate) struct Observers {
    means: Means,
    trigger: Arc<SharedTrigger>,
    shared: Arc<Shared>,
}

/// What has to be there before another policy holds.
#[derive(Debug)]
pub(crate) struct Prepared {
    policy: Policy,
    /// Where programs in the kernel have to count up to another threshold.
    counting: Option<Counting>,
}

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
        let policy = Policy::new(config, |interface| addresses_of(interface, uplinks, &shared));
        let trigger = SharedTrigger::new(Trigger::new(policy.clone(), config.limits.candidates));
        let counting = || {
            let counting = Counting::new(config, &policy, trigger.clone(), shared.clone())?;
            let mut observers = Self::new(Means::Counting(counting), trigger.clone(), shared.clone());
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
        let mut observers = Self::with_taps(trigger, shared);
        observers.watch_all(uplinks)?;
        Ok(observers)
    }

    /// Taps, which do not watch anything yet.
    #[cfg(test)]
    pub(crate) fn taps(trigger: Trigger, shared: Arc<Shared>) -> Self {
        Self::with_taps(SharedTrigger::new(trigger), shared)
    }

    fn with_taps(trigger: Arc<SharedTrigger>, shared: Arc<Shared>) -> Self {
        let taps = Taps::new(trigger.clone(), shared.clone());
        Self::new(Means::Taps(taps), trigger, shared)
    }

    fn new(means: Means, trigger: Arc<SharedTrigger>, shared: Arc<Shared>) -> Self {
        Self { means, trigger, shared }
    }

    /// Gets everything ready for another policy, and changes nothing.
    ///
    /// # Errors
    ///
    /// The system does not give what it needs.
    pub(crate) fn prepare(&self, config: &Config, policy: Policy, uplinks: &[&Uplink]) -> anyhow::Result<Prepared> {
        let counting = match &self.means {
            Means::Counting(old) if !old.counts_up_to(&policy) => {
                let mut counting = Counting::new(config, &policy, self.trigger.clone(), self.shared.clone())
                    .context("cannot count up to another threshold")?;
                for uplink in uplinks {
                    // One that is gone is watched when it is back.
                    if let Err(error) = counting.watch(uplink) {
                        tracing::debug!(interface = uplink.interface, %error, "cannot watch the packets");
                    }
                }
                if let Some(index) = old.inside()
                    && let Err(error) = counting.watch_inside(index)
                {
                    tracing::debug!(%error, "cannot watch the packets of the shortcut");
                }
                Some(counting)
            }
            _ => None,
        };
        Ok(Prepared { policy, counting })
    }

    /// Another policy holds from now on. True: all flows are to be [followed](Self::follow) anew.
    pub(crate) fn take(&mut self, prepared: Prepared) -> bool {
        self.trigger.set_policy(prepared.policy);
        let is_new = prepared.counting.is_some();
        if let Some(counting) = prepared.counting {
            self.means = Means::Counting(counting);
        }
        is_new
    }

    /// By what packets are watched.
    pub(crate) fn method(&self) -> ObserveMethod {
        match self.means {
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
        match &mut self.means {
            Means::Taps(taps) => taps.watch(uplink),
            Means::Counting(counting) => counting.watch(uplink),
        }
    }

    /// Forgets an interface that was removed: should another come with the same index, what watched this one is deaf to it.
    pub(crate) fn forget(&mut self, index: u32) {
        match &mut self.means {
            Means::Taps(taps) => taps.forget(index),
            Means::Counting(counting) => counting.forget(index),
        }
    }

    /// Forgets all interfaces, when it is not known which were removed.
    pub(crate) fn forget_all(&mut self) {
        match &mut self.means {
            Means::Taps(taps) => taps.forget_all(),
            Means::Counting(counting) => counting.forget_all(),
        }
    }

    /// Whether they are watched by programs in the kernel.
    pub(crate) fn counts_in_kernel(&self) -> bool {
        matches!(self.means, Means::Counting(_))
    }

    /// Watches the interface on which steered packets bear their ULIDs, where they do not pass through the daemon.
    ///
    /// # Errors
    ///
    /// There is no such interface, or packets are not watched by programs.
    pub(crate) fn watch_inside(&mut self, index: u32) -> io::Result<()> {
        match &mut self.means {
            Means::Taps(_) => Err(io::ErrorKind::Unsupported.into()),
            Means::Counting(counting) => counting.watch_inside(index),
        }
    }

    /// This host has these addresses from now on.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn set_locals(&mut self, locals: &BTreeSet<Ipv6Addr>) -> io::Result<()> {
        match &mut self.means {
            // They ask for each packet.
            Means::Taps(_) => Ok(()),
            Means::Counting(counting) => counting.set_locals(locals),
        }
    }

    /// To be called with the pairs whose flows have come or gone, when the table says so.
    pub(crate) fn follow(&mut self, pairs: &[LocatorPair]) {
        match &mut self.means {
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

/// This host's addresses on an interface.
fn addresses_of(interface: &str, uplinks: &[Uplink], shared: &Shared) -> Vec<Ipv6Addr> {
    let prefixes = uplinks.iter().filter(|uplink| uplink.interface == interface);
    let prefixes: Vec<_> = prefixes.map(|uplink| uplink.prefix).collect();
    let addresses = shared.wire.addresses();
    addresses
        .into_iter()
        .filter(|&address| prefixes.contains(&prefix_of(address)))
        .collect()
}

/// The ULID pairs of flows whose packets may bear the ULIDs alone on the wire.
pub(crate) fn pairs_of(updates: &[DataplaneUpdate]) -> Vec<LocatorPair> {
    let flows = updates.iter().map(|update| match update {
        DataplaneUpdate::Insert(flow) | DataplaneUpdate::Remove(flow) => flow,
    });
    let default = flows.filter(|flow| flow.forked_instance == 0);
    default.map(|flow| flow.ulids).collect()
}
