//! `shim6 lab`: networks out of namespaces, to try things in.

mod capture;
mod change;
mod exec;
mod keep;
mod measure;
mod show;
mod up;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::EXIT_CODES;
use crate::lab::LabError;
use crate::lab::keeper::{Directory, Keeper};

/// The subcommands of `shim6 lab`.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Bring up the topology that a file describes; it stays up in the background
    #[command(after_help = EXIT_CODES)]
    Up(up::UpArgs),
    /// Run a program on a node, as if that were a machine of its own
    #[command(after_help = exec::EXIT_CODES)]
    Exec(exec::ExecArgs),
    /// Change what a link does to packets: rate, queue, delay, jitter, loss, duplicate, reorder, mtu
    #[command(after_help = EXIT_CODES)]
    Set(change::SetArgs),
    /// Break a link
    #[command(after_help = EXIT_CODES)]
    Break(change::BreakArgs),
    /// Heal a link, or all links
    #[command(after_help = EXIT_CODES)]
    Heal(change::HealArgs),
    /// Capture the packets of a link, for Wireshark or shim6 decode
    #[command(after_help = EXIT_CODES)]
    Capture(capture::CaptureArgs),
    /// Show the nodes and links of a lab, and what has happened to packets
    #[command(after_help = EXIT_CODES)]
    Status(show::StatusArgs),
    /// Draw a picture of a lab
    #[command(after_help = EXIT_CODES)]
    Graph(show::GraphArgs),
    /// List the labs that are up
    #[command(after_help = EXIT_CODES)]
    List(show::ListArgs),
    /// End a lab, and the programs that run in it
    #[command(after_help = EXIT_CODES)]
    Down(up::DownArgs),
    /// Measure how well links keep delays and rates on this machine
    #[command(after_help = EXIT_CODES)]
    Measure(measure::MeasureArgs),
    /// Keep a lab up that is described on standard input
    #[command(hide = true, after_help = EXIT_CODES)]
    Keep(keep::KeepArgs),
}

/// Which lab is meant.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// Name of the lab [default: the only one that is up]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl NameArgs {
    fn keeper(&self) -> Result<Keeper, LabError> {
        Keeper::find(&Directory::of_user()?, self.name.as_deref())
    }
}

/// A file to begin with, below the help.
pub(super) fn after_help() -> String {
    format!(
        "\
Two hosts with two uplinks each, in the file lab.toml:

  [[host]]
  name = \"a\"
  [[host]]
  name = \"b\"
  [[isp]]
  name = \"fibre\"
  [[isp]]
  name = \"lte\"
  [[link]]
  ends = [\"a\", \"fibre\"]
  [[link]]
  ends = [\"a\", \"lte\"]
  delay = \"30ms\"
  [[link]]
  ends = [\"b\", \"fibre\"]
  [[link]]
  ends = [\"b\", \"lte\"]
  [[link]]
  ends = [\"fibre\", \"lte\"]

  shim6 lab up lab.toml
  shim6 lab exec a -- ping -c 3 b
  shim6 lab set a-lte loss=1% delay=50ms
  shim6 lab break a-fibre
  shim6 lab down

docs/lab.md is a guide with examples.

{EXIT_CODES}"
    )
}

/// Does what a subcommand says. Has to be called while the process has one thread.
///
/// # Errors
/// What the subcommand says.
pub fn run(command: LabCommand) -> anyhow::Result<ExitCode> {
    match command {
        LabCommand::Up(args) => up::up(&args),
        LabCommand::Exec(args) => exec::run(&args),
        LabCommand::Set(args) => change::set(&args),
        LabCommand::Break(args) => change::cut(&args),
        LabCommand::Heal(args) => change::heal(&args),
        LabCommand::Capture(args) => capture::run(&args),
        LabCommand::Status(args) => show::status(&args),
        LabCommand::Graph(args) => show::graph(&args),
        LabCommand::List(args) => show::list(&args),
        LabCommand::Down(args) => up::down(&args),
        LabCommand::Measure(args) => measure::run(&args),
        LabCommand::Keep(args) => keep::run(&args),
    }
}
