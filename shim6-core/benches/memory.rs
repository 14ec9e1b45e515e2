//! Octets of the heap that an established context takes.

use allocation_counter::measure;
use shim6_core::{Dataplane, Instant};

mod common;

use common::paired::{self, Effort};

fn main() {
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
}

/// What so many contexts take of the endpoint and of the table of flows. What both hold, flows and activities, counts as
/// the endpoint's, which makes it.
fn contexts(count: usize) -> (i64, i64) {
    let mut rng = common::rng(1);
    let mut endpoint = common::endpoint(&mut rng);
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
