//! The load: sessions that go on until they are told to end, and watch over what they carry.
//!
//! A session does not give up by itself. It notes when something arrived, how long nothing did, and what was wrong with it: a
//! connection that broke, an octet that is not the one that was sent, or silence for longer than [a session bears](Meter::check).

mod datagrams;
mod streams;

use std::future::Future;
use std::io;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use shim6_tun::demo::stage;
use shim6_tun::demo::traffic::Pattern;
use shim6_tun::lab::Host;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Silence from which on it is a stall. More than the pauses that a busy machine makes.
pub const STALL: Duration = Duration::from_millis(250);

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// TCP: 250 kB a second one way, each octet compared
    Bulk,
    /// TCP: 20 requests a second on one connection, each answered with 1000 octets
    Requests,
    /// UDP: 50 datagrams a second, each answered
    Datagrams,
    /// UDP: 50 datagrams of 172 octets a second one way, as a telephone call sends them
    Voice,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bulk, Self::Requests, Self::Datagrams, Self::Voice];

    /// The name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Requests => "requests",
            Self::Datagrams => "datagrams",
            Self::Voice => "voice",
        }
    }

    /// What it does, in a line.
    #[must_use]
    pub fn explained(self) -> &'static str {
        match self {
            Self::Bulk => "TCP, 250 kB/s one way, each octet compared",
            Self::Requests => "TCP, 20 requests/s, 1000 octets come back",
            Self::Datagrams => "UDP, 50 datagrams/s, each answered",
            Self::Voice => "UDP, 50 datagrams/s of 172 octets one way",
        }
    }

    /// Its number in [`Class::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|&class| class == self).unwrap_or_default()
    }
}

/// Which session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Kind {
    /// What it does.
    pub class: Class,
    /// The host that begins it, and sends: 0 is a, 1 is b.
    pub from: usize,
    /// The uplink of host a, and that of host b, on whose addresses it is.
    pub uplinks: [usize; 2],
}

impl Kind {
    /// Session `number` of a load: classes and directions in turn, and all pairs of ULIDs for each eight of them.
    #[must_use]
    pub fn of(number: usize) -> Self {
        let pair = (number / 8 + number) % 4;
        Self {
            class: Class::ALL[number % 4],
            from: number / 4 % 2,
            uplinks: [pair / 2, (pair / 2 + pair % 2) % 2],
        }
    }

    /// A few words, such as `bulk 3: a0 -> b1`.
    #[must_use]
    pub fn name(&self, number: usize) -> String {
        let [a, b] = [format!("a{}", self.uplinks[0]), format!("b{}", self.uplinks[1])];
        let (from, to) = if self.from == 0 { (a, b) } else { (b, a) };
        format!("{} {number}: {from} -> {to}", self.class.as_str())
    }
}

/// A time in which nothing arrived.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Stall {
    /// Seconds from the start of the load to its end.
    pub until_s: f64,
    /// Its length in seconds.
    pub seconds: f64,
}

/// What a session has seen so far; written by its tasks, read by everybody.
#[derive(Debug)]
pub struct Meter {
    name: String,
    kind: Kind,
    origin: Instant,
    octets: AtomicU64,
    /// Requests or datagrams that were sent.
    sent: AtomicU64,
    /// Answers or datagrams that arrived, each counted once.
    arrived: AtomicU64,
    /// When something arrived last, in microseconds since the origin.
    last: AtomicU64,
    stalls: Mutex<Vec<Stall>>,
    lost: Mutex<Option<String>>,
}

impl Meter {
    fn new(kind: Kind, number: usize, origin: Instant) -> Self {
        Self {
            name: kind.name(number),
            kind,
            origin,
            octets: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            last: AtomicU64::new(micros(origin.elapsed())),
            stalls: Mutex::default(),
            lost: Mutex::default(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which session it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Octets of payload that arrived and were right.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets.load(Relaxed)
    }

    /// Requests or datagrams sent, and how many of them arrived or were answered.
    #[must_use]
    pub fn counts(&self) -> [u64; 2] {
        [self.sent.load(Relaxed), self.arrived.load(Relaxed)]
    }

    /// The stalls that have ended.
    #[must_use]
    pub fn stalls(&self) -> Vec<Stall> {
        locked(&self.stalls).clone()
    }

    /// For how long nothing has arrived.
    #[must_use]
    pub fn silence(&self) -> Duration {
        let last = Duration::from_micros(self.last.load(Relaxed));
        self.origin.elapsed().saturating_sub(last)
    }

    /// Why the session is lost, if it is; it is from now on if nothing has arrived for `patience`.
    pub fn check(&self, patience: Duration) -> Option<String> {
        let silence = self.silence();
        if silence > patience {
            self.lose(&format!("nothing arrived for {:.1} s", silence.as_secs_f64()));
        }
        self.lost()
    }

    /// Why the session is lost, if it is.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        locked(&self.lost).clone()
    }

    /// The first reason counts.
    fn lose(&self, why: &str) {
        let at = self.origin.elapsed().as_secs_f64();
        locked(&self.lost).get_or_insert_with(|| format!("{why}, at {at:.1} s"));
    }

    /// So many octets have arrived and are right.
    fn arrive(&self, octets: usize) {
        let now = self.origin.elapsed();
        let before = Duration::from_micros(self.last.swap(micros(now), Relaxed));
        self.octets.fetch_add(octets as u64, Relaxed);
        let gap = now.saturating_sub(before);
        if gap >= STALL {
            locked(&self.stalls).push(Stall {
                until_s: now.as_secs_f64(),
                seconds: gap.as_secs_f64(),
            });
        }
    }
}

/// All sessions.
#[derive(Debug)]
pub struct Load {
    meters: Vec<Arc<Meter>>,
    tasks: Vec<(Arc<Meter>, JoinHandle<io::Result<()>>)>,
    stop: watch::Sender<bool>,
}

impl Load {
    /// Begins `count` sessions between `hosts`, on these addresses of each, one for each uplink. Times count from `origin`.
    ///
    /// # Errors
    /// A session cannot be begun.
    pub async fn start(
        count: usize,
        hosts: [&Host; 2],
        ulids: [[Ipv6Addr; 2]; 2],
        origin: Instant,
    ) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut load = Self {
            meters: Vec::new(),
            tasks: Vec::new(),
            stop,
        };
        for number in 0..count {
            let kind = Kind::of(number);
            let meter = Arc::new(Meter::new(kind, number, origin));
            let ends = [kind.from, 1 - kind.from].map(|side| (hosts[side], ulids[side][kind.uplinks[side]]));
            let end = End {
                meter: Arc::clone(&meter),
                stop: stopped.clone(),
                seed: number as u64,
            };
            let tasks = end
                .begin(ends)
                .await
                .with_context(|| format!("session {}", meter.name()))?;
            load.tasks
                .extend(tasks.into_iter().map(|task| (Arc::clone(&meter), task)));
            load.meters.push(meter);
        }
        Ok(load)
    }

    /// What the sessions have seen.
    #[must_use]
    pub fn meters(&self) -> &[Arc<Meter>] {
        &self.meters
    }

    /// Tells all sessions to end, and waits for that: whoever does not end, or has not got all that was sent, is lost.
    pub async fn end(self, patience: Duration) {
        let _ = self.stop.send(true);
        let deadline = tokio::time::Instant::now() + patience;
        for (meter, mut task) in self.tasks {
            match timeout(
                deadline.saturating_duration_since(tokio::time::Instant::now()),
                &mut task,
            )
            .await
            {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => meter.lose(&error.to_string()),
                Ok(Err(error)) => meter.lose(&error.to_string()),
                Err(_) => {
                    task.abort();
                    meter.lose("it does not end");
                }
            }
        }
    }
}

/// An end of a session.
#[derive(Clone, Debug)]
struct End {
    meter: Arc<Meter>,
    stop: watch::Receiver<bool>,
    seed: u64,
}

type Place<'a> = (&'a Host, Ipv6Addr);

impl End {
    async fn begin(self, [from, to]: [Place<'_>; 2]) -> anyhow::Result<Vec<JoinHandle<io::Result<()>>>> {
        let other = self.clone();
        match self.meter.kind.class {
            Class::Bulk | Class::Requests => {
                let (listener, bound) = stage::listen(to.0, to.1, None)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let socket = tokio::net::TcpSocket::from_std_stream(stage::tcp_client(from.0, from.1)?);
                let (near, far) = tokio::try_join!(socket.connect(bound.into()), listener.accept())?;
                near.set_nodelay(true)?;
                far.0.set_nodelay(true)?;
                Ok(match self.meter.kind.class {
                    Class::Bulk => vec![
                        self.spawn(|end| streams::send(end, near)),
                        other.spawn(|end| streams::receive(end, far.0)),
                    ],
                    _ => vec![
                        self.spawn(|end| streams::ask(end, near)),
                        other.spawn(|end| streams::answer(end, far.0)),
                    ],
                })
            }
            class => {
                let (server, bound) = stage::udp(to.0, to.1)?;
                let (client, _) = stage::udp(from.0, from.1)?;
                let [server, client] = [
                    tokio::net::UdpSocket::from_std(server)?,
                    tokio::net::UdpSocket::from_std(client)?,
                ];
                Ok(match class {
                    Class::Voice => vec![
                        self.spawn(move |end| datagrams::talk(end, client, bound)),
                        other.spawn(|end| datagrams::listen(end, server)),
                    ],
                    _ => vec![
                        self.spawn(move |end| datagrams::ask(end, client, bound)),
                        other.spawn(|end| datagrams::echo(end, server)),
                    ],
                })
            }
        }
    }

    /// Runs one end. What goes wrong with it is noted when it does, and not only in the end.
    fn spawn<F: Future<Output = io::Result<()>> + Send + 'static>(
        self,
        body: impl FnOnce(Self) -> F,
    ) -> JoinHandle<io::Result<()>> {
        let meter = Arc::clone(&self.meter);
        let running = body(self);
        tokio::spawn(async move {
            let result = running.await;
            if let Err(error) = &result {
                meter.lose(&error.to_string());
            }
            result
        })
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// When it is told to end.
    async fn stopped(&self) {
        // Without a sender it is time as well.
        let _ = self.stop.clone().wait_for(|stopped| *stopped).await;
    }

    /// The octets of message `number`: its number, and then what follows from that.
    fn message(&self, number: u64, message: &mut [u8]) {
        let (head, rest) = message.split_at_mut(NUMBER);
        head.copy_from_slice(&number.to_be_bytes());
        Pattern::at(self.seed, number.wrapping_mul(1 << 16)).fill(rest);
    }
}

/// Octets of the number in front of a message.
const NUMBER: usize = 8;

/// The number of a message.
fn number(message: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*message.first_chunk()?))
}

/// A clock that does not catch up.
fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn wrong(what: impl std::fmt::Display) -> io::Error {
    io::Error::other(what.to_string())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
