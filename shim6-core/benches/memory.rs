//! Octets of the heap that an established context takes, and octets of the stack that a whole session takes.

use std::env;
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::thread;

use allocation_counter::measure;
use shim6_core::shim::ShimConfig;
use shim6_core::{Dataplane, EndpointConfig, Identity, Instant};

mod common;
// Its parts for the other tests are not needed here.
#[allow(dead_code)]
#[path = "../tests/small/hosts.rs"]
mod hosts;

use common::paired::{self, Effort};

/// Octets that a frame takes away from the stack before something is run.
const FRAME: usize = 256;
/// Frames that fit the stack of the thread easily, and that do not.
const FRAMES: [usize; 2] = [0, 4_000];
const STACK: usize = 512 * 1024;

fn main() {
    if let [what, frames] = &env::args().skip(1).collect::<Vec<_>>()[..]
        && let (Some(what), Ok(frames)) = (Session::named(what), frames.parse())
    {
        return run_below(what, frames);
    }
    let effort = Effort::from_args();
    if !effort.measures() {
        println!("Not a measurement: only a few contexts. `cargo bench` measures.");
    }
    let counts: &[usize] = if effort.measures() {
        &[1_000, 100_000, 1_000_000]
    } else {
        &[10]
    };
    paired::title(
        "Octets for each established context, HBA, 2x2 locators, each with a peer of its own",
        ["contexts", "the endpoint's", "the table's", "together"],
    );
    for &count in counts {
        let (endpoint, table) = contexts(count);
        let octets = |octets: i64| format!("{:.0}", octets as f64 / count as f64);
        paired::row([
            count.to_string(),
            octets(endpoint),
            octets(table),
            octets(endpoint + table),
        ]);
    }
    paired::title(
        "Octets of a small device: without contexts, and all its 16",
        ["contexts", "the endpoint's", "the table's", "together"],
    );
    let mut rng = common::rng(1);
    let mut empty = None;
    let alone = measure(|| empty = Some(common::endpoint_with(EndpointConfig::small(), &mut rng))).bytes_current;
    let (endpoint, table) = contexts_of(EndpointConfig::small(), 16);
    for (count, endpoint, table) in [(0, alone, 0), (16, alone + endpoint, table)] {
        paired::row([count, endpoint, table, endpoint + table].map(|octets| octets.to_string()));
    }
    if effort.measures() {
        paired::title(
            "Octets of the stack, for two hosts' exchange, failure and way around it",
            ["what proves locators", "octets", "", ""],
        );
        for &what in &Session::ALL[1..] {
            let octets = deepest(Session::None) - deepest(what);
            paired::row([what.name().into(), octets.to_string(), String::new(), String::new()]);
        }
    }
}

/// What is run at the end of a stack.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Session {
    None,
    Hashes,
    #[cfg(feature = "rsa")]
    Signature,
}

impl Session {
    const ALL: &[Self] = &[
        Self::None,
        Self::Hashes,
        #[cfg(feature = "rsa")]
        Self::Signature,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Hashes => "hashes",
            #[cfg(feature = "rsa")]
            Self::Signature => "signature",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|session| session.name() == name)
    }

    fn identities(self) -> [Identity; 2] {
        let other = hosts::identity(2);
        match self {
            #[cfg(feature = "rsa")]
            Self::Signature => [hosts::signed_identity(), other],
            _ => [hosts::identity(1), other],
        }
    }
}

/// How much of a stack can be in use already when this is run, in octets: it runs in processes of their own, which die where
/// it is too much.
fn deepest(what: Session) -> usize {
    let program = env::current_exe().expect("this program");
    let [mut fits, mut fails] = FRAMES;
    while fails - fits > 1 {
        let frames = fits.midpoint(fails);
        let mut child = Command::new(&program);
        child
            .args([what.name(), &frames.to_string()])
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        if child.status().expect("a process").success() {
            fits = frames;
        } else {
            fails = frames;
        }
    }
    fits * frame_len()
}

/// The distance between two frames, which have more than the octets that are meant.
fn frame_len() -> usize {
    let outer = [0_u8; FRAME];
    let mut inner = 0;
    below(1, &mut |at| inner = at);
    let mut deeper = 0;
    below(2, &mut |at| deeper = at);
    black_box(&outer);
    inner.abs_diff(deeper)
}

fn run_below(what: Session, frames: usize) {
    let identities = what.identities();
    let run = move || {
        let mut identities = Some(identities);
        below(frames, &mut |_| {
            if let Some(identities) = identities.take().filter(|_| what != Session::None) {
                hosts::session(&ShimConfig::small(), identities);
            }
        });
    };
    let thread = thread::Builder::new().stack_size(STACK).spawn(run).expect("a thread");
    thread.join().expect("it did not panic");
}

/// Runs something with so many frames on the stack, and says where the last one is.
#[inline(never)]
fn below(frames: usize, run: &mut dyn FnMut(usize)) {
    let frame = black_box([0_u8; FRAME]);
    match frames.checked_sub(1) {
        Some(rest) => below(rest, run),
        None => run(&raw const frame as usize),
    }
    black_box(&frame);
}

/// What so many contexts take of the endpoint and of the table of flows. What both hold, flows and activities, counts as
/// the endpoint's, which makes it.
fn contexts(count: usize) -> (i64, i64) {
    contexts_of(common::boundless(), count)
}

/// The same of an endpoint with this configuration.
fn contexts_of(config: EndpointConfig, count: usize) -> (i64, i64) {
    let mut rng = common::rng(1);
    let mut endpoint = common::endpoint_with(config, &mut rng);
    let mut table = Dataplane::default();
    let mut of_table = 0;
    // The peers come and go.
    let all = measure(|| {
        for number in 0..count {
            let mut peer = common::endpoint(&mut rng);
            let now = Instant::from_micros(20 * number as u64);
            let ulids = common::ulids(&peer, &endpoint);
            peer.establish(now, ulids).expect("a context");
            while common::deliver(now, &mut peer, &mut endpoint).messages > 0 {
                let apply = || {
                    while let Some(update) = endpoint.poll_dataplane() {
                        table.apply(update);
                    }
                };
                of_table += measure(apply).bytes_current;
                common::deliver(now, &mut endpoint, &mut peer);
            }
        }
    });
    assert_eq!((endpoint.contexts().count(), table.len()), (count, count));
    (all.bytes_current - of_table, of_table)
}
