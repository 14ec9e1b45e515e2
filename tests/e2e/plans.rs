//! What the tests of this program play.

use std::net::Ipv6Addr;
use std::time::Duration;

use shim6_tun::demo::scenario::Plan;
use shim6_tun::demo::stage::{Locators, Shutdown};
use shim6_tun::lab::Failure;

/// A download of 12 MB in 4 s, cut after a third. It may take 8 s longer: with a daemon the path moves within a fraction of
/// that, without one no time is enough.
pub(crate) fn download(failure: Failure) -> Plan {
    Plan {
        failure,
        duration: Duration::from_secs(4),
        rate: 3_000_000,
        cut_percent: 33,
        patience: Duration::from_secs(8),
    }
}

/// 800 requests in 4 s, one each 5 ms, cut after a third.
pub(crate) fn requests(failure: Failure) -> Plan {
    Plan {
        rate: 512 * 200,
        ..download(failure)
    }
}

/// Panics unless a context moved away from host a's first uplink and nowhere else.
pub(crate) fn assert_moved(before: Locators, after: Locators) {
    let prefix = |address: Ipv6Addr| address.segments()[..4].to_vec();
    assert_eq!(prefix(before[0]), [0x2001, 0xdb8, 0xa1, 0], "{before:?}");
    assert_eq!(prefix(before[1]), [0x2001, 0xdb8, 0xb1, 0], "{before:?}");
    assert_eq!(prefix(after[0]), [0x2001, 0xdb8, 0xa2, 0], "{after:?}");
    assert_eq!(prefix(after[1])[..2], [0x2001, 0xdb8], "{after:?}");
}

/// Panics unless the daemons exited with 0 and left nothing behind.
pub(crate) fn assert_clean(shutdown: &Shutdown) {
    assert!(shutdown.is_clean(), "{shutdown:#?}");
}
