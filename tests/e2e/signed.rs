//! A flow moves to an uplink that came after the addresses were made: its address is signed with their key (RFC 5535
//! section 8.1).

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::SystemTime;

use shim6_cga::{HbaSet, KeySizes, PrivateKey, Sec, SubnetPrefix};
use shim6_tests::{binary, isolated};
use shim6_tun::demo::live::Live;
use shim6_tun::demo::scenario::run_requests_on;
use shim6_tun::demo::stage::Stage;
use shim6_tun::identity::{Store, StoredIdentity};
use shim6_tun::lab::Failure;

use crate::plans::{self, assert_clean, assert_moved};

/// An identity with a key, for one prefix only.
fn identity(prefix: Ipv6Addr) -> StoredIdentity {
    let mut rng = rand::rng();
    let key = PrivateKey::generate(1024, KeySizes::default(), &mut rng).expect("a key");
    let spki = key.public_key().spki();
    let prefixes = [SubnetPrefix::from(prefix)];
    StoredIdentity {
        set: HbaSet::generate_with_public_key(&prefixes, spki, Sec::ZERO, &mut rng).expect("a set"),
        key: Some(key),
        created: SystemTime::now(),
        automatic: false,
    }
}

#[test]
fn requests_survive_on_an_uplink_that_the_identity_does_not_know() {
    isolated(
        "signed::requests_survive_on_an_uplink_that_the_identity_does_not_know",
        || async {
            let live = Arc::new(Live::default());
            let stage = Stage::build(binary::shim6(), live).await.expect("a lab");
            let host = &stage.topology().a;
            let identity = identity(host.uplinks[0].address);
            let ulid = identity.set.addresses()[0];
            Store::new(stage.identity_directory(host))
                .save(&identity)
                .expect("a place");

            let plan = plans::requests(Failure::Blackhole);
            let outcome = run_requests_on(stage, &plan)
                .await
                .unwrap_or_else(|error| panic!("{error:#}"));
            let (exchange, logs) = (&outcome.exchange, &outcome.logs);
            assert!(exchange.completed, "{exchange:?}\n{logs}");
            assert!(exchange.digest_matches, "{exchange:?}\n{logs}");
            assert_eq!(outcome.locators_before[0], ulid);
            assert_moved(outcome.locators_before, outcome.locators_after);
            assert_clean(&outcome.shutdown);
        },
    );
}
