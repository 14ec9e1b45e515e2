//! Threads that move packets.
//!
//! A thread of its own waits for its descriptor and nothing else. A task of the runtime would be woken by another thread, which
//! takes longer than all that is then done to a packet.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::prctl::set_timerslack;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::privileges;

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
pub(crate) struct Pace<'a> {
    streams: &'a Streams,
    /// Since when there has been nothing to read.
    idle_since: Option<Instant>,
}

/// When there was a stream last, in either direction: its acknowledgments come alone, and are no questions.
#[derive(Debug)]
pub(crate) struct Streams {
    start: Instant,
    /// Microseconds since the start.
    last: AtomicU64,
}

impl Streams {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from((at - self.start).as_micros()).unwrap_or(u64::MAX)
    }
}

impl<'a> Pace<'a> {
    pub(crate) fn new(streams: &'a Streams) -> Self {
        Self {
            streams,
            idle_since: None,
        }
    }

    /// So many packets were read at a time.
    pub(crate) fn read(&mut self, count: usize) {
        self.read_at(count, Instant::now());
    }

    fn read_at(&mut self, count: usize, now: Instant) {
        self.idle_since = None;
        if count >= STREAM {
            self.streams.last.store(self.streams.micros(now), Relaxed);
        }
    }

    /// Lets a stream gather.
    pub(crate) fn gather(&self) {
        thread::sleep(GATHERING);
    }

    /// There was nothing to read from the descriptor. Comes back when there may be. False: it is time to end.
    pub(crate) fn wait(&mut self, descriptor: BorrowedFd<'_>, stop: &Stop) -> io::Result<bool> {
        if self.is_worth_looking(Instant::now()) {
            thread::yield_now();
            return Ok(true);
        }
        stop.wait_readable(descriptor)
    }

    /// Whether something may come so soon that it is not worth while to sleep.
    fn is_worth_looking(&mut self, now: Instant) -> bool {
        let since_stream = self.streams.micros(now).saturating_sub(self.streams.last.load(Relaxed));
        let idle_since = *self.idle_since.get_or_insert(now);
        u128::from(since_stream) >= AFTER_STREAM.as_micros() && now - idle_since < LOOKING
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
            privileges::settle();
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn threads_end_with_their_owner_and_tell_how_they_ended() {
        let mut tasks = JoinSet::new();
        let mut workers = Workers::new().unwrap();
        let (started, waits) = mpsc::channel();
        workers
            .spawn("idle", &mut tasks, move |stop| {
                let (descriptor, _other) = UnixStream::pair()?;
                let streams = Streams::new();
                let mut pace = Pace::new(&streams);
                started.send(())?;
                while pace.wait(descriptor.as_fd(), stop)? {}
                Ok(())
            })
            .unwrap();
        workers
            .spawn("failing", &mut tasks, |_| anyhow::bail!("no more packets"))
            .unwrap();
        let failed = tasks.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(failed.to_string(), "no more packets");
        waits.recv().unwrap();
        tokio::task::spawn_blocking(move || drop(workers)).await.unwrap();
        assert!(tasks.join_next().await.unwrap().unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_an_error() {
        let mut tasks = JoinSet::new();
        let mut workers = Workers::new().unwrap();
        workers.spawn("shim6-in", &mut tasks, |_| panic!("for a test")).unwrap();
        let failed = tasks.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(failed.to_string(), "the thread shim6-in has panicked");
    }

    #[test]
    fn what_comes_alone_is_waited_for_awake_for_a_while() {
        let streams = Streams::new();
        let start = Instant::now() + Duration::from_secs(1);
        let mut pace = Pace::new(&streams);
        for _ in 0..2 {
            assert!(pace.is_worth_looking(start));
            assert!(pace.is_worth_looking(start + LOOKING / 2));
            assert!(!pace.is_worth_looking(start + LOOKING));
            // With each packet the time begins anew.
            pace.read_at(STREAM - 1, start + LOOKING);
        }
    }

    #[test]
    fn nobody_stays_awake_for_a_stream_in_either_direction() {
        let streams = Streams::new();
        let start = Instant::now() + Duration::from_secs(1);
        let (mut data, mut acknowledgments) = (Pace::new(&streams), Pace::new(&streams));
        data.read_at(STREAM, start);
        acknowledgments.read_at(1, start);
        let soon = start + AFTER_STREAM / 2;
        assert!(!data.is_worth_looking(soon) && !acknowledgments.is_worth_looking(soon));
        data.read_at(1, soon);
        assert!(data.is_worth_looking(start + AFTER_STREAM));
    }
}
