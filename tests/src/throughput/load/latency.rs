//! Requests and responses, one at a time.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::PoisonError;
use std::time::Instant;

use shim6_tun::demo::stage::Locators;
use shim6_tun::lab::Topology;

use super::{Load, RoundTrip, tcp};

/// Octets of a request, and of a response.
const MESSAGE: usize = 64;

pub(super) fn start(load: &mut Load, topology: &Topology, addresses: Locators) -> anyhow::Result<()> {
    let [client, server] = tcp::connect(load, topology, addresses)?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    load.spawn(move |_| answer(server))?;
    load.spawn(move |shared| {
        let mut round_trips = Vec::new();
        let result = ask(client, &mut round_trips, || shared.is_over());
        *shared.round_trips.lock().unwrap_or_else(PoisonError::into_inner) = round_trips;
        result
    })?;
    Ok(())
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut message = [0; MESSAGE];
    loop {
        stream.read_exact(&mut message)?;
        stream.write_all(&message)?;
    }
}

fn ask(mut stream: TcpStream, round_trips: &mut Vec<RoundTrip>, is_over: impl Fn() -> bool) -> io::Result<()> {
    let mut message = [0x5a; MESSAGE];
    while !is_over() {
        let start = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        let at = Instant::now();
        let took = at - start;
        round_trips.push(RoundTrip { at, took });
    }
    Ok(())
}
