//! What the service manager is told: that the daemon is ready, how it is, and that its engine turns.
//!
//! Nothing happens unless whoever started the daemon listens (`NOTIFY_SOCKET`, see sd_notify(3)).

use std::time::Duration;

use sd_notify::NotifyState;
use shim6_core::Instant;

/// Time between two looks at what there is to say, when there is no watchdog that asks for more.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// How much longer the start may take after each sign of life.
const START_EXTENSION: Duration = Duration::from_secs(60);

/// The service manager, if there is one.
#[derive(Debug)]
pub(super) struct Notifier {
    listens: bool,
    /// How long the engine may be silent.
    watchdog: Option<Duration>,
    /// When the engine says next that it turns.
    next: Option<Instant>,
    /// The last status line.
    said: String,
}

impl Notifier {
    /// Looks in the environment for who listens.
    pub(super) fn from_environment() -> Self {
        Self::new(
            std::env::var_os("NOTIFY_SOCKET").is_some(),
            sd_notify::watchdog_enabled(),
        )
    }

    fn new(listens: bool, watchdog: Option<Duration>) -> Self {
        Self {
            listens,
            watchdog: watchdog.filter(|_| listens),
            next: None,
            said: String::new(),
        }
    }

    /// The daemon is starting, which may take a while: addresses are made and checked for duplicates.
    pub(super) fn starting(&self) {
        let extension = u32::try_from(START_EXTENSION.as_micros()).unwrap_or(u32::MAX);
        self.send(&[
            NotifyState::Status("starting: making and checking addresses"),
            NotifyState::ExtendTimeoutUsec(extension),
        ]);
    }

    /// The daemon serves, from now on as the watchdog wants it.
    pub(super) fn ready(&mut self, now: Instant) {
        self.send(&[NotifyState::Ready]);
        if self.listens {
            self.next = Some(now);
        }
    }

    /// The configuration is read again. To be followed by [`reloaded`](Self::reloaded).
    pub(super) fn reloading(&self) {
        // A manager may give up on a daemon that does not say when it began: then better nothing at all.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "telling the service manager"),
        }
    }

    /// The new configuration holds, or the old one still does.
    pub(super) fn reloaded(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// The daemon stops, and puts the host back.
    pub(super) fn stopping(&self) {
        self.send(&[
            NotifyState::Stopping,
            NotifyState::Status("stopping: putting the host back"),
        ]);
    }

    /// When the engine has to say that it turns.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Whether that is now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// The engine turns, and so is alive; how it is, in a line.
    pub(super) fn turn(&mut self, now: Instant, status: String) {
        let mut states = vec![NotifyState::Watchdog];
        if status != self.said {
            states.push(NotifyState::Status(&status));
        }
        self.send(&states);
        self.said = status;
        self.next = Some(now + self.interval());
    }

    /// A third of what the watchdog waits, so that one delay does no harm.
    fn interval(&self) -> Duration {
        self.watchdog
            .map_or(STATUS_INTERVAL, |most| (most / 3).min(STATUS_INTERVAL))
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        if !self.listens {
            return;
        }
        if let Err(error) = sd_notify::notify(states) {
            tracing::debug!(%error, "telling the service manager");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::EPOCH + Duration::from_millis(milliseconds)
    }

    #[test]
    fn without_a_listener_nothing_is_ever_due() {
        let mut notifier = Notifier::new(false, Some(Duration::from_secs(3)));
        notifier.ready(at(0));
        assert_eq!(notifier.poll_timeout(), None);
        assert!(!notifier.is_due(at(10)));
    }

    #[test]
    fn the_watchdog_is_fed_three_times_as_often_as_it_asks_and_only_by_a_turn_of_the_engine() {
        let mut notifier = Notifier::new(true, Some(Duration::from_secs(3)));
        assert!(!notifier.is_due(at(0)), "before it is ready");
        notifier.ready(at(0));
        assert!(notifier.is_due(at(0)));
        notifier.turn(at(5), String::new());
        assert_eq!(notifier.poll_timeout(), Some(at(1005)));
        assert!(!notifier.is_due(at(1004)));
        // Without a turn it stays due: nothing else feeds it.
        assert!(notifier.is_due(at(9000)));
        assert_eq!(notifier.poll_timeout(), Some(at(1005)));
        notifier.turn(at(2000), String::new());
        assert_eq!(notifier.poll_timeout(), Some(at(3000)));
    }

    #[test]
    fn a_long_watchdog_does_not_make_the_status_old() {
        let mut notifier = Notifier::new(true, Some(Duration::from_secs(600)));
        notifier.ready(at(0));
        notifier.turn(at(0), String::new());
        assert_eq!(notifier.poll_timeout(), Some(at(5000)));
    }
}
