//! Signals that end a program as something to ask for, instead of an end in the middle of a write.

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Ctrl-C, an orderly end, and a terminal that goes away.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Holds these signals back, in this thread and those it starts; gone, they act as before.
pub(super) struct Interrupt {
    signals: SignalFd,
    before: SigSet,
}

impl Interrupt {
    pub(super) fn catch() -> anyhow::Result<Self> {
        let mut wanted = SigSet::empty();
        for signal in SIGNALS {
            wanted.add(signal);
        }
        let before = SigSet::thread_get_mask().context("cannot hold signals back")?;
        let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .context("cannot wait for signals; check the limit of open files")?;
        wanted.thread_block().context("cannot hold signals back")?;
        Ok(Self { signals, before })
    }

    /// Whether a signal has arrived since the last time.
    pub(super) fn arrived(&self) -> bool {
        self.signals.read_signal().is_ok_and(|signal| signal.is_some())
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // It was this thread's mask before.
        let _ = self.before.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn signals_are_held_back_and_told() {
        let interrupt = Interrupt::catch().expect("signals");
        assert!(!interrupt.arrived());
        for signal in SIGNALS {
            // To this thread: otherwise the test program would end.
            raise(signal).expect("raise");
            assert!(interrupt.arrived(), "{signal}");
            assert!(!interrupt.arrived());
        }
        let before = interrupt.before;
        drop(interrupt);
        assert_eq!(SigSet::thread_get_mask(), Ok(before));
    }
}
