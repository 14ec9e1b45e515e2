//! The clock. The protocol does not use it; what people compare does.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Host;
use super::finding::Finding;
use crate::identity::Store;
use crate::sys::timekeeping;

const CHECK: &str = "clock";
/// The first day of 2025: no clock that is right shows less.
const EARLIEST: Duration = Duration::from_secs(1_735_689_600);

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let directory = host.config.addresses.identity.as_deref();
    let identity = directory.and_then(|directory| Store::new(directory).load_public().ok().flatten());
    vec![judge(
        SystemTime::now(),
        identity.map(|identity| identity.created),
        timekeeping::maximum_error(),
    )]
}

/// What it shows cannot be held against anything but what it has shown before, and what keeps it right against what the kernel
/// is told by whoever does.
fn judge(now: SystemTime, made: Option<SystemTime>, maximum_error: io::Result<Option<Duration>>) -> Finding {
    let means = "Sessions are not concerned, as timers do not use it. Times in logs and of the identity may be wrong.";
    let mend = "timedatectl set-ntp true   # or start another time service: chronyd, ntpd";
    if now < UNIX_EPOCH + EARLIEST {
        return Finding::doubtful(CHECK, "it is years late", means).mend(mend);
    }
    if made.is_some_and(|made| made > now + Duration::from_secs(60)) {
        return Finding::doubtful(CHECK, "it is late: the identity was made in the future", means).mend(mend);
    }
    match maximum_error {
        Ok(Some(error)) => {
            let error = humantime::format_duration(Duration::from_millis(error.as_millis() as u64 + 1));
            Finding::good(CHECK, format!("a time service keeps it right to within {error}"))
        }
        Ok(None) => Finding::doubtful(
            CHECK,
            "no time service keeps it right, as far as the kernel knows",
            means,
        )
        .mend(mend),
        Err(error) => Finding::unchecked(CHECK, format!("it is not known whether it is kept right: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_clock_behind_the_identity_or_the_century_is_told() {
        let now = UNIX_EPOCH + EARLIEST + Duration::from_secs(1_000_000);
        let later = now + Duration::from_secs(3600);
        let kept = || Ok(Some(Duration::from_micros(2500)));
        assert_eq!(judge(now, None, kept()).level, Level::Good);
        assert_eq!(
            judge(now, Some(now), kept()).found,
            "a time service keeps it right to within 3ms"
        );
        assert_eq!(judge(now, Some(later), kept()).level, Level::Doubtful);
        assert_eq!(judge(UNIX_EPOCH, None, kept()).level, Level::Doubtful);
        assert_eq!(judge(now, None, Ok(None)).level, Level::Doubtful);
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(judge(now, None, Err(refused)).level, Level::Unchecked);
    }
}
