//! `shim6 lab exec`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use super::NameArgs;

pub(super) const EXIT_CODES: &str = "\
The program sees the interfaces, name and /etc/hosts of the node, and /run/shim6 and /var/lib/shim6 of its own. Everything else, files
above all, is as outside; who has brought the lab up is root in it.

Exit codes: those of the program; 127 if it could not be started, 1 if there is no such node.";

/// Exit code for a program that cannot be started, as shells have it.
const NOT_STARTED: u8 = 127;

/// Arguments of `shim6 lab exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    name: NameArgs,
    /// A host, ISP or router
    #[arg(value_name = "NODE")]
    node: String,
    /// The program and its arguments [default: a shell]
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub(super) fn run(args: &ExecArgs) -> anyhow::Result<ExitCode> {
    let way = args.name.keeper()?.enter(&args.node)?;
    let shell = || std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let (program, arguments) = match args.command.split_first() {
        Some((program, arguments)) => (program.clone(), arguments),
        None => (shell(), &[][..]),
    };
    let error = way.exec(&program, arguments);
    writeln!(io::stderr().lock(), "shim6: {error}")?;
    Ok(ExitCode::from(NOT_STARTED))
}
