//! One look for programs.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use super::history::{Rate, rates};
use crate::control::{Client, ControlError};
use crate::status::Status;

/// What the screen would show.
#[derive(Debug, Serialize)]
pub(super) struct Snapshot {
    /// Milliseconds over which rates were taken.
    interval_ms: u64,
    /// Traffic of each context that was there all the time.
    rates: Vec<ContextRates>,
    /// How everything was at the end.
    status: Status,
}

#[derive(Debug, Serialize)]
struct ContextRates {
    context: u64,
    sent: Rate,
    received: Rate,
}

pub(super) async fn take(path: &Path, interval: Duration) -> Result<Snapshot, ControlError> {
    let mut client = Client::connect(path).await?;
    let earlier = client.status().await?;
    sleep(interval).await;
    Ok(Snapshot::between(earlier, client.status().await?))
}

impl Snapshot {
    pub(super) fn between(earlier: Status, later: Status) -> Self {
        let interval_ms = later.uptime_ms.saturating_sub(earlier.uptime_ms);
        let before: HashMap<u64, _> = earlier.contexts.into_iter().map(|c| (c.id, c)).collect();
        let there = later.contexts.iter();
        let rates = there.filter_map(|context| {
            let (sent, received) = rates(interval_ms, before.get(&context.id)?, context);
            let context = context.id;
            Some(ContextRates {
                context,
                sent,
                received,
            })
        });
        Self {
            interval_ms,
            rates: rates.collect(),
            status: later,
        }
    }
}
