//! `shim6 address`: the host's identity, made, shown, verified and renewed by hand.

mod args;
mod description;
pub mod dns;
pub mod generate;
mod interrupt;
mod make;
mod progress;
pub mod rotate;
pub mod show;
pub mod verify;

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Subcommand;

use super::{EXIT_CODES, INTERRUPTED};
use crate::identity::{PublicIdentity, Store};

/// The subcommands of `shim6 address`.
#[derive(Debug, Subcommand)]
pub enum AddressCommand {
    /// Make this host's addresses: one under each prefix, bound to each other (RFC 5535)
    #[command(after_help = searching(generate::EXAMPLES))]
    Generate(generate::GenerateArgs),
    /// Show this host's addresses and what they were made from
    #[command(after_help = reading(show::EXAMPLES))]
    Show(show::ShowArgs),
    /// Check an address against CGA parameters (RFC 3972 section 5, RFC 5535 section 7.2)
    #[command(after_help = reading(verify::EXAMPLES))]
    Verify(verify::VerifyArgs),
    /// Make new addresses under the same prefixes
    #[command(after_help = searching(rotate::EXAMPLES))]
    Rotate(rotate::RotateArgs),
    /// Print this host's addresses as records for a DNS zone
    #[command(after_help = reading(dns::EXAMPLES))]
    Dns(dns::DnsArgs),
}

/// Runs one of the subcommands.
///
/// # Errors
///
/// As each of them says.
pub fn run(command: AddressCommand) -> anyhow::Result<ExitCode> {
    match command {
        AddressCommand::Generate(args) => generate::run(args),
        AddressCommand::Show(args) => show::run(&args),
        AddressCommand::Verify(args) => verify::run(&args),
        AddressCommand::Rotate(args) => rotate::run(args),
        AddressCommand::Dns(args) => dns::run(&args),
    }
}

/// The identity that a command is about, without its private key.
fn identity(store: &Store) -> anyhow::Result<PublicIdentity> {
    match store.load_public()? {
        Some(identity) => Ok(identity),
        None => Err(none(store)),
    }
}

fn none(store: &Store) -> anyhow::Error {
    anyhow::anyhow!(
        "there is no identity in {}; make one with: shim6 address generate",
        store.directory().display()
    )
}

/// Writes a line to standard error. That it is closed is no reason to stop, as it would be for `eprintln`.
fn say(line: fmt::Arguments<'_>) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// The end of the help of a command that takes no time.
fn reading(examples: &str) -> String {
    format!("{examples}\n\n{EXIT_CODES}")
}

/// The end of the help of a command that may take long.
fn searching(examples: &str) -> String {
    format!("{examples}\n\n{EXIT_CODES}\n  130  it was interrupted; the same command goes on from there")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::Cli;
    use super::*;

    #[test]
    fn every_help_has_an_example_and_the_exit_codes() {
        let mut command = Cli::command();
        let address = command.find_subcommand_mut("address").expect("it is there");
        let names: Vec<String> = address
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .collect();
        for name in names.iter().filter(|name| *name != "help") {
            let subcommand = address.find_subcommand_mut(name).expect("it is there");
            let help = subcommand.render_long_help().to_string();
            assert!(help.contains(EXIT_CODES), "{help}");
            assert!(
                help.contains(&format!("  shim6 address {name}")) || name == "verify",
                "{help}"
            );
            assert_eq!(
                help.contains("130  it was interrupted"),
                ["generate", "rotate"].contains(&name.as_str())
            );
            assert!(help.contains("--json"), "{help}");
        }
    }
}
