//! `shim6 events`: what happened last in the daemon, and what happens from now on.

use std::process::ExitCode;

use clap::Args;

use super::output::{plain, print, seconds};
use super::{SocketArgs, block_on};
use crate::control::Client;
use crate::status::Event;

/// Arguments of `shim6 events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// After the last moves of contexts and changes of locators, show everything that happens, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Print each event as a JSON object on its own line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Prints the last events, and with `--follow` those that come until the daemon stops.
///
/// # Errors
///
/// When no daemon answers, when it stops, or when this reader is too slow.
pub fn run(args: EventsArgs) -> anyhow::Result<ExitCode> {
    let path = args.socket.path();
    let show = |event: &Event| {
        let line = match args.json {
            true => serde_json::to_string(event)?,
            false => line(event),
        };
        print(&(line + "\n"))
    };
    block_on(async {
        // First, so that nothing is missed in between; what is in both was sent before the status was asked for.
        let mut events = Client::connect(&path).await?.events().await?;
        let recent = Client::connect(&path).await?.status().await?.recent;
        recent.iter().try_for_each(&show)?;
        if !args.follow {
            return Ok(ExitCode::SUCCESS);
        }
        let mut lagged = false;
        while let Some(event) = events.next().await? {
            lagged = event.kind == "lagged";
            if !recent.contains(&event) {
                show(&event)?;
            }
        }
        let path = path.display();
        if lagged {
            anyhow::bail!("the daemon at {path} dropped this reader, which is too slow; read faster and connect again");
        }
        anyhow::bail!("the daemon at {path} has ended; see its log, and start it again with: shim6 run")
    })
}

pub(super) fn line(event: &Event) -> String {
    let context = event.context.map_or(String::new(), |id| format!("context {id}: "));
    let kind = plain(&event.kind);
    format!(
        "{:>12}  {kind:<14}  {context}{}",
        seconds(event.at_ms),
        plain(&event.message)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let mut event = Event {
            at_ms: 12_345,
            kind: "failover".to_owned(),
            context: Some(7),
            message: "moved\nto another pair".to_owned(),
            detail: serde_json::Value::Null,
        };
        assert_eq!(
            line(&event),
            "     12.345s  failover        context 7: moved?to another pair"
        );
        event.context = None;
        assert_eq!(line(&event), "     12.345s  failover        moved?to another pair");
    }
}
