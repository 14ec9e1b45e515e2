//! `shim6 events`: what happens in the daemon, as it happens.

use std::process::ExitCode;

use clap::Args;

use super::output::{plain, print, seconds};
use super::{SocketArgs, block_on};
use crate::control::Client;
use crate::status::Event;

/// Arguments of `shim6 events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Print each event as a JSON object on its own line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Prints events until the daemon stops.
///
/// # Errors
///
/// When no daemon answers, when it stops, or when this reader is too slow.
pub fn run(args: EventsArgs) -> anyhow::Result<ExitCode> {
    let path = args.socket.path();
    block_on(async {
        let mut events = Client::connect(&path).await?.events().await?;
        let mut lagged = false;
        while let Some(event) = events.next().await? {
            lagged = event.kind == "lagged";
            let line = if args.json {
                serde_json::to_string(&event)?
            } else {
                line(&event)
            };
            print(&(line + "\n"))?;
        }
        let path = path.display();
        if lagged {
            anyhow::bail!("the daemon at {path} dropped this reader, which is too slow; read faster and connect again");
        }
        anyhow::bail!("the daemon at {path} has ended; see its log, and start it again with: shim6 run")
    })
}

fn line(event: &Event) -> String {
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
