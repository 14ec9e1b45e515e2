//! What the daemon says, as long as there is one.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::control::{Client, ControlError};
use crate::status::{Event, PathStatus, Status};

/// Between two attempts to reach a daemon that has gone.
const RETRY: Duration = Duration::from_millis(500);

/// News for the screen.
#[derive(Debug)]
pub(super) enum Update {
    /// How everything is now.
    Status(Box<Status>),
    /// What is known of the pairs of a context; none if it is gone.
    Paths(u64, Vec<PathStatus>),
    /// Something happened.
    Event(Event),
    /// No daemon answers, and why. It is asked again until one does.
    Gone(String),
}

/// One look.
pub(super) async fn look(path: &Path) -> Result<Status, ControlError> {
    Client::connect(path).await?.status().await
}

/// Sends news until nobody takes them. Those of pairs are about the context that is opened.
pub(super) async fn run(
    path: &Path,
    every: Duration,
    news: &mpsc::Sender<Update>,
    mut opened: watch::Receiver<Option<u64>>,
) {
    while !news.is_closed() {
        if let Err(error) = session(path, every, news, &mut opened).await
            && news.send(Update::Gone(error.to_string())).await.is_err()
        {
            return;
        }
        sleep(RETRY).await;
    }
}

/// Asks one daemon until it goes; without an error, nobody takes the news any more.
async fn session(
    path: &Path,
    every: Duration,
    news: &mpsc::Sender<Update>,
    opened: &mut watch::Receiver<Option<u64>>,
) -> Result<(), ControlError> {
    let mut client = Client::connect(path).await?;
    let mut events = Client::connect(path).await?.events().await?;
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (update, is_look) = tokio::select! {
            _ = tick.tick() => (Some(Update::Status(Box::new(client.status().await?))), true),
            Ok(()) = opened.changed() => (None, true),
            event = events.next() => match event? {
                Some(event) => (Some(Update::Event(event)), false),
                None => return Err(ControlError::Closed { path: path.to_owned() }),
            },
        };
        let context = *opened.borrow_and_update();
        let paths = match context.filter(|_| is_look) {
            Some(context) => Some(paths(&mut client, context).await?),
            None => None,
        };
        for update in [update, paths].into_iter().flatten() {
            if news.send(update).await.is_err() {
                return Ok(());
            }
        }
    }
}

async fn paths(client: &mut Client, context: u64) -> Result<Update, ControlError> {
    match client.paths(Some(context)).await {
        Ok(paths) => Ok(Update::Paths(context, paths)),
        // It has gone since the user opened it.
        Err(ControlError::Declined(_)) => Ok(Update::Paths(context, Vec::new())),
        Err(error) => Err(error),
    }
}
