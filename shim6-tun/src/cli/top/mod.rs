//! `shim6 top`: contexts, their paths and what happens to them, live in the terminal.
//!
//! `feed` asks the daemon, `model` keeps what it said and what the user wants to see of it, `draw` shows that, `screen` is the
//! terminal.

mod draw;
mod feed;
mod history;
mod keys;
mod model;
mod screen;
mod snapshot;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use crossterm::event::{Event as TerminalEvent, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::output::print;
use super::{INTERRUPTED, SocketArgs, block_on};
use feed::Update;
use model::{Model, Wish};
use screen::Screen;

/// Updates that wait for the screen.
const BACKLOG: usize = 64;

/// Arguments of `shim6 top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between two looks at the daemon: 0.1 to 60
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// Look once, for one interval, print a JSON object and end; needs no terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

fn interval(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=60.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected 0.1 to 60".to_owned()),
    }
}

/// Shows the daemon until the user has seen enough.
///
/// # Errors
///
/// When no daemon answers at first, or there is no terminal. A daemon that goes away later is waited for.
pub fn run(args: TopArgs) -> anyhow::Result<ExitCode> {
    let TopArgs { interval, json, socket } = args;
    let path = socket.path();
    if json {
        let snapshot = block_on(async { Ok(snapshot::take(&path, interval).await?) })?;
        print(&(serde_json::to_string(&snapshot)? + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        bail!("this is no terminal; run it in one, or take one look with: shim6 top --json");
    }
    block_on(async {
        // Before the screen is taken: why there is no daemon is best read on the usual one.
        let first = feed::look(&path).await?;
        let mut model = Model::new(first);
        let (updates, incoming) = mpsc::channel(BACKLOG);
        let (opened, asked) = watch::channel(None);
        let feed = tokio::spawn(async move { feed::run(&path, interval, &updates, asked).await });
        let mut screen = Screen::take().context("cannot use the terminal")?;
        let ended = show(&mut screen, &mut model, incoming, &opened).await;
        drop(screen);
        feed.abort();
        ended
    })
}

/// Draws whenever something is new, until the user or a signal ends it.
///
/// `opened`: the context that more is to be asked about.
async fn show(
    screen: &mut Screen,
    model: &mut Model,
    mut updates: mpsc::Receiver<Update>,
    opened: &watch::Sender<Option<u64>>,
) -> anyhow::Result<ExitCode> {
    let mut input = EventStream::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    loop {
        screen.draw(model)?;
        opened.send_if_modified(|asked| std::mem::replace(asked, model.opened) != model.opened);
        tokio::select! {
            update = updates.recv() => match update {
                Some(update) => model.take(update),
                None => bail!("the part that asks the daemon has ended; this is a fault of shim6 top"),
            },
            event = input.next() => match event {
                Some(Ok(TerminalEvent::Key(key))) if key.kind != KeyEventKind::Release => {
                    if model.press(key) == Wish::Quit {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                // A new size, which the next drawing takes up.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("cannot read from the terminal"),
                None => return Ok(ExitCode::SUCCESS),
            },
            _ = terminate.recv() => return Ok(ExitCode::from(INTERRUPTED)),
            _ = hangup.recv() => return Ok(ExitCode::from(INTERRUPTED)),
            _ = interrupt.recv() => return Ok(ExitCode::from(INTERRUPTED)),
        }
    }
}

#[cfg(test)]
mod tests;
