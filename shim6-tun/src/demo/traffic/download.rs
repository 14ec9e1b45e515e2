//! A TCP download: paced at the server, counted and hashed at the client.

use std::io;
use std::net::SocketAddrV6;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::pattern::{self, Pattern};

/// How often the server tops up what it may send.
const TICK: Duration = Duration::from_millis(5);
/// What a stalled server may catch up on at once. Small, so that a stall shows in the throughput
/// over time as a delay, not as a burst.
const CREDIT: Duration = Duration::from_millis(50);

/// What is to be transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Seed of the data.
    pub seed: u64,
    /// Length of the data, in octets.
    pub octets: u64,
    /// Pace of the server, in octets per second.
    pub rate: u64,
}

/// What the client got.
#[derive(Debug, Clone, Default)]
pub struct Download {
    /// All of the data arrived, and the server closed the connection behind it.
    pub completed: bool,
    /// Octets that arrived.
    pub octets: u64,
    /// The SHA-256 of what arrived is that of what was to be transferred.
    pub digest_matches: bool,
    /// What ended a download that did not complete.
    pub error: Option<String>,
}

/// Serves one connection of `listener`: accepts it, sends the data at its pace, closes it.
///
/// Fails with [`io::ErrorKind::TimedOut`] at `deadline`.
pub async fn serve(listener: std::net::TcpListener, transfer: Transfer, deadline: Instant) -> io::Result<()> {
    let work = async {
        let listener = TcpListener::from_std(listener)?;
        let (mut stream, _) = listener.accept().await?;
        let mut pattern = Pattern::new(transfer.seed);
        let mut left = transfer.octets;
        let mut buffer = vec![0; 64 * 1024];
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut topped_up = Instant::now();
        let mut credit = 0.0;
        let most = (transfer.rate as f64 * CREDIT.as_secs_f64()).max(1.0);
        while left > 0 {
            let now = ticks.tick().await;
            let earned = transfer.rate as f64 * (now - topped_up).as_secs_f64();
            topped_up = now;
            credit = (credit + earned).min(most);
            while credit >= 1.0 && left > 0 {
                let take = left.min(credit as u64).min(buffer.len() as u64) as usize;
                pattern.fill(&mut buffer[..take]);
                stream.write_all(&buffer[..take]).await?;
                left -= take as u64;
                credit -= take as f64;
            }
        }
        stream.shutdown().await?;
        // Closing with the client's end still open would be fine, but holding on until the client
        // is done keeps a late reset from cutting the tail off.
        let _ = stream.read(&mut buffer).await;
        Ok(())
    };
    timeout_at(deadline, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Downloads from `server` over `socket` (see [`super::sockets::unconnected`]) until the server
/// closes the connection, something fails, or `stop` is ready.
///
/// `arrived` is called with each number of octets as it arrives.
pub async fn download(
    socket: std::net::TcpStream,
    server: SocketAddrV6,
    transfer: Transfer,
    stop: impl Future<Output = ()>,
    mut arrived: impl FnMut(u64),
) -> Download {
    let mut result = Download::default();
    let mut hash = Sha256::new();
    let work = async {
        let mut stream = TcpSocket::from_std_stream(socket).connect(server.into()).await?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let got = stream.read(&mut buffer).await?;
            if got == 0 {
                return Ok::<(), io::Error>(());
            }
            hash.update(&buffer[..got]);
            result.octets += got as u64;
            arrived(got as u64);
        }
    };
    let ended = tokio::select! {
        ended = work => Some(ended),
        () = stop => None,
    };
    match ended {
        None => result.error = Some("it was not complete when its time was over".to_owned()),
        Some(Err(error)) => result.error = Some(error.to_string()),
        Some(Ok(())) if result.octets != transfer.octets => {
            result.error = Some("the server closed the connection early".to_owned());
        }
        Some(Ok(())) => result.completed = true,
    }
    let got: [u8; 32] = hash.finalize().into();
    let wanted = tokio::task::spawn_blocking(move || pattern::digest(transfer.seed, transfer.octets));
    result.digest_matches = wanted.await.is_ok_and(|wanted| wanted == got);
    result
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::super::sockets;
    use super::*;

    const HOME: Ipv6Addr = Ipv6Addr::LOCALHOST;

    async fn over_loopback(serve_this: Transfer, expect: Transfer, limit: Duration) -> Download {
        let deadline = Instant::now() + limit;
        let listener = sockets::listen(HOME, Some(sockets::PACED_BUFFER)).expect("loopback has IPv6");
        let server = sockets::local(listener.local_addr()).expect("bound");
        let serving = tokio::spawn(serve(listener, serve_this, deadline));
        let socket = sockets::unconnected(HOME).expect("loopback has IPv6");
        let mut counted = 0;
        let stop = tokio::time::sleep_until(deadline);
        let result = download(socket, server, expect, stop, |n| counted += n).await;
        assert_eq!(counted, result.octets);
        serving.abort();
        result
    }

    #[tokio::test]
    async fn download_keeps_its_pace_and_its_data() {
        let transfer = Transfer {
            seed: 3,
            octets: 500_000,
            rate: 1_000_000,
        };
        let start = Instant::now();
        let result = over_loopback(transfer, transfer, Duration::from_secs(20)).await;
        let took = start.elapsed();
        assert!(result.completed, "{result:?}");
        assert!(result.digest_matches);
        assert!(took > Duration::from_millis(400), "{took:?}");
    }

    #[tokio::test]
    async fn wrong_data_does_not_match() {
        let transfer = Transfer {
            seed: 3,
            octets: 10_000,
            rate: 1_000_000,
        };
        let other = Transfer { seed: 4, ..transfer };
        let result = over_loopback(transfer, other, Duration::from_secs(20)).await;
        assert!(result.completed);
        assert!(!result.digest_matches);
    }

    #[tokio::test]
    async fn download_is_given_up_at_its_deadline() {
        let transfer = Transfer {
            seed: 3,
            octets: 1_000_000,
            rate: 100_000,
        };
        let result = over_loopback(transfer, transfer, Duration::from_millis(300)).await;
        assert!(!result.completed);
        assert!(!result.digest_matches);
        assert!(result.octets > 0 && result.octets < 1_000_000);
        assert!(result.error.is_some());
    }

    #[tokio::test]
    async fn data_that_ends_early_is_not_complete() {
        let short = Transfer {
            seed: 3,
            octets: 1000,
            rate: 1_000_000,
        };
        let whole = Transfer { octets: 2000, ..short };
        let result = over_loopback(short, whole, Duration::from_secs(20)).await;
        assert!(!result.completed && !result.digest_matches, "{result:?}");
    }
}
