//! The scenario library: what happens to real daemons, kernels and sockets in a lab, and what must hold meanwhile.
//!
//! [`all`] is the registry. [`Scenario::run`] plays one of them in the namespaces of the calling process, which has to be in a
//! user namespace of its own ([`isolated`](crate::isolated) or [`enter_user_namespace`](shim6_tun::lab::enter_user_namespace)), and gives
//! its [`Findings`]: each statement that must hold, whether it did, and what was measured. `cargo test -p shim6-tests --test e2e scenarios`
//! plays each for a few seconds; with [`Length::Long`] there are more rounds of the same, from the same seed.

mod attacker;
mod faults;
mod findings;
mod firewalls;
mod floods;
mod forgeries;
mod ground;
mod hosts;
mod links;
mod outages;
#[cfg(test)]
mod tests;
mod traffic;

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Instant;

use serde::Serialize;

pub use faults::{Fault, faults};
pub use findings::{Check, Figure, Findings, Verdict};

/// How much of it there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// A few rounds: at most some seconds.
    Short,
    /// Ten times the rounds of the short form: a minute or two.
    Long,
}

impl Length {
    /// How many rounds there are where the short form has so many.
    #[must_use]
    pub fn rounds(self, short: u32) -> u32 {
        match self {
            Self::Short => short,
            Self::Long => short.saturating_mul(10),
        }
    }
}

/// How to play a scenario.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `shim6` program, see [`binary`](crate::binary).
    pub shim6: PathBuf,
    /// Where all that is random comes from.
    pub seed: u64,
    /// How much of it there is.
    pub length: Length,
    /// What is done wrong on purpose, if anything is: see [`Fault::run`].
    pub fault: Option<&'static Fault>,
}

type Running<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// Something that happens to sessions, and what must hold meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name, in words with hyphens between them.
    pub name: &'static str,
    /// What is done, in a sentence.
    pub summary: &'static str,
    /// What must hold, each in a sentence.
    pub must_hold: &'static [&'static str],
    /// Where that is demanded.
    pub demanded_by: &'static str,
    play: for<'a> fn(&'a mut Findings, &'a Settings) -> Running<'a>,
}

impl Scenario {
    /// Plays it. It needs a runtime with at least two threads.
    ///
    /// # Errors
    /// It could not be played to its end, though all held until then. A statement that did not hold is no error: see [`Findings::held`].
    pub async fn run(&self, settings: &Settings) -> anyhow::Result<Findings> {
        let mut findings = Findings::new(self, settings);
        let start = Instant::now();
        let broken = findings.broken();
        tokio::select! {
            biased;
            played = (self.play)(&mut findings, settings) => {
                // That it could not go on after a statement that did not hold is no wonder.
                played.or_else(|error| if findings.is_broken() { Ok(()) } else { Err(error) })?;
            }
            // That was the point of it.
            () = broken.notified(), if settings.fault.is_some() => {}
        }
        findings.took = start.elapsed();
        Ok(findings)
    }
}

/// All scenarios, in the order of `docs/scenarios.md`.
#[must_use]
pub fn all() -> &'static [Scenario] {
    &[
        outages::FAILOVER_STORM,
        outages::FLAPPING,
        outages::ASYMMETRIC_ROUTING,
        outages::BOTH_LOSE_UPLINKS,
        outages::ALL_UPLINKS_DOWN,
        hosts::PEER_REBOOTS,
        hosts::RENUMBERING,
        links::LOSS,
        links::REORDERING,
        links::MTU_DROP,
        firewalls::FIREWALL_ON_OTHER_PATH,
        firewalls::FIREWALL_ON_OWN_PATH,
        firewalls::FIREWALL_COMES_LATER,
        firewalls::FIREWALL_EATS_PAYLOAD,
        hosts::PEER_WITHOUT_SHIM6,
        floods::I1_FLOOD,
        floods::REPLAYED_I2,
        forgeries::FORGED_UPDATES,
        forgeries::R1BIS_STORM,
        forgeries::HIJACK,
    ]
}

/// The scenario of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    all().iter().find(|scenario| scenario.name == name)
}
