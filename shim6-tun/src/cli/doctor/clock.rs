//! The clock. The protocol does not use it; what people compare does.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Host;
use super::finding::Finding;
use crate::identity::Store;

const CHECK: &str = "clock";
/// The first day of 2025: no clock that is right shows less.
const EARLIEST: Duration = Duration::from_secs(1_735_689_600);
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let directory = host.config.addresses.identity.as_deref();
    let identity = directory.and_then(|directory| Store::new(directory).load_public().ok().flatten());
    // Where another program looks after the clock, this one cannot tell.
    let is_unknown = !Path::new(SYNCHRONISED).parent().is_some_and(Path::exists);
    let is_synchronised = is_unknown || Path::new(SYNCHRONISED).exists();
    vec![judge(
        SystemTime::now(),
        identity.map(|identity| identity.created),
        is_synchronised,
    )]
}

fn judge(now: SystemTime, made: Option<SystemTime>, is_synchronised: bool) -> Finding {
    let means = "Sessions are not concerned, as timers do not use it. Times in logs and of the identity are wrong.";
    let mend = "timedatectl set-ntp true";
    if now < UNIX_EPOCH + EARLIEST {
        return Finding::doubtful(CHECK, "it is years late", means).mend(mend);
    }
    if made.is_some_and(|made| made > now + Duration::from_secs(60)) {
        return Finding::doubtful(CHECK, "it is late: the identity was made in the future", means).mend(mend);
    }
    if is_synchronised {
        return Finding::good(CHECK, "it may be right");
    }
    Finding::doubtful(CHECK, "it is not synchronised with any other", means).mend(mend)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_clock_behind_the_identity_or_the_century_is_told() {
        let now = UNIX_EPOCH + EARLIEST + Duration::from_secs(1_000_000);
        let later = now + Duration::from_secs(3600);
        assert_eq!(judge(now, None, true).level, Level::Good);
        assert_eq!(judge(now, Some(now), true).level, Level::Good);
        assert_eq!(judge(now, Some(later), true).level, Level::Doubtful);
        assert_eq!(judge(UNIX_EPOCH, None, true).level, Level::Doubtful);
        assert_eq!(judge(now, None, false).level, Level::Doubtful);
    }
}
