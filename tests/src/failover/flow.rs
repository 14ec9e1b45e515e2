//! A paced flow of small messages over one TCP connection, sent and received by threads of their own.
//!
//! No runtime is between the sockets and the clock: what is measured is the network and the kernel, and
//! how long a thread takes to wake up.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV6};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_timerslack;
use socket2::Socket;

use super::analysis::scheduled;

/// Octets of a message: its number, then filling.
const MESSAGE: usize = 100;
const NUMBER: usize = 8;
const FILLING: u8 = 0x5a;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often threads that wait for a socket look whether they have to end.
const TICK: Duration = Duration::from_millis(50);

/// The sockets of a flow, in whichever namespaces.
#[derive(Debug)]
pub struct Ends {
    /// Bound, not connected.
    pub sender: Socket,
    /// Listens. Stays open as long as the flow, for subflows of MPTCP that come later.
    pub listener: Socket,
    /// Where the receiver listens.
    pub destination: SocketAddrV6,
}

/// A running flow. Dropping it ends it.
#[derive(Debug)]
pub struct Flow {
    shared: Arc<Shared>,
    origin: Instant,
    /// A second handle of the sender's socket.
    sender: Socket,
    _listener: Socket,
    threads: Vec<JoinHandle<()>>,
}

/// What came of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How many messages the sender has written.
    pub sent: usize,
    /// When each message arrived, by its number.
    pub arrivals: Vec<Duration>,
    /// What broke the connection.
    pub error: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    arrivals: Mutex<Vec<Duration>>,
    error: Mutex<Option<String>>,
    sent: AtomicUsize,
    /// The sender sends no more.
    enough: AtomicBool,
    /// Everything ends, whatever has arrived.
    stop: AtomicBool,
}

impl Flow {
    /// Connects, and begins to send. Blocks for a round trip.
    ///
    /// # Errors
    /// What the sockets report.
    pub fn start(ends: Ends) -> io::Result<Self> {
        let Ends {
            sender,
            listener,
            destination,
        } = ends;
        sender.set_nonblocking(false)?;
        sender.connect_timeout(&destination.into(), CONNECT)?;
        // The handshake is done, so the connection is in the listener's queue or about to be.
        listener.set_nonblocking(false)?;
        listener.set_read_timeout(Some(CONNECT))?;
        let (receiver, _) = listener.accept()?;
        sender.set_tcp_nodelay(true)?;
        sender.set_write_timeout(Some(TICK))?;
        receiver.set_nonblocking(false)?;
        receiver.set_read_timeout(Some(TICK))?;

        let shared = Arc::new(Shared::default());
        let origin = Instant::now() + TICK;
        let handle = sender.try_clone()?;
        let mut flow = Self {
            shared: Arc::clone(&shared),
            origin,
            sender: handle,
            _listener: listener,
            threads: Vec::new(),
        };
        flow.thread("sender", move |shared| send(&sender, origin, shared))?;
        flow.thread("receiver", move |shared| receive(&receiver, origin, shared))?;
        Ok(flow)
    }

    fn thread(&mut self, name: &str, work: impl FnOnce(&Shared) -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let role = name.to_owned();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(error) = work(&shared) {
                shared.broken(format!("{role}: {error}"));
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// The time on the flow's clock, which began with its first message.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// When each message arrived, by its number.
    pub fn arrivals(&self) -> MutexGuard<'_, Vec<Duration>> {
        locked(&self.shared.arrivals)
    }

    /// What broke the connection, if something has.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        locked(&self.shared.error).clone()
    }

    /// The sender's socket.
    #[must_use]
    pub fn sender(&self) -> &Socket {
        &self.sender
    }

    /// Sends no more and waits until everything that was sent has arrived, at most for `patience`.
    #[must_use]
    pub fn finish(self, patience: Duration) -> Finished {
        self.shared.enough.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + patience;
        let ended = |flow: &Self| flow.threads.iter().all(JoinHandle::is_finished);
        while !ended(&self) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        Finished {
            sent: self.shared.sent.load(Ordering::Relaxed),
            arrivals: self.arrivals().clone(),
            error: self.error(),
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.sender.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Notes the first error; those of ending do not count.
    fn broken(&self, error: String) {
        if !self.stopped() {
            locked(&self.error).get_or_insert(error);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send(socket: &Socket, origin: Instant, shared: &Shared) -> io::Result<()> {
    // Else sleeping may take 50 us longer. Not fatal.
    let _ = set_timerslack(1);
    for number in 0.. {
        thread::sleep((origin + scheduled(number)).saturating_duration_since(Instant::now()));
        if shared.enough.load(Ordering::Relaxed) || !write(socket, &message(number), shared)? {
            break;
        }
        shared.sent.store(number + 1, Ordering::Relaxed);
    }
    socket.shutdown(Shutdown::Write)
}

/// Writes all of `octets`; `false` if it is time to end.
fn write(mut socket: &Socket, mut octets: &[u8], shared: &Shared) -> io::Result<bool> {
    while !octets.is_empty() {
        if shared.stopped() {
            return Ok(false);
        }
        match socket.write(octets) {
            Ok(written) => octets = &octets[written..],
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn receive(mut socket: &Socket, origin: Instant, shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut filled = 0;
    let mut next = 0;
    while !shared.stopped() {
        let got = match socket.read(&mut buffer[filled..]) {
            Ok(0) => return ended(shared, next),
            Ok(got) => got,
            Err(error) if is_timeout(&error) => continue,
            Err(error) => return Err(error),
        };
        let now = origin.elapsed();
        filled += got;
        let whole = filled / MESSAGE * MESSAGE;
        let mut arrivals = locked(&shared.arrivals);
        for got in buffer[..whole].chunks_exact(MESSAGE) {
            if got != message(next) {
                let said = String::from_utf8_lossy(got);
                return Err(io::Error::other(format!("message {next} expected, got {said:?}")));
            }
            arrivals.push(now);
            next += 1;
        }
        drop(arrivals);
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
    Ok(())
}

/// The connection has ended: an error unless it was the sender's will.
fn ended(shared: &Shared, arrived: usize) -> io::Result<()> {
    let wanted = shared.enough.load(Ordering::Relaxed) && shared.sent.load(Ordering::Relaxed) == arrived;
    wanted.then_some(()).ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

fn message(number: usize) -> [u8; MESSAGE] {
    let mut message = [FILLING; MESSAGE];
    message[..NUMBER].copy_from_slice(&(number as u64).to_be_bytes());
    message
}

fn is_timeout(error: &io::Error) -> bool {
    // Not `TimedOut`, which is the connection's own end.
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use socket2::{Domain, Protocol, Type};

    use super::*;

    fn bound() -> Socket {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        let any = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0);
        socket.bind(&any.into()).expect("loopback has IPv6");
        socket
    }

    fn ends() -> Ends {
        let listener = bound();
        listener.listen(1).expect("listens");
        let local = listener.local_addr().expect("bound");
        Ends {
            sender: bound(),
            listener,
            destination: local.as_socket_ipv6().expect("IPv6"),
        }
    }

    #[test]
    fn every_message_arrives_once_in_order_and_not_before_its_time() {
        let flow = Flow::start(ends()).expect("loopback works");
        while flow.arrivals().len() < 20 {
            thread::sleep(Duration::from_millis(1));
        }
        let finished = flow.finish(Duration::from_secs(10));
        assert_eq!(finished.error, None);
        assert_eq!(finished.sent, finished.arrivals.len());
        assert!(finished.arrivals.is_sorted());
        for (number, &at) in finished.arrivals.iter().enumerate() {
            assert!(at >= scheduled(number), "{number}: {at:?}");
        }
    }

    #[test]
    fn a_connection_that_breaks_is_noticed() {
        let flow = Flow::start(ends()).expect("loopback works");
        while flow.arrivals().is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        flow.sender().shutdown(Shutdown::Both).expect("it is connected");
        let deadline = Instant::now() + Duration::from_secs(10);
        while flow.error().is_none() {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_dropped_flow_is_gone() {
        let flow = Flow::start(ends()).expect("loopback works");
        let shared = Arc::downgrade(&flow.shared);
        drop(flow);
        assert!(shared.upgrade().is_none());
    }
}
