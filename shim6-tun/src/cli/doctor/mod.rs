//! `shim6 doctor`: what keeps Shim6 from working on this host, or with a peer, and what mends it.

mod clock;
mod daemon;
mod finding;
mod firewall;
mod kernel;
mod names;
mod peer;
mod privileges;
mod routing;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use self::finding::{Finding, Level};
use super::output::{Style, print};
use super::{EXIT_CODES, FAILURE, SocketArgs, UsageError, block_on};
use crate::config::{Config, Source};
use crate::control::Client;
use crate::daemon::uplink::{self, Uplink, UplinkError};
use crate::netlink::Netlink;
use crate::status::Status;

/// What stands below the options in the help.
pub(super) fn after_help() -> String {
    format!("{EXIT_CODES}\n\nWhat is wrong on the host, or with the peer, counts as failed, too.\n\n{EXAMPLES}")
}

const EXAMPLES: &str = "\
Examples:
  sudo shim6 doctor
  sudo shim6 doctor www.example.com
  sudo shim6 doctor --json 2001:db8::1 | jq '.findings[] | select(.level == \"wrong\")'";

/// Arguments of `shim6 doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// A host to test the way to and back from, by name or IPv6 address; without it, this host is examined
    #[arg(value_name = "PEER")]
    peer: Option<String>,
    /// Name of this host in DNS [default: its host name]
    #[arg(long, value_name = "NAME", conflicts_with = "peer")]
    name: Option<String>,
    /// Configuration file [default: /etc/shim6/shim6.toml; without it, the built-in defaults]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    healthy: bool,
    findings: &'a [Finding],
}

/// An address of this host that Shim6 uses or would use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Local {
    interface: String,
    address: Ipv6Addr,
}

/// What is known before anything is examined.
#[derive(Debug)]
struct Host {
    config: Config,
    /// Of the daemon, if it runs and answers.
    status: Option<Status>,
    /// Why there is none.
    no_status: Option<String>,
    uplinks: Vec<Uplink>,
    /// Why there are no others.
    no_uplinks: Vec<UplinkError>,
    /// One for each uplink: the daemon's, else any global one.
    locals: Vec<Local>,
}

/// Examines this host, or the way to a peer.
///
/// # Errors
///
/// When the configuration is not understood or the peer's name is not known.
pub fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let config = Source::new(args.config.as_deref()).load()?.config;
    let socket = match &args.config {
        Some(_) => args.socket.or(&config.control_socket),
        None => args.socket.path(),
    };
    let (mut findings, peer, name) = (Vec::new(), args.peer, args.name);
    block_on(async {
        let host = Host::look(config, socket).await?;
        match peer {
            Some(peer) => findings.extend(peer::check(&host, &peer).await?),
            None => findings.extend(examine(&host, name.as_deref()).await?),
        }
        Ok(())
    })?;
    let healthy = findings.iter().all(|finding| finding.level != Level::Wrong);
    let text = if args.json {
        let findings = findings.as_slice();
        serde_json::to_string(&Printed { healthy, findings })? + "\n"
    } else {
        text(&findings)
    };
    print(&text)?;
    Ok(ExitCode::from(if healthy { 0 } else { FAILURE }))
}

async fn examine(host: &Host, name: Option<&str>) -> anyhow::Result<Vec<Finding>> {
    let netlink = Netlink::connect()?;
    let mut findings = kernel::check();
    findings.extend(privileges::check(host));
    findings.extend(daemon::check(host));
    findings.extend(routing::check(host, &netlink).await);
    findings.extend(firewall::check(&host.locals));
    findings.extend(names::check(host, name).await);
    findings.extend(clock::check(host));
    Ok(findings)
}

impl Host {
    async fn look(config: Config, socket: PathBuf) -> anyhow::Result<Self> {
        let (status, no_status) = match status(&socket).await {
            Ok(status) => (Some(status), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let netlink = Netlink::connect()?;
        let examined = uplink::examine(&netlink, &crate::daemon::hints(&config)).await;
        let (uplinks, no_uplinks) = examined.unwrap_or_else(|error| (Vec::new(), vec![error]));
        let mut locals: Vec<_> = status
            .iter()
            .flat_map(|status| &status.uplinks)
            .map(Local::from)
            .collect();
        if locals.is_empty() {
            let addresses = netlink.addresses().await?;
            let on = |uplink: &Uplink| {
                let mut on = addresses.iter().filter(|address| address.index == uplink.index);
                let found = on.find(|address| address.global && !address.deprecated && !address.tentative)?;
                let (interface, address) = (uplink.interface.clone(), found.address);
                Some(Local { interface, address })
            };
            locals = uplinks.iter().filter_map(on).collect();
        }
        Ok(Self {
            config,
            status,
            no_status,
            uplinks,
            no_uplinks,
            locals,
        })
    }
}

impl From<&crate::status::UplinkStatus> for Local {
    fn from(uplink: &crate::status::UplinkStatus) -> Self {
        Self {
            interface: uplink.interface.clone(),
            address: uplink.address,
        }
    }
}

async fn status(socket: &std::path::Path) -> Result<Status, crate::control::ControlError> {
    Client::connect(socket).await?.status().await
}

fn text(findings: &[Finding]) -> String {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let style = Style {
        colored: io::stdout().is_terminal() && !no_color,
    };
    let mut text: String = findings.iter().map(|finding| finding.text(style)).collect();
    let of = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (wrong, doubtful, unchecked) = (of(Level::Wrong), of(Level::Doubtful), of(Level::Unchecked));
    text += &match wrong + doubtful {
        0 if unchecked == 0 => "\nNothing is wrong.\n".to_owned(),
        0 => format!("\nNothing is wrong; {unchecked} could not be looked at.\n"),
        _ => format!("\n{wrong} wrong, {doubtful} doubtful, {unchecked} not looked at.\n"),
    };
    text
}

/// A name that somebody typed, as an error names it.
fn unusable(what: &str, why: impl std::fmt::Display) -> anyhow::Error {
    UsageError(format!("{what}: {why}")).into()
}
