//! `shim6 close`: has a context forgotten.

use std::process::ExitCode;

use clap::Args;

use super::output::print;
use super::select::Selector;
use super::{SocketArgs, block_on};
use crate::control::Client;

/// Arguments of `shim6 close`.
#[derive(Debug, Args)]
pub struct CloseArgs {
    /// The context: its number, or an address of its peer
    #[arg(value_name = "CONTEXT")]
    context: Selector,
    /// Print the outcome as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Closes a context: its packets take the path of their own addresses again.
///
/// # Errors
///
/// When no daemon answers, or when there is no such context.
pub fn run(args: CloseArgs) -> anyhow::Result<ExitCode> {
    let path = args.socket.path();
    let context = block_on(async {
        let mut client = Client::connect(&path).await?;
        let context = args.context.resolve(&mut client).await?;
        client.close(context).await?;
        Ok(context)
    })?;
    let text = match args.json {
        true => serde_json::json!({ "closed": context }).to_string(),
        false => format!("context {context} is closed; enough packets between the same addresses make a new one"),
    };
    print(&(text + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
