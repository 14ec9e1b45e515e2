//! `shim6 move`: has a context take another path.

use std::process::ExitCode;

use clap::Args;

use super::contexts::pair;
use super::output::print;
use super::select::{PairArgs, Selector};
use super::{SocketArgs, UsageError, block_on};
use crate::control::Client;
use crate::status::MoveStatus;

/// Arguments of `shim6 move`.
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// The context: its number, or an address of its peer
    #[arg(value_name = "CONTEXT")]
    context: Selector,
    #[command(flatten)]
    pair: PairArgs,
    /// Let the daemon choose by itself again: it goes back to the path that it prefers once that has worked for a while
    #[arg(long, conflicts_with_all = ["local", "uplink"])]
    auto: bool,
    /// Print the outcome as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Moves what this host sends, once a probe on the new path was answered. It stays there until that path fails.
///
/// # Errors
///
/// When no daemon answers, when there is no such context, when the path cannot be taken, or when its probe is not answered.
pub fn run(args: MoveArgs) -> anyhow::Result<ExitCode> {
    let path = args.socket.path();
    let moved = block_on(async {
        let mut client = Client::connect(&path).await?;
        let context = args.context.resolve(&mut client).await?;
        let pair = args.pair.resolve(&mut client, context).await?;
        if pair.is_none() && !args.auto {
            let what =
                format!("say where to: LOCAL PEER, --uplink INTERFACE or --auto; the paths are: shim6 paths {context}");
            return Err(UsageError(what).into());
        }
        Ok(client.move_to(context, pair).await?)
    })?;
    let text = match args.json {
        true => serde_json::to_string(&moved)?,
        false => line(&moved),
    };
    print(&(text + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn line(moved: &MoveStatus) -> String {
    let MoveStatus {
        context,
        from,
        to,
        pinned,
        probed,
    } = moved;
    let to_ = pair(*to);
    match (pinned, from == to) {
        (false, _) => format!("context {context}: on {to_}, and free to go where it prefers"),
        (true, true) => format!("context {context}: stays on {to_} until that fails"),
        (true, false) => {
            let proof = if *probed { "probed" } else { "known to work" };
            format!(
                "context {context}: moved from {} to {to_} ({proof}), until that fails",
                pair(*from)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::PairStatus;

    #[test]
    fn the_outcome_says_from_where_to_where_and_for_how_long() {
        let at = |last: u16| PairStatus {
            local: std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last),
            peer: "2001:db8:b::1".parse().unwrap(),
        };
        let mut moved = MoveStatus {
            context: 7,
            from: at(1),
            to: at(2),
            pinned: true,
            probed: true,
        };
        assert_eq!(
            line(&moved),
            "context 7: moved from 2001:db8::1 -> 2001:db8:b::1 to 2001:db8::2 -> 2001:db8:b::1 (probed), until that fails"
        );
        moved.from = at(2);
        assert_eq!(
            line(&moved),
            "context 7: stays on 2001:db8::2 -> 2001:db8:b::1 until that fails"
        );
        moved.pinned = false;
        assert_eq!(
            line(&moved),
            "context 7: on 2001:db8::2 -> 2001:db8:b::1, and free to go where it prefers"
        );
    }
}
