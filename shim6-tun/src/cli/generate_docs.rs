//! `shim6 generate-docs`: man pages and completions, for packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;

/// Arguments of `shim6 generate-docs`.
#[derive(Debug, Args)]
pub struct GenerateDocsArgs {
    /// Where to put the directories `man` and `completions`; files that are there are replaced
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

/// Writes what follows from the command line's own description.
///
/// # Errors
///
/// When a file cannot be written.
pub fn run(args: &GenerateDocsArgs) -> anyhow::Result<ExitCode> {
    let make = |name: &str| {
        let directory = args.directory.join(name);
        let made = fs::create_dir_all(&directory);
        made.with_context(|| format!("cannot create {}; check its permissions", directory.display()))?;
        anyhow::Ok(directory)
    };
    let (man, completions) = (make("man")?, make("completions")?);
    manuals(&man).with_context(|| format!("cannot write to {}", man.display()))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "shim6", &completions)
            .with_context(|| format!("cannot write to {}", completions.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One page for each command, as git has them: `shim6-address-show.1`.
fn manuals(directory: &Path) -> std::io::Result<()> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    page(&root, directory, "shim6")
}

fn page(command: &Command, directory: &Path, name: &str) -> std::io::Result<()> {
    // The synopsis has the command as it is typed, the title and the file have it as one word.
    let typed = name.replace('-', " ");
    let shown = command.clone().display_name(name.to_owned()).bin_name(typed);
    let mut page = Vec::new();
    clap_mangen::Man::new(shown).render(&mut page)?;
    fs::write(directory.join(format!("{name}.1")), page)?;
    let mut commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    commands.try_for_each(|command| self::page(command, directory, &format!("{name}-{}", command.get_name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(command: &Command, prefix: &str, into: &mut Vec<String>) {
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = format!("{prefix}-{}", command.get_name());
            names(command, &name, into);
            into.push(format!("{name}.1"));
        }
    }

    #[test]
    fn every_command_that_is_shown_has_a_page_that_explains_its_options() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().to_owned();
        run(&GenerateDocsArgs {
            directory: directory.clone(),
        })
        .unwrap();
        let mut expected = vec!["shim6.1".to_owned()];
        names(&Cli::command(), "shim6", &mut expected);
        expected.sort();
        let mut pages: Vec<_> = fs::read_dir(directory.join("man"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        pages.sort();
        assert_eq!(pages, expected);
        assert!(!pages.contains(&"shim6-generate-docs.1".to_owned()));
        let run = fs::read_to_string(directory.join("man/shim6-run.1")).unwrap();
        assert!(run.contains("shim6 run"), "{run}");
        assert!(run.contains("\\-\\-config"), "{run}");
        let top = fs::read_to_string(directory.join("man/shim6.1")).unwrap();
        assert!(top.contains("shim6\\-status(1)"), "{top}");
    }

    #[test]
    fn three_shells_complete_the_commands() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().to_owned();
        run(&GenerateDocsArgs {
            directory: directory.clone(),
        })
        .unwrap();
        for name in ["shim6.bash", "_shim6", "shim6.fish"] {
            let text = fs::read_to_string(directory.join("completions").join(name)).expect(name);
            assert!(text.contains("status"), "{name}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let directory = PathBuf::from("/proc/nowhere");
        let error = run(&GenerateDocsArgs { directory }).unwrap_err().to_string();
        assert_eq!(error, "cannot create /proc/nowhere/man; check its permissions");
    }
}
