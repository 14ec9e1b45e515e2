//! `shim6 contexts`: the sessions that are protected.

use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use tokio::time::{MissedTickBehavior, interval};

use super::output::{Cell, Style, Table, age, count, octets, plain, print};
use super::select::Selector;
use super::{SocketArgs, block_on, paths};
use crate::control::Client;
use crate::status::{ContextDetail, ContextStatus, PairStatus, Volume};

/// Time between two looks with `--watch`.
const TICK: Duration = Duration::from_secs(1);

/// Arguments of `shim6 contexts`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ContextsArgs {
    #[command(subcommand)]
    command: Option<ContextsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

/// The subcommands of `shim6 contexts`.
#[derive(Debug, Subcommand)]
pub enum ContextsCommand {
    /// List contexts; the same as no subcommand
    List(ListArgs),
    /// Show one context and the paths that it may take
    Show(ShowArgs),
}

/// Arguments of `shim6 contexts list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those with this peer: its ULID or one of its locators
    #[arg(long, value_name = "ADDRESS")]
    peer: Option<Ipv6Addr>,
    /// Look again each second, until interrupted
    #[arg(long)]
    watch: bool,
    /// Print a JSON array of them; with --watch one line each second
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Arguments of `shim6 contexts show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The context: its number, or an address of its peer
    #[arg(value_name = "CONTEXT")]
    context: Selector,
    /// Look again each second, until interrupted
    #[arg(long)]
    watch: bool,
    /// Print it as a JSON object; with --watch one line each second
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Prints contexts of the running daemon.
///
/// # Errors
///
/// When no daemon answers, or when there is no such context.
pub fn run(args: ContextsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(ContextsCommand::Show(args)) => show(args),
        Some(ContextsCommand::List(args)) => list(args),
        None => list(args.list),
    }
}

fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let path = args.socket.path();
    let style = Style::of_stdout();
    block_on(async {
        let mut client = Client::connect(&path).await?;
        repeat(args.watch, async || {
            let contexts = client.contexts(args.peer).await?;
            Ok(match (args.json, args.peer) {
                (true, _) => json(&contexts, args.watch)?,
                (false, Some(peer)) if contexts.is_empty() => {
                    redraw(args.watch, style) + &format!("No context with {peer}; all of them: shim6 contexts\n")
                }
                (false, _) => redraw(args.watch, style) + &table(&contexts, style, usize::MAX, ""),
            })
        })
        .await
    })
}

fn show(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let path = args.socket.path();
    let style = Style::of_stdout();
    block_on(async {
        let mut client = Client::connect(&path).await?;
        let id = args.context.resolve(&mut client).await?;
        repeat(args.watch, async || {
            let detail = client.context(id).await?;
            Ok(match args.json {
                true => json(&detail, args.watch)?,
                false => redraw(args.watch, style) + &detailed(&detail, style),
            })
        })
        .await
    })
}

/// Prints once, or each second until the daemon ends.
async fn repeat(watch: bool, mut look: impl AsyncFnMut() -> anyhow::Result<String>) -> anyhow::Result<ExitCode> {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        print(&look().await?)?;
        if !watch {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn json(document: &impl serde::Serialize, in_a_line: bool) -> anyhow::Result<String> {
    let text = match in_a_line {
        true => serde_json::to_string(document)?,
        false => serde_json::to_string_pretty(document)?,
    };
    Ok(text + "\n")
}

/// Goes to the top of the screen, or to a new paragraph where there is none.
fn redraw(watch: bool, style: Style) -> String {
    match (watch, style.colored) {
        (false, _) => String::new(),
        (true, true) => "\x1b[H\x1b[2J".to_owned(),
        (true, false) => "\n".to_owned(),
    }
}

fn detailed(detail: &ContextDetail, style: Style) -> String {
    let context = &detail.context;
    let mut text = table(std::slice::from_ref(context), style, 1, "");
    let _ = writeln!(text, "  age    {}", age(context.age_ms));
    let _ = writeln!(
        text,
        "  silent packets are taken for lost after {}",
        age(context.send_timeout_ms)
    );
    if !context.peer_locators.is_empty() {
        let locators: Vec<_> = context.peer_locators.iter().map(Ipv6Addr::to_string).collect();
        let _ = writeln!(text, "  peer   has proved {}", locators.join(", "));
    }
    text.push('\n');
    text + &paths::table(&detail.paths, style)
}

/// Contexts with what there is to say of each; `more` is the command that shows those beyond `most`.
pub(super) fn table(contexts: &[ContextStatus], style: Style, most: usize, more: &str) -> String {
    if contexts.is_empty() {
        return "No contexts: no peer that speaks Shim6 has had enough traffic yet.\n".to_owned();
    }
    // What does not run as usual comes first.
    let mut sorted: Vec<&ContextStatus> = contexts.iter().collect();
    sorted.sort_by_key(|context| (context.reap == "operational", is_direct(context), context.id));
    let mut table = Table::new(
        &[
            "CONTEXT",
            "STATE",
            "PATH",
            "HEALTH",
            "RTT",
            "SENT",
            "RECEIVED",
            "FAILOVERS",
        ],
        style,
    );
    for context in sorted.iter().take(most) {
        table.row([
            context.id.into(),
            plain(&context.state).into(),
            if is_direct(context) {
                "direct".into()
            } else {
                Cell::styled("moved", |text| style.changing(text))
            },
            match context.reap.as_str() {
                "operational" => Cell::styled("operational", |text| style.good(text)),
                other => Cell::styled(&plain(other), |text| style.bad(text)),
            },
            context.rtt_us.map_or("-".to_owned(), round_trip).into(),
            volume(context.sent).into(),
            volume(context.received).into(),
            context.failovers.into(),
        ]);
        table.note(format!("  ulids  {}", pair(context.ulids)));
        if !is_direct(context) {
            table.note(format!("  path   {}", pair(context.locators)));
        }
        if context.pinned {
            table.note(format!(
                "  kept   there until it fails, as asked by hand; to end that: shim6 move {} --auto",
                context.id
            ));
        }
        if context.preferred != context.locators {
            table.note(format!("  back   to {} when that works", pair(context.preferred)));
        }
        if let Some(last) = &context.last_failover {
            let after = last
                .took_ms
                .map_or(String::new(), |took| format!(", after {} without a path", age(took)));
            table.note(format!(
                "  last   {} ago: {}{after}",
                age(last.ago_ms),
                plain(&last.cause)
            ));
        }
    }
    let mut text = table.render();
    if sorted.len() > most {
        let _ = writeln!(text, "{} more: {more}", sorted.len() - most);
    }
    text
}

pub(super) fn round_trip(micros: u64) -> String {
    let millis = micros as f64 / 1000.0;
    if millis < 9.95 {
        format!("{millis:.1}ms")
    } else {
        format!("{millis:.0}ms")
    }
}

/// Whether it uses the path of its ULIDs.
pub(super) fn is_direct(context: &ContextStatus) -> bool {
    context.locators == context.ulids
}

pub(super) fn pair(pair: PairStatus) -> String {
    format!("{} -> {}", pair.local, pair.peer)
}

fn volume(volume: Volume) -> String {
    format!("{} ({} pkt)", octets(volume.octets), count(volume.packets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_time_has_two_digits_at_least() {
        assert_eq!(round_trip(640), "0.6ms");
        assert_eq!(round_trip(9_940), "9.9ms");
        assert_eq!(round_trip(20_400), "20ms");
        assert_eq!(round_trip(1_500_000), "1500ms");
    }

    #[test]
    fn watching_clears_a_terminal_and_separates_elsewhere() {
        assert_eq!(redraw(false, Style { colored: true }), "");
        assert_eq!(redraw(true, Style { colored: true }), "\x1b[H\x1b[2J");
        assert_eq!(redraw(true, Style { colored: false }), "\n");
    }
}
