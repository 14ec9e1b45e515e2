//! iperf3, which measures: TCP in both directions and UDP, all at once.

use std::time::Duration;

use serde_json::Value;
use shim6_tests::{isolated, tools};

use super::scene::{BOUND, Process, Scene};

const SECONDS: f64 = 4.0;
/// Something has to come in the last part of it.
const LAST: Duration = Duration::from_secs(1);
/// For how long each line of a report stands.
const INTERVAL: f64 = 0.1;
/// Octets that have passed in each direction when the path is cut.
const CUT: u64 = 1_500_000;

struct Case {
    name: &'static str,
    port: u16,
    options: &'static str,
    /// Whether the client is the one that receives.
    is_reversed: bool,
}

const CASES: [Case; 3] = [
    Case {
        name: "TCP to the server",
        port: 5201,
        options: "--bitrate 20M",
        is_reversed: false,
    },
    Case {
        name: "TCP from the server",
        port: 5202,
        options: "--bitrate 20M --reverse",
        is_reversed: true,
    },
    Case {
        name: "UDP to the server",
        port: 5203,
        options: "--udp --bitrate 5M --length 1200",
        is_reversed: false,
    },
];

/// What it says when it has ended.
async fn report(program: &mut Process) -> Value {
    program.succeeded().await;
    serde_json::from_str(&program.said()).unwrap_or_else(|error| panic!("{error}\n{}", program.log()))
}

/// What a receiver got, as far as its intervals can tell.
struct Received {
    octets: u64,
    /// The longest time in which nothing came.
    longest_wait: Duration,
    /// The time at the end in which nothing came.
    last_wait: Duration,
}

impl Received {
    fn new(report: &Value) -> Self {
        let intervals = report["intervals"].as_array().expect("intervals");
        let (mut octets, mut longest, mut wait) = (0, 0.0, 0.0);
        for interval in intervals {
            let sum = &interval["sum"];
            let more = sum["bytes"].as_u64().expect("octets");
            octets += more;
            wait = match more {
                0 => wait + sum["seconds"].as_f64().expect("seconds"),
                _ => 0.0,
            };
            longest = f64::max(longest, wait);
        }
        Self {
            octets,
            longest_wait: Duration::from_secs_f64(longest),
            last_wait: Duration::from_secs_f64(wait),
        }
    }
}

#[test]
fn a_measurement_goes_on_in_all_directions() {
    if !tools::require(&["iperf3"]) {
        return;
    }
    isolated(
        "applications::iperf3::a_measurement_goes_on_in_all_directions",
        || async {
            let scene = Scene::set().await;
            let mut runs = Vec::new();
            for case in &CASES {
                let common = format!("--json --interval {INTERVAL} --port {}", case.port);
                let server = scene
                    .command(scene.b(), "iperf3")
                    .args(&common)
                    .args("--server --one-off --bind")
                    .arg(scene.server().to_string())
                    .start();
                scene.listening(scene.b(), case.port, &server).await;
                let client = scene
                    .command(scene.a(), "iperf3")
                    .args(&common)
                    .args(case.options)
                    .args("--time")
                    .arg(SECONDS.to_string())
                    .arg("--client")
                    .arg(scene.server().to_string())
                    .start();
                runs.push((case, client, server));
            }
            scene.established().await;
            scene
                .lab
                .until("much has passed", |a, b| a.sent.octets.min(b.sent.octets) > CUT)
                .await;
            scene.lab.steer().await;
            for (case, mut client, mut server) in runs {
                let (client, server) = (report(&mut client).await, report(&mut server).await);
                let receiver = if case.is_reversed { &client } else { &server };
                let received = Received::new(receiver);
                let lost = receiver["end"]["sum"]["lost_packets"].as_u64();
                println!(
                    "iperf3, {}: longest wait {:.1} s (of intervals of {INTERVAL} s), {:.1} Mbit/s{}",
                    case.name,
                    received.longest_wait.as_secs_f64(),
                    received.octets as f64 * 8e-6 / SECONDS,
                    lost.map_or_else(String::new, |lost| format!(", {lost} packets lost"))
                );
                assert!(received.octets > CUT);
                assert!(received.longest_wait < BOUND);
                assert!(received.last_wait < LAST);
                assert_eq!(
                    client["start"]["connected"].as_array().map(Vec::len),
                    Some(1),
                    "{client}"
                );
            }
            scene.end().await;
        },
    );
}
