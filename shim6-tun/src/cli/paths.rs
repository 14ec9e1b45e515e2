//! `shim6 paths`: what is known of each locator pair.

use std::process::ExitCode;

use clap::Args;

use super::contexts::round_trip;
use super::output::{Cell, Style, Table, age, percent, plain, print};
use super::select::Selector;
use super::{SocketArgs, block_on};
use crate::control::Client;
use crate::status::PathStatus;

/// Arguments of `shim6 paths`.
#[derive(Debug, Args)]
pub struct PathsArgs {
    /// Only those of this context, the most preferred first: its number, or an address of its peer
    #[arg(value_name = "CONTEXT")]
    context: Option<Selector>,
    /// Print them as a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Prints the locator pairs of the running daemon.
///
/// # Errors
///
/// When no daemon answers, or when there is no such context.
pub fn run(args: PathsArgs) -> anyhow::Result<ExitCode> {
    let path = args.socket.path();
    let paths = block_on(async {
        let mut client = Client::connect(&path).await?;
        let context = match args.context {
            Some(context) => Some(context.resolve(&mut client).await?),
            None => None,
        };
        Ok(client.paths(context).await?)
    })?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&paths)? + "\n",
        false => table(&paths, Style::of_stdout()),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The pairs, one line each and one for its addresses.
pub(super) fn table(paths: &[PathStatus], style: Style) -> String {
    if paths.is_empty() {
        return "No paths: no context is established.\n".to_owned();
    }
    let headings = [
        "UPLINK", "STATE", "RTT", "LOSS", "PROBES", "ANSWERED", "FAILED", "HEARD", "USED BY",
    ];
    let mut table = Table::new(&headings, style);
    for path in paths {
        let state = plain(&path.state);
        table.row([
            path.uplink.as_deref().map_or("-".to_owned(), plain).into(),
            match state.as_str() {
                "working" => Cell::styled(&state, |text| style.good(text)),
                "in-doubt" => Cell::styled(&state, |text| style.changing(text)),
                "unknown" => state.into(),
                _ => Cell::styled(&state, |text| style.bad(text)),
            },
            path.rtt_us.map_or("-".to_owned(), round_trip).into(),
            path.loss_permille.map_or("-".to_owned(), percent).into(),
            format!("{}/{}", path.probes_answered, path.probes_sent).into(),
            ago(path.answered_ago_ms).into(),
            ago(path.failed_ago_ms).into(),
            ago(path.heard_ago_ms).into(),
            users(path).into(),
        ]);
        table.note(format!("  {} -> {}", path.pair.local, path.pair.peer));
    }
    table.render()
}

fn ago(milliseconds: Option<u64>) -> String {
    milliseconds.map_or("-".to_owned(), |milliseconds| format!("{} ago", age(milliseconds)))
}

fn users(path: &PathStatus) -> String {
    const NAMED: usize = 3;
    if path.users == 0 {
        return "-".to_owned();
    }
    let named: Vec<_> = path.used_by.iter().take(NAMED).map(u64::to_string).collect();
    let more = path.users.saturating_sub(named.len() as u64);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::PairStatus;

    #[test]
    fn a_path_tells_what_is_known_and_a_dash_where_nothing_is() {
        let used = PathStatus {
            pair: PairStatus {
                local: "2001:db8:a1::1".parse().unwrap(),
                peer: "2001:db8:b1::1".parse().unwrap(),
            },
            uplink: Some("eth0".to_owned()),
            state: "working".to_owned(),
            used_by: vec![1, 2, 3, 4],
            users: 40,
            rtt_us: Some(20_400),
            probes_sent: 32,
            probes_answered: 31,
            loss_permille: Some(31),
            answered_ago_ms: Some(1_200),
            failed_ago_ms: None,
            heard_ago_ms: Some(15),
        };
        let unused = PathStatus {
            state: "unknown".to_owned(),
            uplink: None,
            users: 0,
            rtt_us: None,
            probes_sent: 0,
            probes_answered: 0,
            loss_permille: None,
            answered_ago_ms: None,
            heard_ago_ms: None,
            ..used.clone()
        };
        let expected = "\
UPLINK  STATE    RTT   LOSS  PROBES  ANSWERED  FAILED  HEARD     USED BY
eth0    working  20ms  3.1%  31/32   1.2s ago  -       15ms ago  1, 2, 3 and 37 more
  2001:db8:a1::1 -> 2001:db8:b1::1
-       unknown  -     -     0/0     -         -       -         -
  2001:db8:a1::1 -> 2001:db8:b1::1
";
        assert_eq!(table(&[used, unused], Style { colored: false }), expected);
    }
}
