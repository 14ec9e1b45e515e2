//! Isolation and namespaces.

use super::*;

#[test]
fn a_new_namespace_has_nothing_but_loopback() {
    isolated(
        "lab::tests::a_new_namespace_has_nothing_but_loopback",
        || async {
            let namespace = Namespace::new("fresh").unwrap();
            let devices = namespace
                .run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap())
                .unwrap();
            let names: Vec<_> = devices
                .lines()
                .skip(2)
                .map(|line| line.split(':').next().unwrap().trim())
                .collect();
            assert_eq!(names, ["lo"]);
        },
    );
}
