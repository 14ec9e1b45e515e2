//! `shim6 session events`: what happens to a session.

use std::process::ExitCode;

use clap::Args;

use super::{NameArgs, OutputArgs};
use crate::cli::output::print;
use crate::cli::{block_on, events};
use crate::control::Client;

/// Arguments of `shim6 session events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints what happens to a session until the daemon stops; with `--json` an object on each line.
///
/// # Errors
///
/// When no daemon answers, when it stops, or when this reader is too slow.
pub(super) fn run(args: EventsArgs) -> anyhow::Result<ExitCode> {
    let OutputArgs { json, socket } = args.output;
    let path = socket.path();
    block_on(async {
        let client = Client::connect(&path).await?;
        let mut stream = client.session_events(args.name.name()).await?;
        let mut lagged = false;
        while let Some(event) = stream.next().await? {
            lagged = event.kind == "lagged";
            let line = match json {
                true => serde_json::to_string(&event)?,
                false => events::line(&event),
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
