//! Namespaces, and processes in them.

use std::env;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;

use super::traffic::soon;
use crate::lab::{LabError, Namespace, enter_user_namespace, isolated, reexec, skip, support};

/// Tells a test that was executed again how to crash.
const ROLE: &str = "SHIM6_TEST_ROLE";

#[test]
fn a_new_namespace_has_nothing_but_loopback() {
    isolated(
        "lab::tests::isolation::a_new_namespace_has_nothing_but_loopback",
        || async {
            let namespace = Namespace::new("fresh").unwrap();
            assert_eq!(namespace.name(), "fresh");
            let netlink = namespace.netlink().unwrap();
            let links = netlink.links().await.unwrap();
            assert_eq!(links.len(), 1, "{links:?}");
            assert!(links[0].loopback && links[0].up);
        },
    );
}

#[test]
fn code_and_programs_run_inside_the_namespace_and_the_caller_stays_outside() {
    isolated(
        "lab::tests::isolation::code_and_programs_run_inside_the_namespace_and_the_caller_stays_outside",
        || async {
            let here = || fs::read_link("/proc/thread-self/ns/net").unwrap();
            let namespace = Namespace::new("inside").unwrap();
            let outside = here();
            let inside = namespace.run(here).unwrap();
            assert_ne!(inside, outside);
            assert_eq!(here(), outside);

            let mut child = namespace
                .command("sh")
                .args(["-c", "read line"])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let of_child = fs::read_link(format!("/proc/{}/ns/net", child.id())).unwrap();
            assert_eq!(of_child, inside);
            drop(child.stdin.take());
            child.wait().unwrap();
        },
    );
}

#[test]
fn a_panic_inside_goes_on_in_the_caller() {
    isolated(
        "lab::tests::isolation::a_panic_inside_goes_on_in_the_caller",
        || async {
            let namespace = Namespace::new("panics").unwrap();
            let run = || namespace.run(|| std::panic::panic_any(7_u8));
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&7_u8));
        },
    );
}

#[test]
fn a_program_ends_with_the_thread_that_started_it() {
    isolated(
        "lab::tests::isolation::a_program_ends_with_the_thread_that_started_it",
        || async {
            let namespace = Namespace::new("short").unwrap();
            let start = || {
                let mut command = namespace.command("sh");
                command.args(["-c", "read line"]).stdin(Stdio::piped());
                command.spawn().unwrap()
            };
            let mut child = thread::scope(|scope| scope.spawn(start).join().unwrap());
            // Its standard input is still open: only the signal can end it.
            let status = tokio::task::spawn_blocking(move || {
                let stdin = child.stdin.take();
                let status = child.wait().unwrap();
                drop(stdin);
                status
            });
            let status = soon(status).await.unwrap();
            assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
        },
    );
}

#[test]
fn no_program_outlives_a_crashed_process() {
    let name = "lab::tests::isolation::no_program_outlives_a_crashed_process";
    isolated(name, || async {
        // The program crashes the process that started it, and then waits for ever.
        let program = ["-c", "kill -ABRT $PPID; read line"];
        match env::var(ROLE).as_deref() {
            Ok("command") => {
                let namespace = Namespace::new("crashing").unwrap();
                namespace.command("sh").args(program).status().unwrap();
            }
            Ok(_) => {
                let mut command = Command::new("sh");
                command.args(program);
                reexec(command).unwrap();
            }
            Err(_) => {
                for role in ["command", "reexec"] {
                    crash(name, role).await;
                }
            }
        }
    });
}

#[test]
fn a_process_with_threads_cannot_enter() {
    thread::scope(|scope| {
        let (end, ended) = mpsc::channel::<()>();
        scope.spawn(move || ended.recv());
        let error = enter_user_namespace().unwrap_err();
        assert!(matches!(error, LabError::Threads { threads } if threads >= 2));
        assert!(error.to_string().contains("first of all in main"));
        drop(end);
    });
}

#[test]
fn a_refusal_names_the_setting_to_change() {
    isolated(
        "lab::tests::isolation::a_refusal_names_the_setting_to_change",
        || async {
            support().unwrap();
            for setting in ["max_net_namespaces", "max_user_namespaces"] {
                fs::write(format!("/proc/sys/user/{setting}"), "0").unwrap();
                for refused in [support().unwrap_err(), reexec(Command::new("true")).unwrap_err()] {
                    let said = refused.to_string();
                    assert!(matches!(refused, LabError::Unsupported { .. }), "{said}");
                    assert!(said.contains(&format!("user.{setting}=")), "{said}");
                }
            }
            let error = Namespace::new("refused").unwrap_err();
            assert!(error.to_string().contains("`refused`"), "{error}");
        },
    );
}

#[test]
fn a_program_that_is_missing_is_told_from_a_refusal() {
    isolated(
        "lab::tests::isolation::a_program_that_is_missing_is_told_from_a_refusal",
        || async {
            match reexec(Command::new("/nonexistent/program")).unwrap_err() {
                LabError::Run { program, source } => {
                    assert_eq!(program, "/nonexistent/program");
                    assert_eq!(source.kind(), io::ErrorKind::NotFound);
                }
                other => panic!("{other}"),
            }
        },
    );
}

#[test]
fn a_wrong_test_name_is_noticed() {
    if let Err(why) = support() {
        return skip("lab::tests::isolation::a_wrong_test_name_is_noticed", why);
    }
    let wrong = || isolated("lab::tests::isolation::no_such_test", || async {});
    let panic = std::panic::catch_unwind(wrong).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("is not the name"), "{message}");
}

/// Executes the test `name` again in a role in which it crashes, and waits until it and the
/// programs that it started are gone.
async fn crash(name: &str, role: &str) {
    let mut crashing = tokio::process::Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Kept open, so that the program's reading does not end.
    let stdin = crashing.stdin.take();
    // Shared with the program: it ends when both are gone.
    let mut output = Vec::new();
    let mut pipe = crashing.stdout.take().unwrap();
    soon(pipe.read_to_end(&mut output)).await.unwrap();
    drop(stdin);
    let status = soon(crashing.wait()).await.unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{status}");
}
