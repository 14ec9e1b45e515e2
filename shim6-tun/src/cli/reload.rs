//! `shim6 reload`: has the daemon read its configuration again.

use std::process::ExitCode;

use clap::Args;

use super::output::{plain, print};
use super::{SocketArgs, block_on};
use crate::control::{Client, Reloaded};

/// Arguments of `shim6 reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Reloads, and says what changed.
///
/// # Errors
///
/// When no daemon answers, or it refuses the configuration.
pub fn run(args: ReloadArgs) -> anyhow::Result<ExitCode> {
    let path = args.socket.path();
    let reloaded = block_on(async { Ok(Client::connect(&path).await?.reload().await?) })?;
    if args.json {
        print(&format!("{:#}\n", serde_json::to_value(&reloaded)?))?;
    } else {
        print(&describe(&reloaded))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(reloaded: &Reloaded) -> String {
    let mut text = String::new();
    for warning in &reloaded.warnings {
        text += &format!("warning: {}\n", plain(warning));
    }
    let shown = |value: &Option<String>| value.as_deref().map_or("unset".to_owned(), plain);
    for change in &reloaded.changed {
        text += &format!(
            "{}: {} -> {}\n",
            plain(&change.key),
            shown(&change.from),
            shown(&change.to)
        );
    }
    if reloaded.changed.is_empty() {
        text += "nothing has changed\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Changed;

    #[test]
    fn each_change_has_a_line() {
        let mut reloaded = Reloaded {
            files: Vec::new(),
            changed: vec![Changed {
                key: "trigger.packets".to_owned(),
                from: Some("50".to_owned()),
                to: None,
            }],
            warnings: vec!["f:1: k: odd".to_owned()],
        };
        assert_eq!(
            describe(&reloaded),
            "warning: f:1: k: odd\ntrigger.packets: 50 -> unset\n"
        );
        (reloaded.changed, reloaded.warnings) = (Vec::new(), Vec::new());
        assert_eq!(describe(&reloaded), "nothing has changed\n");
    }
}
