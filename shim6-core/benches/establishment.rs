//! Context establishment: complete handshakes, and a flood of I1 messages.

use std::hint::black_box;

use allocation_counter::measure;
use hmac::{Hmac, KeyInit, Mac};
use rand_chacha::rand_core::Rng;
use sha2::Sha256;
use shim6_core::cga::{CgaParametersRef, HbaSet};
use shim6_core::wire::{ContextTag, I1, MAX_MESSAGE, Message};
use shim6_core::{Endpoint, Instant};

mod common;

use common::paired::{self, Effort};

/// Octets that a Responder Validator is computed over.
const VALIDATED: usize = 4 + 8 + 4 * 16 + 4;

fn main() {
    let effort = Effort::from_args();
    if !effort.measures() {
        println!("Not a measurement: each way runs once, to see that it does. `cargo bench` measures.");
    }
    println!("instructions for SHA-1: {}", paired::sha_instructions());
    handshakes(effort);
    flood(effort);
}

/// A second of one core over the time of one run.
fn per_second(spread: paired::Spread) -> String {
    format!("{:.0}", spread.inverse(1.0).median)
}

/// What no responder that keeps no state can do without: one keyed hash over what it would otherwise remember.
fn validator() {
    let mut mac = <Hmac<Sha256> as KeyInit>::new(black_box(&[7; 64].into()));
    mac.update(black_box(&[1; VALIDATED]));
    black_box(mac.finalize());
}

fn handshakes(effort: Effort) {
    paired::title(
        "Complete handshakes a second and core, both ends, HBA, 2x2 locators, each on a new context that is closed \
         afterwards, beside the hashing that they need",
        ["", "handshakes", "hashing", "time over hashing's"],
    );
    let mut rng = common::rng(1);
    let (mut initiator, mut responder) = (common::endpoint(&mut rng), common::endpoint(&mut rng));
    let mut micros = 0;
    let handshake = || {
        micros += 20;
        let now = Instant::from_micros(micros);
        let [at_initiator, at_responder] = common::exchange(now, &mut initiator, &mut responder);
        initiator.close(at_initiator);
        responder.close(at_responder);
        common::deliver(now, &mut initiator, &mut responder);
        common::deliver(now, &mut responder, &mut initiator);
    };
    let set = common::set(&mut rng);
    let received = set.parameters().to_vec();
    let hashing = || {
        for _end in 0..2 {
            validator();
            verify(&set, &received);
        }
    };
    let comparison = effort.compare(handshake, hashing);
    paired::row([
        "handshakes".to_owned(),
        per_second(comparison.a),
        per_second(comparison.b),
        comparison.ratio.to_string(),
    ]);
    println!("    {:.2} us for both ends", comparison.a.median * 1e6);
}

fn verify(set: &HbaSet, received: &[u8]) {
    let parameters = CgaParametersRef::parse(black_box(received)).expect("parameters");
    let mut verifier = parameters.hba_verifier().expect("parameters of a set");
    for address in set.addresses() {
        assert_eq!(verifier.verify(black_box(address)), Ok(set.sec()));
    }
}

fn flood(effort: Effort) {
    /// Messages with different sources, tags and nonces, sent again and again.
    const MESSAGES: usize = 4096;
    paired::title(
        "I1 answered a second and core, of a flood with forged sources, beside the keyed hash that an answer needs",
        ["", "I1", "keyed hash", "time over the hash's"],
    );
    let mut rng = common::rng(2);
    let mut endpoint = common::endpoint(&mut rng);
    let destination = endpoint.identity().locators()[0];
    let messages: Vec<_> = (0..MESSAGES)
        .map(|_| {
            let i1 = Message::I1(I1 {
                initiator_context_tag: ContextTag::from_random_bits(rng.next_u64()),
                initiator_nonce: rng.next_u32(),
                ulid_pair: None,
                forked_instance: None,
            });
            let mut buffer = [0; MAX_MESSAGE];
            let len = i1.emit(&mut buffer).expect("an I1");
            (common::stranger(&mut rng), buffer[..len].to_vec())
        })
        .collect();
    let (mut next, mut micros, mut answered) = (0, 0, 0_u64);
    let mut answer = |endpoint: &mut Endpoint| {
        let (source, message) = &messages[next % MESSAGES];
        next += 1;
        micros += 2;
        endpoint.handle_message(Instant::from_micros(micros), *source, destination, black_box(message));
        let mut buffer = [0; MAX_MESSAGE];
        while let Some(transmit) = endpoint.poll_transmit(&mut buffer) {
            assert_eq!(transmit.destination, *source);
            answered += 1;
        }
    };
    // The output queue gets its room with the first message.
    answer(&mut endpoint);
    let comparison = effort.compare(|| answer(&mut endpoint), validator);
    paired::row([
        "I1".to_owned(),
        per_second(comparison.a),
        per_second(comparison.b),
        comparison.ratio.to_string(),
    ]);
    let flood = MESSAGES as u64 * if effort.measures() { 100 } else { 1 };
    let used = measure(|| (0..flood).for_each(|_| answer(&mut endpoint)));
    assert!(answered > flood);
    println!(
        "    octets retained after {flood}: {}; contexts: {}; allocations for each: {:.2}",
        used.bytes_current,
        endpoint.contexts().count(),
        used.count_total as f64 / flood as f64
    );
}
