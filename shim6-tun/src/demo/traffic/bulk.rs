//! One TCP stream as fast as it goes, for measuring.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV6, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::Socket;

/// How long a read or write may take before the stream is taken for dead.
const STALLED: Duration = Duration::from_secs(5);
/// Octets per read and write.
const BUFFER: usize = 256 * 1024;

/// What a measurement gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Octets that arrived in the measured time.
    pub octets: u64,
    /// The measured time.
    pub elapsed: Duration,
}

impl Throughput {
    /// In bits per second.
    pub fn bits_per_second(&self) -> f64 {
        self.octets as f64 * 8.0 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }
}

/// Streams from `listener` to `client` (unconnected, see [`super::sockets`]) and counts what
/// arrives within `window`, after a time of `warm_up` that is not counted. Blocks.
///
/// # Errors
/// What the sockets report; [`io::ErrorKind::WouldBlock`] for a stream that stalls for 5 seconds.
pub fn measure(
    listener: &TcpListener,
    client: TcpStream,
    server: SocketAddrV6,
    warm_up: Duration,
    window: Duration,
) -> io::Result<Throughput> {
    let client = Socket::from(client);
    client.set_nonblocking(false)?;
    client.connect_timeout(&server.into(), STALLED)?;
    client.set_read_timeout(Some(STALLED))?;
    let mut client = TcpStream::from(client);
    // The handshake is done, so the connection waits in the listener's queue.
    listener.set_nonblocking(false)?;
    let (mut sender, _) = listener.accept()?;
    sender.set_nonblocking(false)?;
    sender.set_write_timeout(Some(STALLED))?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let data = vec![0x5a; BUFFER];
            while !over.load(Ordering::Relaxed) {
                sender.write_all(&data)?;
            }
            io::Result::Ok(())
        });
        let counted = receive(&mut client, warm_up, window);
        over.store(true, Ordering::Relaxed);
        // Unblocks a sender that waits for room; its error then means nothing.
        drop(client);
        let _ = sending.join();
        counted
    })
}

fn receive(client: &mut TcpStream, warm_up: Duration, window: Duration) -> io::Result<Throughput> {
    let mut buffer = vec![0; BUFFER];
    let mut count_for = |time: Duration| {
        let start = Instant::now();
        let mut octets = 0;
        loop {
            let elapsed = start.elapsed();
            if elapsed >= time {
                return Ok(Throughput { octets, elapsed });
            }
            match client.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => octets += got as u64,
            }
        }
    };
    count_for(warm_up)?;
    count_for(window)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::super::sockets;
    use super::*;

    #[test]
    fn stream_over_loopback_is_counted() {
        let listener = sockets::listen(Ipv6Addr::LOCALHOST, None).expect("loopback has IPv6");
        let server = sockets::local(listener.local_addr()).expect("bound");
        let client = sockets::unconnected(Ipv6Addr::LOCALHOST).expect("loopback has IPv6");
        let window = Duration::from_millis(100);
        let result = measure(&listener, client, server, Duration::ZERO, window).expect("loopback works");
        assert!(result.octets > BUFFER as u64, "{result:?}");
        assert!(result.elapsed >= window && result.bits_per_second() > 0.0);
    }
}
