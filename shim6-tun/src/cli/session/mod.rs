//! `shim6 session`: what a program asks for the session that its socket has.

mod change;
mod events;
mod show;

use std::net::Ipv6Addr;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::SocketArgs;
use crate::status::{SessionFlow, SessionName};

/// The subcommands of `shim6 session`.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Show what is known of a session: whether it is protected, its locators and paths
    Show(show::ShowArgs),
    /// Have a session protected now, or never
    Protect(change::ProtectArgs),
    /// Have a session go to another path, and back to it after a failure, whenever that works
    Prefer(change::PreferArgs),
    /// Have a session send on another path at once, until that fails
    Pin(change::PinArgs),
    /// Tell the daemon what the program knows of the path in use
    Advise(change::AdviseArgs),
    /// Give one flow a path of its own
    Fork(change::ForkArgs),
    /// Have a flow that was forked take the path of the others again
    Join(change::JoinArgs),
    /// Show what happens to a session, until interrupted
    Events(events::EventsArgs),
}

/// Which session a command is about.
#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// This host's address, as the program's socket has it
    #[arg(value_name = "LOCAL")]
    local: Ipv6Addr,
    /// The peer's address, as the program's socket has it
    #[arg(value_name = "PEER")]
    peer: Ipv6Addr,
    /// One flow between these addresses, such as tcp:50000:443
    #[arg(long, value_name = "PROTOCOL:LOCAL_PORT:PEER_PORT")]
    flow: Option<SessionFlow>,
}

/// What all these commands take.
#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// Print the outcome as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// The path that a session is to take.
#[derive(Debug, Args)]
pub(super) struct PathArgs {
    /// The two addresses of the path, this host's first
    #[arg(long, num_args = 2, value_names = ["LOCAL", "PEER"])]
    path: Option<Vec<Ipv6Addr>>,
    /// Instead of two addresses: the best path from this uplink
    #[arg(long, value_name = "INTERFACE", conflicts_with = "path")]
    uplink: Option<String>,
}

impl NameArgs {
    fn name(&self) -> SessionName {
        SessionName {
            local: self.local,
            peer: self.peer,
            flow: self.flow,
        }
    }
}

/// Asks the running daemon.
///
/// # Errors
///
/// When no daemon answers, or when it does not do what it is asked for.
pub fn run(command: SessionCommand) -> anyhow::Result<ExitCode> {
    match command {
        SessionCommand::Show(args) => show::run(args),
        SessionCommand::Protect(args) => change::protect(args),
        SessionCommand::Prefer(args) => change::prefer(args),
        SessionCommand::Pin(args) => change::pin(args),
        SessionCommand::Advise(args) => change::advise(args),
        SessionCommand::Fork(args) => change::fork(args),
        SessionCommand::Join(args) => change::join(args),
        SessionCommand::Events(args) => events::run(args),
    }
}
