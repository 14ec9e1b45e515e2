//! How much advice of programs is heeded: they share contexts, and none of them may harm what the others have.

use std::collections::HashMap;
use std::time::Duration;

use shim6_core::{Activity, ContextInfo, Instant};

use crate::control::{Advice, Objection};
use crate::daemon::report;

/// Time between two pieces of advice of one user, in the long run.
const INTERVAL: Duration = Duration::from_millis(100);
/// How much of it may come at once.
const BURST: u32 = 20;
/// The least time between two pieces of good news of one context.
const GOOD_NEWS: Duration = Duration::from_millis(100);
/// The least time between two pieces of bad news of one context.
const BAD_NEWS: Duration = Duration::from_secs(1);
/// Good news is heeded while the last packet of the peer is no older than so many Send Timeouts.
const BELIEVED: u32 = 4;
/// Users and contexts of which something is remembered before what is over is forgotten.
const MANY: usize = 1_024;

/// What was heeded lately.
#[derive(Debug, Default)]
pub(super) struct AdviceLimits {
    /// By user: when its advice so far would have come, had it come evenly.
    users: HashMap<Option<u32>, Instant>,
    /// When the next is heeded, for each kind.
    contexts: HashMap<(u64, bool), Instant>,
}

/// The context that advice is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject {
    context: u64,
    send_timeout: Duration,
    /// When the last packet of the peer came.
    heard: Option<Instant>,
}

impl Subject {
    pub(super) fn of(info: &ContextInfo) -> Self {
        Self {
            context: info.id.value(),
            send_timeout: info.send_timeout,
            heard: info.activity.as_deref().and_then(Activity::last_received),
        }
    }
}

impl AdviceLimits {
    /// Counts a piece of advice that is heeded, or says why it is not.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        user: Option<u32>,
        about: Subject,
        advice: Advice,
    ) -> Result<(), Objection> {
        self.forget(now);
        let even = self.users.get(&user).copied().unwrap_or(now).max(now);
        if even > now + INTERVAL * BURST {
            return Err(too_much("this user", even - INTERVAL * BURST, now));
        }
        let is_bad = advice == Advice::Negative;
        let key = (about.context, is_bad);
        if let Some(&next) = self.contexts.get(&key).filter(|&&next| next > now) {
            return Err(too_much("this context", next, now));
        }
        let is_recent = |heard| now - heard <= about.send_timeout * BELIEVED;
        let is_believed = about.heard.is_some_and(is_recent);
        if !is_bad && !is_believed {
            // Else a single program could keep all others on a path that is dead.
            let message =
                "nothing has come from the peer for too long to believe that the path works; it is tested instead";
            return Err(Objection::SessionRefused {
                message: message.to_owned(),
                retry_ms: None,
            });
        }
        self.users.insert(user, even + INTERVAL);
        let pause = if is_bad {
            BAD_NEWS.max(about.send_timeout)
        } else {
            GOOD_NEWS
        };
        self.contexts.insert(key, now + pause);
        Ok(())
    }

    fn forget(&mut self, now: Instant) {
        if self.users.len() + self.contexts.len() > MANY {
            self.users.retain(|_, even| *even > now);
            self.contexts.retain(|_, next| *next > now);
        }
    }
}

fn too_much(whose: &str, next: Instant, now: Instant) -> Objection {
    let retry_ms = report::millis_since(now, next).max(1);
    Objection::SessionRefused {
        message: format!("too much advice for {whose}; the next is heeded in {retry_ms} ms"),
        retry_ms: Some(retry_ms),
    }
}

#[cfg(test)]
mod tests;
