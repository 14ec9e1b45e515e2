//! `shim6 lab set`, `shim6 lab break` and `shim6 lab heal`.

use std::process::ExitCode;

use clap::Args;

use super::NameArgs;
use crate::cli::UsageError;
use crate::lab::{Break, Setting};

/// Arguments of `shim6 lab set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    #[command(flatten)]
    name: NameArgs,
    /// The link
    #[arg(value_name = "LINK")]
    link: String,
    /// What to set, such as delay=20ms loss=1% rate=10Mbit/s rate=none mtu=1400
    #[arg(value_name = "NAME=VALUE", required = true)]
    settings: Vec<String>,
    #[command(flatten)]
    direction: DirectionArgs,
}

/// Arguments of `shim6 lab break`.
#[derive(Debug, Args)]
pub struct BreakArgs {
    #[command(flatten)]
    name: NameArgs,
    /// The link
    #[arg(value_name = "LINK")]
    link: String,
    /// How: packets vanish and the ends do not notice, or the ends lose the carrier
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    how: Break,
    #[command(flatten)]
    direction: DirectionArgs,
}

/// Arguments of `shim6 lab heal`.
#[derive(Debug, Args)]
pub struct HealArgs {
    #[command(flatten)]
    name: NameArgs,
    /// The link [default: all]
    #[arg(value_name = "LINK")]
    link: Option<String>,
}

/// Which direction of a link is meant.
#[derive(Debug, Args)]
pub(super) struct DirectionArgs {
    /// Only one direction: up, from the first end of the link to the second; down; or a NODE, for what that sends
    #[arg(long, value_name = "DIRECTION")]
    direction: Option<String>,
}

pub(super) fn set(args: &SetArgs) -> anyhow::Result<ExitCode> {
    for setting in &args.settings {
        setting.parse::<Setting>().map_err(UsageError)?;
    }
    let direction = args.direction.direction.as_deref();
    args.name.keeper()?.set(&args.link, direction, &args.settings)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn cut(args: &BreakArgs) -> anyhow::Result<ExitCode> {
    let direction = args.direction.direction.as_deref();
    if args.how == Break::LinkDown && direction.is_some_and(|direction| direction != "both") {
        let wrong = "--direction: a carrier is lost at both ends; leave it out, or break the link with --how blackhole";
        return Err(UsageError(wrong.to_owned()).into());
    }
    args.name.keeper()?.cut(&args.link, direction, args.how)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn heal(args: &HealArgs) -> anyhow::Result<ExitCode> {
    args.name.keeper()?.heal(args.link.as_deref())?;
    Ok(ExitCode::SUCCESS)
}
