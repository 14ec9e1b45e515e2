//! `shim6 session show`: what is known of a session.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::{NameArgs, OutputArgs};
use crate::cli::block_on;
use crate::cli::contexts::pair;
use crate::cli::output::{Style, plain, print};
use crate::cli::paths;
use crate::control::Client;
use crate::status::{LocatorStatus, SessionStatus};

/// Arguments of `shim6 session show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints what is known of a session.
///
/// # Errors
///
/// When no daemon answers, or when the addresses are none of a session that could be protected.
pub(super) fn run(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let OutputArgs { json, socket } = args.output;
    let path = socket.path();
    let status = block_on(async { Ok(Client::connect(&path).await?.session(args.name.name()).await?) })?;
    tell(&status, json)
}

/// Prints a session, as JSON or for people.
pub(super) fn tell(status: &SessionStatus, json: bool) -> anyhow::Result<ExitCode> {
    let text = match json {
        true => serde_json::to_string_pretty(status)? + "\n",
        false => text(status, Style::of_stdout()),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(status: &SessionStatus, style: Style) -> String {
    let mut text = format!("{}\n  {}\n", status.session, state(status));
    if status.context.is_some() {
        let _ = writeln!(text, "  sends on    {}", pair(status.sends_on));
    }
    if let Some(on) = status.arrives_on {
        let _ = writeln!(text, "  arrives on  {}", pair(on));
    }
    if let Some(prefers) = status.prefers {
        let _ = writeln!(text, "  prefers     {}", pair(prefers));
    }
    let locators: Vec<_> = status.local_locators.iter().map(locator).collect();
    let _ = writeln!(text, "  this host   {}", locators.join(", "));
    if !status.peer_locators.is_empty() {
        let locators: Vec<_> = status.peer_locators.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "  the peer    {}", locators.join(", "));
    }
    for fork in &status.forks {
        let whose = if fork.learned { ", by the peer" } else { "" };
        let _ = writeln!(text, "  forked      {} to context {}{whose}", fork.flow, fork.context);
    }
    if !status.paths.is_empty() {
        text.push('\n');
        text += &paths::table(&status.paths, style);
    }
    text
}

fn state(status: &SessionStatus) -> String {
    let Some(context) = &status.context else {
        return match status.protection.as_str() {
            "never" => "not protected, and never to be".to_owned(),
            _ => "not protected: no context yet".to_owned(),
        };
    };
    let fork = match context.forked_instance {
        0 => "",
        _ => ", a fork",
    };
    let pinned = if context.pinned { ", pinned" } else { "" };
    match status.protected {
        true => format!(
            "protected by context {}{fork}: {}{pinned}",
            context.id,
            plain(&context.reap)
        ),
        false => format!(
            "not protected yet: context {}{fork} is {}",
            context.id,
            plain(&context.state)
        ),
    }
}

fn locator(locator: &LocatorStatus) -> String {
    let uplink = locator.uplink.as_deref();
    let uplink = uplink.map_or(String::new(), |uplink| format!(" on {}", plain(uplink)));
    let unusable = if locator.usable { "" } else { " (not usable now)" };
    format!("{}{uplink}{unusable}", locator.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::tests::sample;
    use crate::status::{ForkStatus, SessionName};

    fn status() -> SessionStatus {
        let context = sample().contexts.swap_remove(0);
        let (local, peer) = (context.ulids.local, context.ulids.peer);
        SessionStatus {
            session: SessionName {
                local,
                peer,
                flow: None,
            },
            protected: true,
            protection: "by-policy".to_owned(),
            local_locators: vec![LocatorStatus {
                address: local,
                uplink: Some("eth0".to_owned()),
                usable: false,
            }],
            peer_locators: context.peer_locators.clone(),
            paths: Vec::new(),
            sends_on: context.locators,
            arrives_on: None,
            prefers: None,
            forks: Vec::new(),
            context: Some(context),
        }
    }

    fn plainly(status: &SessionStatus) -> String {
        text(status, Style { colored: false })
    }

    #[test]
    fn a_session_is_told_of_in_lines() {
        let mut status = status();
        status.arrives_on = Some(status.sends_on);
        status.prefers = Some(status.sends_on);
        status.forks = vec![ForkStatus {
            flow: "tcp:5:6".parse().unwrap(),
            context: 9,
            learned: true,
        }];
        let text = plainly(&status);
        for expected in [
            "  protected by context 1: operational\n",
            "  sends on    2001:db8:a2:",
            "  arrives on  2001:db8:a2:",
            "  prefers     2001:db8:a2:",
            " on eth0 (not usable now)\n",
            "  forked      tcp:5:6 to context 9, by the peer\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_not_protected_says_so() {
        let mut status = status();
        status.protected = false;
        assert!(plainly(&status).contains("not protected yet: context 1 is established\n"));
        status.context = None;
        assert!(plainly(&status).contains("not protected: no context yet\n"));
        status.protection = "never".to_owned();
        assert!(plainly(&status).contains("not protected, and never to be\n"));
    }
}
