//! `shim6 run`: the daemon in the foreground.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::UsageError;
use crate::config::{RunAs, Source, nearest};
use crate::{daemon, privileges};

/// The environment variable that `--log` overrides.
const LOG_VARIABLE: &str = "SHIM6_LOG";

/// Arguments of `shim6 run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file, read with the *.toml files of the directory FILE.d [default: /etc/shim6/shim6.toml; without it, the
    /// built-in defaults]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to log: off, error, warn, info, debug, trace, or directives such as info,shim6_core=debug
    /// [default: $SHIM6_LOG, else info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Whose rights to keep when root starts it: a user's name or number, or none for root with few capabilities
    /// [default: as configured, else shim6 where there is such a user]
    #[arg(long, value_name = "USER", value_parser = RunAs::parse)]
    user: Option<RunAs>,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
///
/// When the configuration or the filter is not understood, or when the daemon fails.
pub fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let filter = filter(args.log, std::env::var(LOG_VARIABLE).ok())?;
    // As seen from here: it is read again when the daemon may be elsewhere.
    let asked = args.config.map(|path| std::path::absolute(&path).unwrap_or(path));
    let loaded = Source::new(asked.as_deref()).load()?;
    start_log(filter);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    tracing::debug!(config = ?loaded.config, "configured");
    // Before there are threads, which would keep what they began with.
    let mut begun_as = loaded.config.clone();
    // Not in what was loaded, which is compared with the files when they are read again.
    begun_as.user = args.user.unwrap_or(begun_as.user);
    let privileges = privileges::drop_surplus(&begun_as)?;
    tracing::info!(
        user = privileges.user.as_deref().unwrap_or("unchanged"),
        capabilities = privileges.capabilities.join(" "),
        "running with few privileges"
    );
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(privileges::settle)
        .build()
        .context("cannot start: the system gives no threads; check the limits of processes and open files")?
        .block_on(daemon::run_loaded(loaded))?;
    Ok(ExitCode::SUCCESS)
}

fn filter(argument: Option<String>, variable: Option<String>) -> Result<EnvFilter, UsageError> {
    let (origin, text) = match (argument, variable) {
        (Some(text), _) => ("--log", text),
        (None, Some(text)) if !text.is_empty() => (LOG_VARIABLE, text),
        (None, _) => return Ok(EnvFilter::default().add_directive(LevelFilter::INFO.into())),
    };
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let wrong = |what: String| {
        UsageError(format!(
            "{origin}: {what}; expected {}, or directives such as info,shim6_core=debug",
            levels.join(", ")
        ))
    };
    for word in text.split(',').map(str::trim) {
        // The library takes any word as a module to trace, which makes a mistyped level silence everything.
        let lower = word.to_ascii_lowercase();
        if word.contains(['=', '[']) || levels.contains(&lower.as_str()) {
            continue;
        }
        let meant = nearest(&lower, levels).map_or(String::new(), |level| format!(", did you mean {level}"));
        return Err(wrong(format!("{word:?} is no level{meant}")));
    }
    EnvFilter::try_new(&text).map_err(|error| wrong(format!("{text:?} is no filter ({error})")))
}

fn start_log(filter: EnvFilter) {
    // To the journal with fields and priorities, where standard error goes there anyway.
    let journal = under_journal().then(tracing_journald::layer);
    let no_journal = match journal {
        Some(Ok(layer)) => {
            let layer = layer.with_syslog_identifier("shim6".to_owned());
            // A second subscriber can only be one that an embedding program has set: then its choice stands.
            return drop(tracing_subscriber::registry().with(filter).with(layer).try_init());
        }
        Some(Err(error)) => Some(error),
        None => None,
    };
    let stderr = io::stderr();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr.is_terminal() && !no_color)
        // The library reports its own failures with a macro that panics when standard error is a closed pipe.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    drop(match no_journal {
        // It keeps the time itself.
        Some(_) => log.without_time().try_init(),
        None => log.try_init(),
    });
    if let Some(error) = no_journal {
        tracing::info!(%error, "the journal's socket cannot be used; logging plain lines");
    }
}

/// Whether standard error is the journal, which keeps the time itself: systemd tells the stream's device and inode.
fn under_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    nix::sys::stat::fstat(io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        filter(Some(text.to_owned()), None)
            .expect_err("a filter that should be refused")
            .to_string()
    }

    #[test]
    fn levels_and_directives_are_filters() {
        for text in [
            "info",
            "DEBUG",
            "off",
            "info,shim6_core=debug",
            "warn,shim6_tun::daemon=trace",
        ] {
            filter(Some(text.to_owned()), None).expect(text);
        }
    }

    #[test]
    fn the_argument_overrides_the_variable_and_an_empty_variable_means_the_default() {
        let both = filter(Some("debug".to_owned()), Some("warn".to_owned())).expect("debug");
        assert_eq!(both.to_string(), "debug");
        let variable = filter(None, Some("warn".to_owned())).expect("warn");
        assert_eq!(variable.to_string(), "warn");
        assert_eq!(filter(None, Some(String::new())).expect("default").to_string(), "info");
        assert_eq!(filter(None, None).expect("default").to_string(), "info");
    }

    #[test]
    fn a_mistyped_level_is_an_error_and_not_silence() {
        assert_eq!(
            refused("inof"),
            "--log: \"inof\" is no level, did you mean info; expected off, error, warn, info, debug, trace, \
             or directives such as info,shim6_core=debug"
        );
        assert!(refused("shim6_core=loud").starts_with("--log: \"shim6_core=loud\" is no filter"));
        let variable = filter(None, Some("debgu".to_owned()))
            .expect_err("a mistyped level")
            .to_string();
        assert!(
            variable.starts_with("SHIM6_LOG: \"debgu\" is no level, did you mean debug;"),
            "{variable}"
        );
    }

    #[test]
    fn a_module_without_a_level_is_an_error() {
        assert!(refused("info,rtnetlink").starts_with("--log: \"rtnetlink\" is no level; expected off, "));
        assert!(refused("").starts_with("--log: \"\" is no level; expected off, "));
    }

    #[test]
    fn a_file_that_is_asked_for_must_exist() {
        let asked = std::path::Path::new("/nonexistent/shim6.toml");
        let error = Source::new(Some(asked)).load().expect_err("an absent file");
        assert_eq!(
            error.to_string(),
            "the configuration /nonexistent/shim6.toml cannot be read; check its name and its permissions"
        );
    }
}
