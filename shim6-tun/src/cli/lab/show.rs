//! `shim6 lab status`, `shim6 lab graph` and `shim6 lab list`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::NameArgs;
use crate::lab::graph::svg;
use crate::lab::keeper::{Directory, Keeper};
use crate::lab::{DirectionStatus, LabStatus};

/// Arguments of `shim6 lab status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `shim6 lab graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Where to write the picture, as SVG [default: standard output]
    #[arg(value_name = "FILE.svg")]
    file: Option<PathBuf>,
}

/// Arguments of `shim6 lab list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let keeper = args.name.keeper()?;
    let status = keeper.status()?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
    } else {
        print(&mut out, keeper.name(), &status)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn graph(args: &GraphArgs) -> anyhow::Result<ExitCode> {
    let keeper = args.name.keeper()?;
    let picture = svg(keeper.name(), &keeper.status()?);
    match &args.file {
        Some(path) => {
            std::fs::write(path, picture)
                .with_context(|| format!("cannot write {}; choose another file", path.display()))?;
        }
        None => io::stdout().lock().write_all(picture.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let directory = Directory::of_user()?;
    let mut out = io::stdout().lock();
    let names = directory.names()?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&names)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if names.is_empty() {
        writeln!(out, "no lab is up; begin with shim6 lab up FILE")?;
    }
    for name in names {
        let status = Keeper::find(&directory, Some(&name))?.status()?;
        let nodes: Vec<_> = status.nodes.iter().map(|node| node.name.as_str()).collect();
        writeln!(out, "{name}: {}", nodes.join(" "))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl Write, name: &str, status: &LabStatus) -> io::Result<()> {
    writeln!(out, "Lab {name}\n\nNodes")?;
    for node in &status.nodes {
        write!(out, "  {:<16}{:<7}", node.name, node.kind)?;
        for (interface, address) in &node.addresses {
            write!(out, " {interface} {address} ")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "\nLinks")?;
    for link in &status.links {
        let plain = if link.plain { ", plain" } else { "" };
        let ends = format!(
            "{} ({}) - {} ({})",
            link.ends[0], link.interfaces[0], link.ends[1], link.interfaces[1]
        );
        writeln!(out, "  {:<20}{}{plain}   {ends}", link.name, link.state.as_str())?;
        for element in &link.elements {
            writeln!(out, "      {element}")?;
        }
        if !link.plain {
            for (end, direction) in link.ends.iter().zip([&link.up, &link.down]) {
                print_direction(out, end, direction)?;
            }
        }
    }
    Ok(())
}

fn print_direction(out: &mut impl Write, sender: &str, direction: &DirectionStatus) -> io::Result<()> {
    let counters = direction.counters;
    let mut parts = vec![format!("{} passed", counters.passed)];
    for (count, what) in [
        (counters.lost, "lost"),
        (counters.broken, "while broken"),
        (counters.filtered, "filtered"),
        (counters.overflowed, "overflowed"),
        (counters.too_big, "too big"),
        (counters.duplicated, "duplicated"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let settings = if direction.settings.is_empty() {
        "as it is"
    } else {
        &direction.settings
    };
    let broken = if direction.blackhole { "BROKEN, " } else { "" };
    writeln!(out, "      from {sender:<15} {broken}{settings}; {}", parts.join(", "))
}
