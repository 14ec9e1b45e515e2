//! Getting into namespaces where an ordinary user is root.

use std::fs;
use std::process::{Child, Command, ExitStatus};

use super::LabError;
use crate::sys::netns::{SpawnError, isolate, isolate_network, probe, spawn_in_network, spawn_isolated};

/// Moves this process into user and network namespaces of its own, where it is root and has
/// nothing but a loopback interface.
///
/// To be called first of all in `main`: the kernel allows it only to a process with one thread.
///
/// # Errors
/// [`LabError::Threads`] when called too late, [`LabError::Unsupported`] when refused.
pub fn enter_user_namespace() -> Result<(), LabError> {
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(threads) if threads > 1 => Err(LabError::Threads { threads }),
        _ => Ok(isolate()?),
    }
}

/// Moves this process into a network namespace of its own, as the user that it is. Only root may: a daemon in a lab has then the
/// privileges that it has in service, and may for example use eBPF.
///
/// To be called first of all in `main`, as [`enter_user_namespace`].
///
/// # Errors
/// As for [`enter_user_namespace`].
pub fn enter_network_namespace() -> Result<(), LabError> {
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(threads) if threads > 1 => Err(LabError::Threads { threads }),
        _ => Ok(isolate_network()?),
    }
}

/// Whether a lab can be built by this user on this machine: tried in a forked child, which leaves
/// nothing behind.
///
/// # Errors
/// [`LabError::Unsupported`] says what was refused and what to enable.
pub fn support() -> Result<(), LabError> {
    let tried = probe().map_err(|source| LabError::Run {
        program: "a forked child".to_owned(),
        source,
    })?;
    Ok(tried?)
}

/// Runs `command` in user and network namespaces of its own and waits for it; for programs with
/// threads, such as test binaries, that cannot use [`enter_user_namespace`]. The child is killed
/// when the calling thread ends.
///
/// # Errors
/// [`LabError::Unsupported`] when the namespaces are refused, [`LabError::Run`] when the program
/// cannot be started.
pub fn reexec(command: Command) -> Result<ExitStatus, LabError> {
    run(command, spawn_isolated)
}

/// As [`reexec`], in a network namespace alone: only root may do that.
pub(super) fn reexec_as_root(command: Command) -> Result<ExitStatus, LabError> {
    run(command, spawn_in_network)
}

fn run(command: Command, spawn: fn(Command) -> Result<Child, SpawnError>) -> Result<ExitStatus, LabError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = spawn(command).map_err(|error| LabError::spawn(program.clone(), error))?;
    child
        .wait()
        .map_err(|error| LabError::spawn(program, SpawnError::Io(error)))
}
