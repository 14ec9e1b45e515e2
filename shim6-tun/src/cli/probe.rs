//! `shim6 probe`: whether a path works, and how fast it is.

use std::process::ExitCode;

use clap::Args;

use super::contexts::{pair, round_trip};
use super::output::print;
use super::select::{PairArgs, Selector};
use super::{FAILURE, SocketArgs, block_on};
use crate::control::Client;
use crate::status::ProbeStatus;

/// Arguments of `shim6 probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// The context: its number, or an address of its peer
    #[arg(value_name = "CONTEXT")]
    context: Selector,
    #[command(flatten)]
    pair: PairArgs,
    /// Probe all paths of the context, one after the other
    #[arg(long, conflicts_with_all = ["local", "uplink"])]
    all: bool,
    /// Print the outcome as a JSON object, one line for each path
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Sends a probe and prints what came of it. Exit code 1: a probe was not answered.
///
/// # Errors
///
/// When no daemon answers, when there is no such context, or when the path cannot be probed.
pub fn run(args: ProbeArgs) -> anyhow::Result<ExitCode> {
    let path = args.socket.path();
    block_on(async {
        let mut client = Client::connect(&path).await?;
        let context = args.context.resolve(&mut client).await?;
        let pairs = match args.all {
            true => {
                let paths = client.paths(Some(context)).await?;
                let usable = paths.into_iter().filter(|path| path.state != "down");
                usable.map(|path| Some(path.pair)).collect()
            }
            false => vec![args.pair.resolve(&mut client, context).await?],
        };
        let mut code = ExitCode::SUCCESS;
        for pair in pairs {
            let probe = client.probe(context, pair).await?;
            let line = match args.json {
                true => serde_json::to_string(&probe)?,
                false => line(&probe),
            };
            print(&(line + "\n"))?;
            if !probe.answered {
                code = ExitCode::from(FAILURE);
            }
        }
        Ok(code)
    })
}

fn line(probe: &ProbeStatus) -> String {
    let pair = pair(probe.pair);
    match (probe.answered, probe.rtt_us) {
        (true, Some(rtt)) => format!("{pair}: answered after {}", round_trip(rtt)),
        (true, None) => format!("{pair}: answered"),
        (false, _) => format!("{pair}: no answer within {} ms", probe.waited_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::PairStatus;

    #[test]
    fn an_outcome_is_one_line() {
        let mut probe = ProbeStatus {
            context: 7,
            pair: PairStatus {
                local: "2001:db8:a::1".parse().unwrap(),
                peer: "2001:db8:b::1".parse().unwrap(),
            },
            answered: true,
            rtt_us: Some(20_400),
            waited_ms: 21,
        };
        assert_eq!(line(&probe), "2001:db8:a::1 -> 2001:db8:b::1: answered after 20ms");
        (probe.answered, probe.rtt_us, probe.waited_ms) = (false, None, 3_000);
        assert_eq!(line(&probe), "2001:db8:a::1 -> 2001:db8:b::1: no answer within 3000 ms");
    }
}
