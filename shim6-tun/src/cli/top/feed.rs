//! What the daemon says, as long as there is one.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::control::{Client, ControlError};
use crate::status::{Event, Status};

/// Between two attempts to reach a daemon that has gone.
const RETRY: Duration = Duration::from_millis(500);

/// News for the screen.
#[derive(Debug)]
pub(super) enum Update {
    /// How everything is now.
    Status(Box<Status>),
    /// Something happened.
    Event(Event),
    /// No daemon answers, and why. It is asked again until one does.
    Gone(String),
}

/// One look.
pub(super) async fn look(path: &Path) -> Result<Status, ControlError> {
    Client::connect(path).await?.status().await
}

/// Sends news until nobody takes them.
pub(super) async fn run(path: &Path, every: Duration, news: &mpsc::Sender<Update>) {
    while !news.is_closed() {
        if let Err(error) = session(path, every, news).await
            && news.send(Update::Gone(error.to_string())).await.is_err()
        {
            return;
        }
        sleep(RETRY).await;
    }
}

/// Asks one daemon until it goes; without an error, nobody takes the news any more.
async fn session(path: &Path, every: Duration, news: &mpsc::Sender<Update>) -> Result<(), ControlError> {
    let mut client = Client::connect(path).await?;
    let mut events = Client::connect(path).await?.events().await?;
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let update = tokio::select! {
            _ = tick.tick() => Update::Status(Box::new(client.status().await?)),
            event = events.next() => match event? {
                Some(event) => Update::Event(event),
                None => return Err(ControlError::Closed { path: path.to_owned() }),
            },
        };
        if news.send(update).await.is_err() {
            return Ok(());
        }
    }
}
