//! What scenarios are played on: a lab with daemons and sessions between them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::stage::{Locators, Stage};
use shim6_tun::lab::Topology;
use shim6_tun::status::{ContextStatus, Status};
use tokio::time::{Instant, sleep};

use super::traffic::Traffic;
use super::{Findings, Settings};

/// Longer than anything takes on a busy machine.
pub(super) const LIMIT: Duration = Duration::from_secs(20);
/// How often conditions are looked at.
const POLL: Duration = Duration::from_millis(20);
/// Messages each way that show that a session goes on: a quarter of a second's.
const GOES_ON: usize = 50;

/// Of every scenario whose session must not notice anything but time.
pub(super) const INTACT: &str = "the connection does not break, and every octet arrives once, unchanged and in order";
/// Of datagrams, which may be lost; and those that were held for a path in doubt may arrive twice.
pub(super) const FAITHFUL: &str = "no datagram is changed";
/// Of every scenario with daemons.
pub(super) const CLEAN: &str = "the daemons end with 0 and leave nothing behind";

/// The statements that most scenarios make, with the words for them in `docs/scenarios.md`.
#[cfg(test)]
pub(super) const USUAL: [(&str, &str); 3] = [(INTACT, "intact"), (FAITHFUL, "faithful"), (CLEAN, "clean")];

/// A lab, its daemons and the sessions between their hosts.
pub(super) struct Ground {
    pub(super) stage: Stage,
    /// Where the first session is.
    pub(super) ulids: Locators,
    pub(super) sessions: Vec<Traffic>,
    seed: u64,
    patience: Duration,
}

impl Ground {
    /// On two hosts with two uplinks each, with one session that has a context.
    pub(super) async fn protected(settings: &Settings) -> anyhow::Result<Self> {
        Self::protected_on(Topology::two_by_two().await?, settings).await
    }

    /// As [`protected`](Self::protected), on this topology.
    pub(super) async fn protected_on(topology: Topology, settings: &Settings) -> anyhow::Result<Self> {
        let mut ground = Self::bare(topology, settings).await?;
        ground.protect().await?;
        Ok(ground)
    }

    /// Begins a session, and waits for its context.
    pub(super) async fn protect(&mut self) -> anyhow::Result<()> {
        self.connect(self.ulids).await?;
        self.stage.wait_established(self.ulids, Instant::now() + LIMIT).await?;
        self.go_on().await
    }

    /// Daemons, and no session yet.
    pub(super) async fn bare(topology: Topology, settings: &Settings) -> anyhow::Result<Self> {
        let mut stage = Stage::on(topology, &settings.shim6, Arc::new(Live::default()))?;
        if let Some(tables) = settings.wrong_configuration() {
            stage.overrule(tables)?;
        }
        stage.start().await?;
        Ok(Self {
            ulids: stage.ulids().await?,
            stage,
            sessions: Vec::new(),
            seed: settings.seed,
            patience: settings.patience(),
        })
    }

    /// Begins another session.
    pub(super) async fn connect(&mut self, ulids: Locators) -> anyhow::Result<()> {
        let Topology { a, b, .. } = self.stage.topology();
        let seed = self.seed.wrapping_add(self.sessions.len() as u64);
        self.sessions.push(Traffic::start([a, b], ulids, seed).await?);
        Ok(())
    }

    /// Waits until something is so.
    pub(super) async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.patience;
        while !is_so().await {
            if Instant::now() > deadline {
                let contexts = match self.statuses().await {
                    Ok(statuses) => format!("{:#?}", statuses.map(|status| status.contexts)),
                    Err(error) => format!("{error:#}"),
                };
                bail!(
                    "within {:?} it was not so: {what}\n{contexts}\n{}",
                    self.patience,
                    self.stage.logs()
                );
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until the context of the first session is so on both hosts.
    pub(super) async fn until_context(
        &self,
        what: &str,
        is_so: impl Fn(&ContextStatus, &ContextStatus) -> bool,
    ) -> anyhow::Result<()> {
        self.until(what, async || {
            let both = (
                self.stage.context_a(self.ulids).await,
                self.stage.context_b(self.ulids).await,
            );
            matches!(both, (Ok(Some(a)), Ok(Some(b))) if is_so(&a, &b))
        })
        .await
    }

    /// The contexts of the first session, one on each host.
    pub(super) async fn contexts(&self) -> anyhow::Result<Vec<ContextStatus>> {
        let both = [
            self.stage.context_a(self.ulids).await?,
            self.stage.context_b(self.ulids).await?,
        ];
        Ok(both.into_iter().flatten().collect())
    }

    /// Waits until all sessions have gone on for a while.
    pub(super) async fn go_on(&self) -> anyhow::Result<()> {
        self.all_go_on(&self.sessions).await
    }

    /// Waits until the session of this number has gone on for a while.
    pub(super) async fn goes_on(&self, number: usize) -> anyhow::Result<()> {
        self.all_go_on(&self.sessions[number..=number]).await
    }

    async fn all_go_on(&self, sessions: &[Traffic]) -> anyhow::Result<()> {
        let before: Vec<_> = sessions.iter().map(Traffic::arrived).collect();
        let gone_on = || {
            let now = sessions.iter().map(Traffic::arrived);
            now.zip(&before)
                .all(|(now, before)| now.iter().zip(before).all(|(now, before)| *now >= before + GOES_ON))
        };
        self.until("the sessions go on", async || gone_on() || self.broken().is_some())
            .await?;
        let broken = self.broken();
        ensure!(
            broken.is_none(),
            "a connection broke: {broken:?}\n{}",
            self.stage.logs()
        );
        Ok(())
    }

    /// What broke a session, if one is broken.
    fn broken(&self) -> Option<String> {
        self.sessions.iter().find_map(Traffic::error)
    }

    /// What both daemons say.
    pub(super) async fn statuses(&self) -> anyhow::Result<[Status; 2]> {
        Ok([
            self.stage.daemon_a()?.status().await?,
            self.stage.daemon_b()?.status().await?,
        ])
    }

    /// Ends the sessions and checks [`INTACT`] and [`FAITHFUL`].
    pub(super) async fn end_sessions(&mut self, findings: &mut Findings) -> anyhow::Result<()> {
        for session in self.sessions.drain(..) {
            let delivery = session.finish().await?;
            let error = delivery.tcp.err();
            findings.check(INTACT, error.is_none(), || format!("{error:?}\n{}", self.stage.logs()));
            let udp = delivery.udp;
            findings.check(FAITHFUL, udp.strange == 0, || format!("{udp:?}"));
            findings.measure("datagrams that arrived twice", udp.repeated as f64, "");
            let lost = udp.sent.saturating_sub(udp.arrived) * 1000 / udp.sent.max(1);
            findings.measure("datagrams lost", lost as f64 / 10.0, "%");
        }
        Ok(())
    }

    /// Ends everything, with the checks of [`end_sessions`](Self::end_sessions) and [`CLEAN`].
    pub(super) async fn end(mut self, findings: &mut Findings) -> anyhow::Result<()> {
        self.end_sessions(findings).await?;
        let shutdown = self.stage.stop().await?;
        findings.check(CLEAN, shutdown.is_clean(), || format!("{shutdown:#?}"));
        Ok(())
    }
}
