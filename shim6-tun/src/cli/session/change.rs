//! The subcommands of `shim6 session` that change something.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{NameArgs, OutputArgs, PathArgs, show};
use crate::cli::output::{plain, print};
use crate::cli::{UsageError, block_on, move_, select};
use crate::control::{Advice, Client, Protect};
use crate::status::{PairStatus, SessionName};

/// Arguments of `shim6 session protect`.
#[derive(Debug, Args)]
pub struct ProtectArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Whether and when there is to be a context; it is about all flows between the addresses
    #[arg(value_enum, value_name = "WHEN")]
    when: When,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `shim6 session prefer`.
#[derive(Debug, Args)]
pub struct PreferArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    path: PathArgs,
    /// Prefer the path of the session's own addresses again
    #[arg(long, conflicts_with_all = ["path", "uplink"])]
    own: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `shim6 session pin`.
#[derive(Debug, Args)]
pub struct PinArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    path: PathArgs,
    /// Let the daemon choose by itself again
    #[arg(long, conflicts_with_all = ["path", "uplink"])]
    auto: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `shim6 session advise`.
#[derive(Debug, Args)]
pub struct AdviseArgs {
    #[command(flatten)]
    name: NameArgs,
    /// What the program knows of the path in use
    #[arg(value_enum, value_name = "ADVICE")]
    advice: News,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `shim6 session fork`.
#[derive(Debug, Args)]
pub struct ForkArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    path: PathArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `shim6 session join`.
#[derive(Debug, Args)]
pub struct JoinArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// When a session gets a context.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum When {
    /// At once, whatever the policy says
    Now,
    /// Never: the contexts that there are get closed, and the peer's attempts are not answered
    Never,
    /// As the configuration says
    ByPolicy,
}

/// What a program knows of the path in use.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum News {
    /// The peer has acknowledged something new
    Positive,
    /// The peer has not acknowledged what it should have
    Negative,
}

impl PathArgs {
    /// The path that is meant, if one is.
    async fn resolve(&self, client: &mut Client, session: SessionName) -> anyhow::Result<Option<PairStatus>> {
        if let Some([local, peer]) = self.path.as_deref() {
            return Ok(Some(PairStatus {
                local: *local,
                peer: *peer,
            }));
        }
        match &self.uplink {
            Some(uplink) => select::best(uplink, &client.session(session).await?.paths).map(Some),
            None => Ok(None),
        }
    }
}

/// Has a session protected now, never, or as the configuration says.
pub(super) fn protect(args: ProtectArgs) -> anyhow::Result<ExitCode> {
    let OutputArgs { json, socket } = args.output;
    let path = socket.path();
    let when = match args.when {
        When::Now => Protect::Now,
        When::Never => Protect::Never,
        When::ByPolicy => Protect::ByPolicy,
    };
    let status = block_on(async { Ok(Client::connect(&path).await?.protect(args.name.name(), when).await?) })?;
    show::tell(&status, json)
}

/// Has a session prefer a path.
pub(super) fn prefer(args: PreferArgs) -> anyhow::Result<ExitCode> {
    let OutputArgs { json, socket } = args.output;
    let path = socket.path();
    let session = args.name.name();
    let status = block_on(async {
        let mut client = Client::connect(&path).await?;
        let pair = args.path.resolve(&mut client, session).await?;
        if pair.is_none() && !args.own {
            return Err(no_path("--own"));
        }
        Ok(client.prefer(session, pair).await?)
    })?;
    show::tell(&status, json)
}

/// Pins a session to a path.
pub(super) fn pin(args: PinArgs) -> anyhow::Result<ExitCode> {
    let OutputArgs { json, socket } = args.output;
    let path = socket.path();
    let session = args.name.name();
    let moved = block_on(async {
        let mut client = Client::connect(&path).await?;
        let pair = args.path.resolve(&mut client, session).await?;
        if pair.is_none() && !args.auto {
            return Err(no_path("--auto"));
        }
        Ok(client.pin(session, pair).await?)
    })?;
    let text = match json {
        true => serde_json::to_string(&moved)?,
        false => move_::line(&moved),
    };
    print(&(text + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Passes a program's advice on.
pub(super) fn advise(args: AdviseArgs) -> anyhow::Result<ExitCode> {
    let OutputArgs { json, socket } = args.output;
    let path = socket.path();
    let advice = match args.advice {
        News::Positive => Advice::Positive,
        News::Negative => Advice::Negative,
    };
    let status = block_on(async { Ok(Client::connect(&path).await?.advise(args.name.name(), advice).await?) })?;
    let text = match json {
        true => serde_json::to_string(&status)?,
        false => format!("context {} is {}", status.context, plain(&status.reap)),
    };
    print(&(text + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Forks a flow, and pins it to a path if one is named.
pub(super) fn fork(args: ForkArgs) -> anyhow::Result<ExitCode> {
    let OutputArgs { json, socket } = args.output;
    let path = socket.path();
    let session = args.name.name();
    let status = block_on(async {
        let mut client = Client::connect(&path).await?;
        let mut status = client.fork(session).await?;
        if let Some(pair) = args.path.resolve(&mut client, session).await? {
            client.pin(session, Some(pair)).await?;
            status = client.session(session).await?;
        }
        Ok(status)
    })?;
    show::tell(&status, json)
}

/// Ends a fork.
pub(super) fn join(args: JoinArgs) -> anyhow::Result<ExitCode> {
    let OutputArgs { json, socket } = args.output;
    let path = socket.path();
    let status = block_on(async { Ok(Client::connect(&path).await?.join(args.name.name()).await?) })?;
    show::tell(&status, json)
}

fn no_path(otherwise: &str) -> anyhow::Error {
    let what = format!(
        "say which path: --path LOCAL PEER, --uplink INTERFACE or {otherwise}; the paths are in: shim6 session show"
    );
    UsageError(what).into()
}
