//! The `shim6` command line: one file per subcommand.

pub mod address;
pub mod close;
pub mod config;
pub mod conform;
pub mod contexts;
pub mod decode;
pub mod demo;
pub mod doctor;
pub mod events;
pub mod generate_docs;
pub mod lab;
pub mod move_;
mod output;
pub mod paths;
pub mod probe;
pub mod reload;
pub mod run;
mod select;
pub mod session;
pub mod status;
pub mod top;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::config::{ConfigError, DEFAULT_SOCKET, Source};

/// Exit code of a command that failed.
const FAILURE: u8 = 1;
/// Exit code for arguments or a configuration that are not understood.
const USAGE: u8 = 2;
/// Exit code after Ctrl-C or SIGTERM, as shells have it.
const INTERRUPTED: u8 = 130;

const EXIT_CODES: &str = "\
Exit codes:
  0  the command did what it should
  1  it failed; standard error says why and what to do
  2  its arguments or the configuration are not understood";

/// Keeps connections alive when an uplink fails (Shim6, RFC 5533 and 5534).
#[derive(Debug, Parser)]
#[command(name = "shim6", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    #[command(after_help = EXIT_CODES)]
    Run(run::RunArgs),
    /// Show uplinks, contexts and counters of the running daemon
    #[command(after_help = EXIT_CODES)]
    Status(status::StatusArgs),
    /// List and show the contexts of the running daemon: the sessions that are protected
    #[command(after_help = EXIT_CODES)]
    Contexts(contexts::ContextsArgs),
    /// Show what is known of each path: round-trip time, loss, state
    #[command(after_help = EXIT_CODES)]
    Paths(paths::PathsArgs),
    /// Send a probe on a path of a context, and wait for the answer
    #[command(after_help = EXIT_CODES)]
    Probe(probe::ProbeArgs),
    /// Have a context send on another path, until that fails
    #[command(after_help = EXIT_CODES)]
    Move(move_::MoveArgs),
    /// Have the daemon forget a context
    #[command(after_help = EXIT_CODES)]
    Close(close::CloseArgs),
    /// See to one session of a program: what is known of its paths, which it is to take, and whether it is to be protected
    #[command(after_help = EXIT_CODES, subcommand)]
    Session(session::SessionCommand),
    /// Show what happened last in the running daemon, and with --follow what happens
    #[command(after_help = EXIT_CODES)]
    Events(events::EventsArgs),
    /// Show contexts, their rates and round-trip times and what happens to them, live in the terminal
    #[command(after_help = EXIT_CODES)]
    Top(top::TopArgs),
    /// Cut the uplink of a download in a network made for the purpose, with and without Shim6
    #[command(after_help = EXIT_CODES)]
    Demo(demo::DemoArgs),
    /// Build networks of hosts, ISPs and bad links out of namespaces, without root, and run programs in them
    #[command(after_help = lab::after_help(), subcommand)]
    Lab(lab::LabCommand),
    /// Print every field of a Shim6 message, or of those in a capture, and what a receiver does with it
    #[command(after_help = decode::after_help())]
    Decode(decode::DecodeArgs),
    /// Test an implementation of Shim6 from outside, by playing its peer: which statements of the RFCs hold
    #[command(after_help = conform::after_help())]
    Conform(conform::ConformArgs),
    /// Have the running daemon read its configuration again
    #[command(after_help = EXIT_CODES)]
    Reload(reload::ReloadArgs),
    /// Check and show the configuration
    #[command(after_help = EXIT_CODES, subcommand)]
    Config(config::ConfigCommand),
    /// Make, show, verify and renew this host's addresses
    #[command(after_help = EXIT_CODES, subcommand)]
    Address(address::AddressCommand),
    /// Examine this host, or the way to a peer: what keeps Shim6 from working, and what mends it
    #[command(after_help = doctor::after_help())]
    Doctor(doctor::DoctorArgs),
    /// Write man pages and completions for a package
    #[command(hide = true, after_help = EXIT_CODES)]
    GenerateDocs(generate_docs::GenerateDocsArgs),
}

/// A command line that is understood by itself but not in what it says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// Where the daemon listens.
#[derive(Debug, Args)]
pub struct SocketArgs {
    /// Control socket of the daemon [default: as in /etc/shim6/shim6.toml, else /run/shim6/shim6.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    run_with(std::env::args_os())
}

fn run_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    // A reader of ours that has seen enough is no failure; a daemon has no such reader.
    let prints = !matches!(cli.command, Command::Run(_));
    // The demo enters a user namespace, which only a process without threads can: no runtime may exist before.
    let done = match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Run(args) => run::run(args),
        Command::Status(args) => status::run(args),
        Command::Contexts(args) => contexts::run(args),
        Command::Paths(args) => paths::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Move(args) => move_::run(args),
        Command::Close(args) => close::run(args),
        Command::Session(command) => session::run(command),
        Command::Events(args) => events::run(args),
        Command::Top(args) => top::run(args),
        Command::Lab(command) => lab::run(command),
        Command::Decode(args) => decode::run(&args),
        Command::Conform(args) => conform::run(args),
        Command::Reload(args) => reload::run(args),
        Command::Config(command) => config::run(command),
        Command::Address(command) => address::run(command),
        Command::Doctor(args) => doctor::run(args),
        Command::GenerateDocs(args) => generate_docs::run(&args),
    };
    done.unwrap_or_else(|error| {
        if prints && is_closed_pipe(&error) {
            ExitCode::SUCCESS
        } else {
            report(&error)
        }
    })
}

impl SocketArgs {
    /// The socket asked for, else this one.
    pub(crate) fn or(self, other: &Path) -> PathBuf {
        self.socket.unwrap_or_else(|| other.to_owned())
    }

    /// The socket asked for, else that of the default configuration, else the default one.
    pub(crate) fn path(self) -> PathBuf {
        self.socket.unwrap_or_else(|| {
            // A broken file must not keep anybody from looking at the daemon that runs.
            let loaded = Source::new(None).load();
            loaded.map_or(PathBuf::from(DEFAULT_SOCKET), |loaded| loaded.config.control_socket)
        })
    }
}

/// Runs `task` on a runtime of this thread: enough for a client.
pub(crate) fn block_on<T>(task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start: the system gives no event queue; check the limit of open files")?
        .block_on(task)
}

/// Prints help, the version or what is wrong with the arguments.
fn explain(error: &clap::Error) -> ExitCode {
    let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // Nothing can be done about a closed pipe.
    drop(error.print());
    ExitCode::from(if asked_for { 0 } else { USAGE })
}

/// Prints an error with its causes.
fn report(error: &anyhow::Error) -> ExitCode {
    drop(io::stderr().lock().write_all(describe(error).as_bytes()));
    let usage = error.is::<ConfigError>() || error.is::<UsageError>();
    ExitCode::from(if usage { USAGE } else { FAILURE })
}

fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for line in error.to_string().lines() {
        text += &format!("shim6: {line}\n");
    }
    for cause in error.chain().skip(1) {
        text += &format!("  because: {cause}\n");
    }
    text
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(closed))
}

#[cfg(test)]
mod tests;
