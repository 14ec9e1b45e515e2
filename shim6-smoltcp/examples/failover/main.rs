//! A download between two smoltcp stacks whose path is cut in the middle: once with Shim6 under them, once without.
//!
//! All of it happens in virtual time, so that half a minute passes at once.

mod world;

use std::process::ExitCode;

use shim6_smoltcp::shim6_core::Event;
use smoltcp::time::{Duration, Instant};
use world::{Failure, Report, World};

const OCTETS: usize = 4_000_000;

const USAGE: &str = "usage: failover [cut | jam | nothing]: what happens to the first uplink of host a (default: cut)";

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let failure = match asked.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["cut"] => Failure::Cut,
        ["jam"] => Failure::Jam,
        ["nothing"] => Failure::Nothing,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!("4.0 MB from host a to host b over TCP, and 50 datagrams a second to b and back, with Shim6:\n");
    let with = World::new(OCTETS, [true; 2], failure).run();
    print_time_line(&with, failure);
    println!("\nThe same without Shim6:\n");
    let without = World::new(OCTETS, [false; 2], failure).run();
    print_time_line(&without, failure);
    let survives = with.completed_at.is_some();
    match (survives, without.completed_at.is_some()) {
        (true, completes) if completes == (failure == Failure::Nothing) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn print_time_line(report: &Report, failure: Failure) {
    let mut lines = Vec::new();
    let told = report.events.iter();
    lines.extend(
        told.filter_map(|(at, host, event)| Some((*at, format!("host {}: {}", ["a", "b"][*host], said(event)?)))),
    );
    let megabytes = report.received as f64 / 1e6;
    let what = match failure {
        Failure::Cut => Some("the first provider of host a swallows all packets from now on"),
        Failure::Jam => Some("the first device of host a takes no packets from now on"),
        Failure::Nothing => None,
    };
    if let (Some(at), Some(what)) = (report.failed_at, what) {
        lines.push((at, format!("half of it is there; {what}")));
    }
    if let Some(at) = report.completed_at {
        lines.push((at, format!("complete: {megabytes:.1} MB, each octet as it was sent")));
    }
    if let Some(at) = report.given_up_at {
        lines.push((at, format!("TCP gives up, with {megabytes:.1} MB received")));
    }
    lines.sort_by_key(|(at, _)| *at);
    for (at, line) in lines {
        println!("{:9.3} s  {line}", seconds(at - Instant::ZERO));
    }
    println!("\n             longest stall of TCP {:.3} s", seconds(report.tcp_stall));
    println!(
        "             {} of {} datagrams came back, longest gap {:.3} s",
        report.echoes,
        report.datagrams,
        seconds(report.udp_stall)
    );
}

/// What a reader of the time line wants to know.
fn said(event: &Event) -> Option<String> {
    Some(match event {
        Event::Established { ulids, .. } => format!("context set up for {} -> {}", ulids.local, ulids.peer),
        Event::Reachability { from, to, cause, .. } => format!("{from:?} -> {to:?} ({cause})"),
        Event::PathChanged { to, cause, .. } => format!("path moved to {} -> {} ({cause})", to.local, to.peer),
        _ => return None,
    })
}

fn seconds(duration: Duration) -> f64 {
    duration.total_micros() as f64 / 1e6
}
