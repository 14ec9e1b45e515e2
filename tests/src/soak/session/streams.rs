//! Sessions over TCP.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shim6_tun::demo::traffic::Pattern;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{End, NUMBER, ticks, wrong};

/// Octets of a bulk session that are written at once, every 20 ms.
const CHUNK: usize = 5000;
const CHUNK_PERIOD: Duration = Duration::from_millis(20);
const REQUEST: usize = 200;
const RESPONSE: usize = 1000;
const REQUEST_PERIOD: Duration = Duration::from_millis(50);

/// The sender of a bulk session: a stream of which each octet follows from its place.
pub(super) async fn send(end: End, mut stream: TcpStream) -> io::Result<()> {
    let mut pattern = Pattern::new(end.seed);
    let mut chunk = vec![0; CHUNK];
    let mut ticks = ticks(CHUNK_PERIOD);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = end.stopped() => return stream.shutdown().await,
        }
        pattern.fill(&mut chunk);
        stream.write_all(&chunk).await?;
        end.meter.sent.fetch_add(CHUNK as u64, Relaxed);
    }
}

/// The receiver of a bulk session.
pub(super) async fn receive(end: End, mut stream: TcpStream) -> io::Result<()> {
    let mut pattern = Pattern::new(end.seed);
    let mut buffer = vec![0; 64 * 1024];
    let mut expected = vec![0; 64 * 1024];
    let mut total = 0_u64;
    loop {
        let got = stream.read(&mut buffer).await?;
        if got == 0 {
            let sent = end.meter.sent.load(Relaxed);
            return match end.is_stopped() && total == sent {
                true => Ok(()),
                false => Err(wrong(format!("it ended after {total} of {sent} octets"))),
            };
        }
        pattern.fill(&mut expected[..got]);
        if buffer[..got] != expected[..got] {
            return Err(wrong(format!("wrong octets after {total}")));
        }
        total += got as u64;
        end.meter.arrived.store(total, Relaxed);
        end.meter.arrive(got);
    }
}

/// The client of a session of requests, one at a time.
pub(super) async fn ask(end: End, mut stream: TcpStream) -> io::Result<()> {
    let (mut request, mut response, mut expected) = ([0; REQUEST], [0; RESPONSE], [0; RESPONSE]);
    let mut ticks = ticks(REQUEST_PERIOD);
    for number in 0.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = end.stopped() => break,
        }
        end.message(number, &mut request);
        stream.write_all(&request).await?;
        end.meter.sent.fetch_add(1, Relaxed);
        stream.read_exact(&mut response).await?;
        end.message(number, &mut expected);
        if response != expected {
            return Err(wrong(format!("wrong response to request {number}")));
        }
        end.meter.arrived.fetch_add(1, Relaxed);
        end.meter.arrive(RESPONSE);
    }
    stream.shutdown().await?;
    match stream.read(&mut response).await? {
        0 => Ok(()),
        more => Err(wrong(format!("{more} octets that nobody asked for"))),
    }
}

/// The server of a session of requests.
pub(super) async fn answer(end: End, mut stream: TcpStream) -> io::Result<()> {
    let (mut request, mut expected, mut response) = ([0; REQUEST], [0; REQUEST], [0; RESPONSE]);
    for number in 0.. {
        let got = stream.read(&mut request[..NUMBER]).await?;
        if got == 0 {
            break;
        }
        stream.read_exact(&mut request[got..]).await?;
        end.message(number, &mut expected);
        if request != expected {
            return Err(wrong(format!("wrong request {number}")));
        }
        end.message(number, &mut response);
        stream.write_all(&response).await?;
    }
    match end.is_stopped() {
        true => stream.shutdown().await,
        false => Err(wrong("the client went away")),
    }
}
