//! The same seed gives the same world.

use shim6_tests::sim::run_seed_traced;

#[test]
fn same_seed_gives_the_same_trace_octet_for_octet() {
    for seed in 0..30 {
        let (first, second) = (run_seed_traced(seed).1, run_seed_traced(seed).1);
        assert_eq!(first.entries().len(), second.entries().len(), "seed {seed}");
        for (first, second) in first.entries().zip(second.entries()) {
            assert_eq!(first, second, "seed {seed}");
        }
    }
}

#[test]
fn another_seed_gives_another_trace() {
    assert_ne!(run_seed_traced(1).1, run_seed_traced(2).1);
}
