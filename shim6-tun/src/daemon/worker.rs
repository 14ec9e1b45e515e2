//! Threads that move packets.
//!
//! A thread of its own waits for its descriptor and nothing else. A task of the runtime would be woken by another thread, which
//! takes longer than all that is then done to a packet.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::prctl::set_timerslack;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// From how many packets at a time there is a stream of them.
pub(crate) const STREAM: usize = 4;
/// How long a stream gathers before it is read on.
const GATHERING: Duration = Duration::from_micros(100);
/// How long a thread looks for the next packet before it sleeps, and how long after a stream it does not.
const LOOKING: Duration = Duration::from_micros(60);
const AFTER_STREAM: Duration = Duration::from_millis(2);

/// When a thread sleeps, and for how long.
///
/// To wake a thread takes longer than all that is done to a packet, and whoever sends the packet has to do it. So a stream is let
/// gather, asleep for a time that nobody cuts short; and a question whose answer may come soon is waited for awake, while
/// others have the processor if they want it.
#[derive(Debug)]
pub(crate) struct Pace {
    stream_at: Option<Instant>,
    /// Since when there has been nothing to read.
    idle_since: Option<Instant>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self {
            stream_at: None,
            idle_since: None,
        }
    }

    /// So many packets were read at a time.
    pub(crate) fn read(&mut self, count: usize) {
        self.idle_since = None;
        if count >= STREAM {
            self.stream_at = Some(Instant::now());
        }
    }

    /// Lets a stream gather.
    pub(crate) fn gather(&self) {
        thread::sleep(GATHERING);
    }

    /// There was nothing to read from the descriptor. Comes back when there may be. False: it is time to end.
    pub(crate) fn wait(&mut self, descriptor: BorrowedFd<'_>, stop: &Stop) -> io::Result<bool> {
        let now = Instant::now();
        let is_after_stream = self.stream_at.is_some_and(|at| now - at < AFTER_STREAM);
        let idle_since = *self.idle_since.get_or_insert(now);
        if !is_after_stream && now - idle_since < LOOKING {
            thread::yield_now();
            return Ok(true);
        }
        stop.wait_readable(descriptor)
    }
}

/// The threads, which end when this is dropped.
#[derive(Debug)]
pub(crate) struct Workers {
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

/// Says when to end.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<EventFd>);

impl Workers {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stop = EventFd::from_flags(flags).context("no descriptor to stop the packet threads with")?;
        Ok(Self {
            stop: Stop(Arc::new(stop)),
            threads: Vec::new(),
        })
    }

    /// Starts a thread. What it ends with is what the task ends with that is added to `tasks`.
    pub(crate) fn spawn(
        &mut self,
        name: &str,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        work: impl FnOnce(&Stop) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let (ended, end) = oneshot::channel();
        let stop = self.stop.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(error) = set_timerslack(1) {
                tracing::debug!(%error, "short waits will be longer");
            }
            // While the daemon ends nobody is there to hear it.
            let _ = ended.send(work(&stop));
        });
        self.threads
            .push(thread.with_context(|| format!("cannot start the thread {name}"))?);
        let name = name.to_owned();
        tasks.spawn(async move { end.await.with_context(|| format!("the thread {name} has panicked"))? });
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let stopped = self.stop.0.write(1);
        debug_assert!(
            stopped.is_ok(),
            "an event descriptor that is never read from takes one event"
        );
        for thread in self.threads.drain(..) {
            // It said what was wrong when it panicked.
            let _ = thread.join();
        }
    }
}

impl Stop {
    /// Waits until there is something to read. False: it is time to end.
    pub(crate) fn wait_readable(&self, descriptor: BorrowedFd<'_>) -> io::Result<bool> {
        let mut watched = [
            PollFd::new(descriptor, PollFlags::POLLIN),
            PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
        ];
        loop {
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) => return Ok(watched[1].any() != Some(true)),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
