//! `shim6 config`: what the configuration files say.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::print;
use super::{EXIT_CODES, USAGE};
use crate::config::{self, ConfigError, Loaded, Problem, Source};

/// The subcommands of `shim6 config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration: every error and warning with its file and line
    #[command(after_help = EXIT_CODES)]
    Check(ConfigArgs),
    /// Show the values that hold, and where each is set that is
    #[command(after_help = EXIT_CODES)]
    Show(ConfigArgs),
    /// Print a commented configuration file with all keys and their defaults
    #[command(after_help = EXIT_CODES)]
    Default,
}

/// Which configuration, and how it is shown.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Configuration file, read with the *.toml files of the directory FILE.d [default: /etc/shim6/shim6.toml, which need not
    /// exist]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs one of them.
///
/// # Errors
///
/// When the configuration is not understood.
pub fn run(command: ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check(args) => check(&args),
        ConfigCommand::Show(args) => {
            let loaded = args.load()?;
            if args.json {
                print(&pretty(&config::effective_json(&loaded)))?;
            } else {
                print(&config::effective(&loaded))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        ConfigCommand::Default => {
            print(&config::default_file())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl ConfigArgs {
    fn load(&self) -> Result<Loaded, ConfigError> {
        Source::new(self.config.as_deref()).load()
    }
}

fn check(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let loaded = args.load();
    if args.json {
        let code = if loaded.is_ok() { 0 } else { USAGE };
        print(&pretty(&report(&loaded)))?;
        return Ok(ExitCode::from(code));
    }
    let loaded = loaded?;
    print(&summary(&loaded))?;
    Ok(ExitCode::SUCCESS)
}

/// What a check says of a configuration without errors.
fn summary(loaded: &Loaded) -> String {
    let mut text = String::new();
    for warning in &loaded.warnings {
        text += &format!("warning: {warning}\n");
    }
    match &loaded.files[..] {
        [] => {
            let path = loaded.source.path.display();
            text += &format!("ok: there is no {path}; the built-in defaults hold\n");
        }
        files => files
            .iter()
            .for_each(|file| text += &format!("ok: {}\n", file.display())),
    }
    text
}

fn report(loaded: &Result<Loaded, ConfigError>) -> Value {
    let (files, errors, warnings): (Vec<String>, _, _) = match loaded {
        Ok(loaded) => {
            let files = loaded.files.iter().map(|file| file.display().to_string()).collect();
            (files, Vec::new(), loaded.warnings.iter().map(problem).collect())
        }
        Err(ConfigError::Invalid(problems)) => (Vec::new(), problems.iter().map(problem).collect(), Vec::new()),
        Err(other) => {
            let source = std::error::Error::source(other).map(ToString::to_string);
            let error =
                json!({ "file": null, "line": null, "key": null, "message": other.to_string(), "cause": source });
            (Vec::new(), vec![error], Vec::new())
        }
    };
    json!({ "valid": errors.is_empty(), "files": files, "errors": errors, "warnings": warnings })
}

fn problem(problem: &Problem) -> Value {
    json!({
        "file": problem.file.display().to_string(),
        "line": problem.line,
        "key": problem.key,
        "message": format!("{}; {}", problem.wrong, problem.expected),
    })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(text: &str) -> Result<Loaded, ConfigError> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("shim6.toml");
        std::fs::write(&path, text).expect("a file");
        Source::new(Some(&path)).load()
    }

    #[test]
    fn a_check_names_the_files_and_warns_of_what_is_doubtful() {
        let text = summary(&loaded("[[uplink]]\ninterface = \"eth0\"\n").expect("a configuration"));
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].starts_with("warning: ") && lines[0].contains("shim6.toml:2: uplink.interface: "),
            "{text}"
        );
        assert!(
            lines[1].starts_with("ok: ") && lines[1].ends_with("/shim6.toml"),
            "{text}"
        );
    }

    #[test]
    fn the_json_of_a_check_has_every_error() {
        let report = report(&loaded("[tun]\nmtu = 1\nmtuu = 2\n"));
        assert_eq!(report["valid"], false);
        let errors = report["errors"].as_array().expect("a list");
        assert_eq!(
            (errors[0]["line"].as_u64(), errors[1]["line"].as_u64()),
            (Some(2), Some(3))
        );
        assert_eq!(errors[1]["message"], "unknown key; did you mean mtu?");
        let absent = Source::new(Some(std::path::Path::new("/nonexistent/shim6.toml"))).load();
        let report = super::report(&absent);
        assert_eq!(
            (report["valid"].as_bool(), report["errors"].as_array().map(Vec::len)),
            (Some(false), Some(1))
        );
    }
}
