//! `shim6 lab up` and `shim6 lab down`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::Args;

use super::NameArgs;
use crate::config::read::text;
use crate::lab::keeper::{Directory, Keeper};
use crate::lab::{Description, LabStatus, NodeKind};

/// What a lab is called whose name nobody says.
const DEFAULT_NAME: &str = "lab";

/// Arguments of `shim6 lab up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// The topology, in TOML
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Name of the lab; several can be up side by side
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME)]
    name: String,
    /// Only check the file
    #[arg(long)]
    check: bool,
}

/// Arguments of `shim6 lab down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    #[command(flatten)]
    name: NameArgs,
    /// End all labs
    #[arg(long, conflicts_with = "name")]
    all: bool,
}

pub(super) fn up(args: &UpArgs) -> anyhow::Result<ExitCode> {
    let description = Description::load(&args.file)?;
    let mut out = io::stdout().lock();
    if args.check {
        let (nodes, links) = (description.nodes.len(), description.links.len());
        writeln!(out, "{}: {nodes} nodes, {links} links: well", args.file.display())?;
        return Ok(ExitCode::SUCCESS);
    }
    let keeper = Keeper::find(&Directory::of_user()?, Some(&args.name))?;
    let mut command = Command::new(std::env::current_exe().context("cannot find the running program")?);
    command.args(["lab", "keep", "--name", &args.name]);
    keeper.start(command, &text(&args.file)?)?;
    let status = keeper.status()?;
    writeln!(out, "The lab {} is up: {}.", args.name, summary(&status))?;
    for node in status.nodes.iter().filter(|node| node.kind == NodeKind::Host) {
        let addresses = node
            .addresses
            .iter()
            .map(|(interface, address)| format!("  {interface} {address}"));
        writeln!(out, "  {:<15}{}", node.name, addresses.collect::<String>())?;
    }
    let option = if args.name == DEFAULT_NAME {
        String::new()
    } else {
        format!(" --name {}", args.name)
    };
    let mut hosts = status.nodes.iter().filter(|node| node.kind == NodeKind::Host);
    if let (Some(first), Some(second)) = (hosts.next(), hosts.next()) {
        let (first, second) = (&first.name, &second.name);
        writeln!(out, "Try: shim6 lab exec{option} {first} -- ping -c 3 {second}")?;
    }
    writeln!(out, "End it with: shim6 lab down{option}")?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn down(args: &DownArgs) -> anyhow::Result<ExitCode> {
    let keepers = if args.all {
        let directory = Directory::of_user()?;
        let names = directory.names()?;
        names
            .iter()
            .map(|name| Keeper::find(&directory, Some(name)))
            .collect::<Result<_, _>>()?
    } else {
        vec![args.name.keeper()?]
    };
    let mut out = io::stdout().lock();
    for keeper in keepers {
        let processes = keeper.down()?;
        let with = match processes {
            0 => String::new(),
            1 => ", and the program that ran in it".to_owned(),
            many => format!(", and the {many} programs that ran in it"),
        };
        writeln!(out, "The lab {} is down{with}.", keeper.name())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(status: &LabStatus) -> String {
    let mut parts = Vec::new();
    for (kind, one, many) in [
        (NodeKind::Host, "host", "hosts"),
        (NodeKind::Isp, "ISP", "ISPs"),
        (NodeKind::Router, "router", "routers"),
    ] {
        let count = status.nodes.iter().filter(|node| node.kind == kind).count();
        if count > 0 {
            parts.push(format!("{count} {}", if count == 1 { one } else { many }));
        }
    }
    let links = status.links.len();
    parts.push(format!("{links} {}", if links == 1 { "link" } else { "links" }));
    parts.join(", ")
}
