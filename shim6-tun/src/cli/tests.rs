use super::*;
use std::time::Duration;

use crate::control::ControlError;
use clap::CommandFactory;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_help_documents_the_exit_codes() {
    let mut command = Cli::command();
    assert!(command.render_help().to_string().contains(EXIT_CODES));
    // `help` is clap's own.
    for subcommand in command
        .get_subcommands_mut()
        .filter(|subcommand| subcommand.get_name() != "help")
    {
        assert!(
            subcommand.render_help().to_string().contains(EXIT_CODES),
            "{}",
            subcommand.get_name()
        );
    }
}

#[test]
fn an_error_is_one_line_and_its_causes() {
    let error = anyhow::Error::new(io::Error::other("no such device")).context("cannot open the tap; load the module");
    assert_eq!(
        describe(&error),
        "shim6: cannot open the tap; load the module\n  because: no such device\n"
    );
}

#[test]
fn mistakes_of_the_user_and_failures_have_their_own_exit_codes() {
    let code = |error: anyhow::Error| format!("{:?}", report(&error));
    let config = crate::config::Config::parse("tun = 3", std::path::Path::new("shim6.toml")).expect_err("a wrong type");
    assert_eq!(code(config.into()), format!("{:?}", ExitCode::from(2)));
    assert_eq!(
        code(UsageError("--log: no".to_owned()).into()),
        format!("{:?}", ExitCode::from(2))
    );
    let absent = ControlError::NotRunning {
        path: PathBuf::from(DEFAULT_SOCKET),
    };
    assert_eq!(code(absent.into()), format!("{:?}", ExitCode::from(1)));
}

#[test]
fn only_a_closed_pipe_is_passed_over() {
    let error = |kind| anyhow::Error::new(io::Error::from(kind)).context("cannot print");
    assert!(is_closed_pipe(&error(io::ErrorKind::BrokenPipe)));
    assert!(!is_closed_pipe(&error(io::ErrorKind::PermissionDenied)));
}

#[test]
fn a_client_runs_with_time_and_io() {
    block_on(async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(())
    })
    .expect("a runtime");
}
