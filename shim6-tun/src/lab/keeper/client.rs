//! The end of a keeper's socket that asks. It starts no thread, so that the process can still enter namespaces.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};

use super::directory::{Directory, is_alive};
use super::wire::{Entrance, MAX_LINE, Reply, Request};
use crate::lab::{Break, LabError, LabStatus};

/// What a keeper says when its lab is up.
pub(super) const READY: &str = "ready";

/// A lab that stays up between commands.
#[derive(Clone, Debug)]
pub struct Keeper {
    name: String,
    socket: PathBuf,
}

/// The way into a node of a lab.
#[derive(Debug)]
pub struct Way {
    /// Those to enter, in this order.
    namespaces: Vec<(File, CloneFlags)>,
    lab: String,
    node: String,
}

impl Keeper {
    /// The lab of this name; the only one that is up if none is given. It need not be up.
    ///
    /// # Errors
    /// The name is none, or it is not clear which one is meant.
    pub fn find(directory: &Directory, name: Option<&str>) -> Result<Self, LabError> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => match &directory.names()?[..] {
                [only] => only.clone(),
                [] => {
                    return Err(LabError::Keeper(
                        "no lab is up; begin with `shim6 lab up FILE`".to_owned(),
                    ));
                }
                several => {
                    let names = several.join(", ");
                    return Err(LabError::Keeper(format!(
                        "several labs are up: {names}; say which with --name NAME"
                    )));
                }
            },
        };
        let socket = directory.socket(&name)?;
        Ok(Self { name, socket })
    }

    /// The lab's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts a lab: `command` is a program that calls [`keep`](super::keep), and is given the description. When this returns, packets
    /// pass, and the program runs on in the background.
    ///
    /// # Errors
    /// A lab of this name is up, or what the program says.
    pub fn start(&self, mut command: Command, description: &str) -> Result<(), LabError> {
        if is_alive(&self.socket) {
            let name = &self.name;
            return Err(LabError::Keeper(format!(
                "the lab {name:?} is up already; end it with `shim6 lab down --name {name}`, or give this one another --name"
            )));
        }
        let failed = |error: io::Error| LabError::keeper("cannot start the lab's keeper", error);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Ctrl-C of the terminal is not for it.
        command.process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            // If it does not read, it says why.
            let _ = input.write_all(description.as_bytes());
        }
        let mut said = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut said).map_err(failed)?;
        }
        if said.trim() == READY {
            return Ok(());
        }
        let mut why = String::new();
        if let Some(mut errors) = child.stderr.take() {
            errors.read_to_string(&mut why).map_err(failed)?;
        }
        let status = child.wait().map_err(failed)?;
        let why = why.trim();
        Err(LabError::Keeper(if why.is_empty() {
            format!("the lab's keeper ended: {status}")
        } else {
            why.to_owned()
        }))
    }

    /// What is there.
    ///
    /// # Errors
    /// The lab is not up.
    pub fn status(&self) -> Result<LabStatus, LabError> {
        match self.ask(&Request::Status)?.0 {
            Reply::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Changes what happens to the packets of a link: `delay=20ms`. Without a direction, in both; else `up`, `down` or a node, whose
    /// packets are meant.
    ///
    /// # Errors
    /// The lab is not up, or something is not understood.
    pub fn set(&self, link: &str, direction: Option<&str>, settings: &[String]) -> Result<(), LabError> {
        self.done(&Request::Set {
            link: link.to_owned(),
            direction: direction.map(str::to_owned),
            settings: settings.to_vec(),
        })
    }

    /// Breaks a link.
    ///
    /// # Errors
    /// As for [`Keeper::set`].
    pub fn cut(&self, link: &str, direction: Option<&str>, how: Break) -> Result<(), LabError> {
        self.done(&Request::Break {
            link: link.to_owned(),
            direction: direction.map(str::to_owned),
            how,
        })
    }

    /// Heals a link, or all of them.
    ///
    /// # Errors
    /// As for [`Keeper::set`].
    pub fn heal(&self, link: Option<&str>) -> Result<(), LabError> {
        let link = link.map(str::to_owned);
        self.done(&Request::Heal { link })
    }

    /// Captures what enters a link: a stream in the format pcapng.
    ///
    /// # Errors
    /// As for [`Keeper::set`].
    pub fn capture(&self, link: &str) -> Result<impl Read + use<>, LabError> {
        let link = link.to_owned();
        let (_, stream) = self.ask(&Request::Capture { link })?;
        Ok(stream)
    }

    /// The way into a node.
    ///
    /// # Errors
    /// The lab is not up, there is no such node, or this user may not enter it.
    pub fn enter(&self, node: &str) -> Result<Way, LabError> {
        let node = node.to_owned();
        let reply = self.ask(&Request::Enter { node: node.clone() })?.0;
        let Reply::Enter(entrance) = reply else {
            return Err(unexpected(&reply));
        };
        let Entrance {
            user,
            network,
            mount,
            names,
        } = entrance;
        let ways = [
            (user, CloneFlags::CLONE_NEWUSER),
            (mount, CloneFlags::CLONE_NEWNS),
            (names, CloneFlags::CLONE_NEWUTS),
            (Some(network), CloneFlags::CLONE_NEWNET),
        ];
        let mut namespaces = Vec::new();
        for (path, kind) in ways.into_iter().filter_map(|(path, kind)| Some((path?, kind))) {
            // Entering one of them changes what the paths of the others lead to.
            let file = OpenOptions::new().read(true).open(&path);
            let file = file.map_err(|error| LabError::keeper(format_args!("cannot enter {node:?}: {path}"), error))?;
            namespaces.push((file, kind));
        }
        Ok(Way {
            namespaces,
            lab: self.name.clone(),
            node,
        })
    }

    /// Ends the lab, and says how many processes were ended with it.
    ///
    /// # Errors
    /// The lab is not up.
    pub fn down(&self) -> Result<usize, LabError> {
        match self.ask(&Request::Down)?.0 {
            Reply::Down { processes } => Ok(processes),
            other => Err(unexpected(&other)),
        }
    }

    fn done(&self, request: &Request) -> Result<(), LabError> {
        match self.ask(request)?.0 {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&self, request: &Request) -> Result<(Reply, impl Read + use<>), LabError> {
        let name = &self.name;
        let failed = |error: io::Error| LabError::keeper(format_args!("the lab {name:?} does not answer"), error);
        let mut stream = UnixStream::connect(&self.socket).map_err(|_| {
            LabError::Keeper(format!(
                "no lab {name:?} is up; `shim6 lab list` shows those that are, `shim6 lab up` begins one"
            ))
        })?;
        let line = serde_json::to_string(request).map_err(|error| failed(error.into()))?;
        stream.write_all(format!("{line}\n").as_bytes()).map_err(failed)?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        (&mut stream).take(MAX_LINE).read_line(&mut line).map_err(failed)?;
        match serde_json::from_str(&line) {
            Ok(Reply::Error(why)) => Err(LabError::Keeper(why)),
            Ok(reply) => Ok((reply, stream)),
            Err(_) => Err(LabError::Keeper(format!("the lab {name:?} ended before it answered"))),
        }
    }
}

impl Way {
    /// Replaces this process by a program that runs in the node, in the same working directory, as the same user: who has brought the
    /// lab up is root there. Returns only if that fails.
    ///
    /// The process may have one thread only.
    pub fn exec(self, program: &OsStr, arguments: &[impl AsRef<OsStr>]) -> LabError {
        let directory = std::env::current_dir();
        for (namespace, kind) in &self.namespaces {
            if let Err(errno) = setns(namespace, *kind) {
                return LabError::keeper(format_args!("cannot enter {:?}", self.node), errno);
            }
        }
        // Entering a mount namespace leads to its root.
        if let Ok(directory) = directory {
            let _ = std::env::set_current_dir(directory);
        }
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("SHIM6_LAB", &self.lab)
            .env("SHIM6_LAB_NODE", &self.node);
        let program = program.to_string_lossy();
        LabError::keeper(format_args!("cannot run {program} on {:?}", self.node), command.exec())
    }
}

fn unexpected(reply: &Reply) -> LabError {
    LabError::keeper(
        "the lab's keeper is of another version; end it and begin again",
        format_args!("{reply:?}"),
    )
}
