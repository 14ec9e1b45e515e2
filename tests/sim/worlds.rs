//! Random worlds. More of them: `cargo run --release -p shim6-tests --bin worlds`.

use std::ops::Range;

use shim6_tests::sim::run_seed;

/// Runs the worlds of a few seeds and reports the first failures of them all.
fn run(seeds: Range<u64>) {
    let failures = seeds.clone().filter_map(|seed| run_seed(seed).err());
    let failures: Vec<_> = failures.collect();
    if let Some(first) = failures.first() {
        let seeds: Vec<_> = failures.iter().map(|failure| failure.seed).collect();
        panic!("{first}failing seeds: {seeds:?}");
    }
}

#[test]
fn random_worlds_keep_all_invariants_part_1() {
    run(0..1_500);
}

#[test]
fn random_worlds_keep_all_invariants_part_2() {
    run(1_500..3_000);
}

#[test]
fn random_worlds_keep_all_invariants_part_3() {
    run(3_000..4_500);
}

#[test]
fn random_worlds_keep_all_invariants_part_4() {
    run(4_500..6_000);
}
