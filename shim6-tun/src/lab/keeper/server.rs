//! The process that keeps a lab up.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, geteuid, setsid};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::client::READY;
use super::directory::{Directory, is_alive};
use super::leftovers;
use super::surroundings::Surroundings;
use super::wire::{Entrance, MAX_LINE, Reply, Request};
use crate::lab::{
    Capture, CaptureWriter, Description, Direction, Lab, LabError, LabLink, Setting, enter_network_namespace,
    enter_user_namespace,
};

/// How often a capture looks whether anybody reads it.
const LOOK: Duration = Duration::from_millis(100);
/// Largest description, in octets.
const MAX_DESCRIPTION: u64 = 1 << 20;

/// Brings up the lab that is described on standard input, says so on standard output, and keeps it up in the background until it is told to
/// end, by [`Keeper::down`](super::Keeper::down) or `SIGTERM`. For [`Keeper::start`](super::Keeper::start).
///
/// Has to be called while the process has one thread.
///
/// # Errors
/// The lab cannot be brought up; or a lab of this name is up.
pub fn keep(directory: &Directory, name: &str) -> Result<(), LabError> {
    let failed = |error: io::Error| LabError::keeper("cannot keep the lab", error);
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(MAX_DESCRIPTION)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let description = Description::parse(Path::new("standard input"), &text);
    let description = description.map_err(|error| LabError::Description(error.to_string()))?;
    let socket = directory.socket(name)?;
    // Root's own network namespaces allow more than those of a user namespace: eBPF, for one.
    let in_user_namespace = !geteuid().is_root() || enter_network_namespace().is_err();
    if in_user_namespace {
        enter_user_namespace()?;
    }
    // It may lead a group already, if not a session.
    let _ = setsid();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.map_err(failed)?.block_on(async {
        let lab = Lab::up(&description).await?;
        let listener = bind(directory, &socket)?;
        let served = Arc::new(Served::new(lab, in_user_namespace).await?);
        let ended = serve(&served, &listener).await;
        // Nobody shall find it any more who could not be answered.
        drop(fs::remove_file(&socket));
        drop((listener, served));
        if let Some((processes, mut stream)) = ended.map_err(failed)? {
            // Who has asked for the end hears of it when nothing is left.
            drop(tell(&mut stream, &Reply::Down { processes }).await);
        }
        Ok(())
    })
}

/// Takes the socket, unless somebody answers there.
fn bind(directory: &Directory, socket: &Path) -> Result<UnixListener, LabError> {
    let _lock = directory.lock()?;
    if is_alive(socket) {
        return Err(LabError::keeper(
            socket.display(),
            "a lab of this name came up meanwhile",
        ));
    }
    drop(fs::remove_file(socket));
    UnixListener::bind(socket)
        .map_err(|error| LabError::keeper(format_args!("cannot listen in {}", directory.path().display()), error))
}

/// Says that the lab is up, and lets go of the terminal.
fn detach() -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{READY}")?;
    output.flush()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    std::env::set_current_dir("/")
}

struct Served {
    lab: Lab,
    surroundings: Vec<Option<Surroundings>>,
    in_user_namespace: bool,
}

/// Who has asked for the end, and how many processes were ended.
type End = (usize, UnixStream);

/// Answers until somebody asks for the end.
async fn serve(served: &Arc<Served>, listener: &UnixListener) -> io::Result<Option<End>> {
    let mut terminate = signal(SignalKind::terminate())?;
    // It has no terminal, and none that hangs up concerns it.
    let _hangups = signal(SignalKind::hangup())?;
    let (end, mut ended) = mpsc::channel(1);
    detach()?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                tokio::spawn(answer(Arc::clone(served), stream, end.clone()));
            }
            _ = terminate.recv() => {
                end_processes(served).await;
                return Ok(None);
            }
            asked = ended.recv() => return Ok(asked),
        }
    }
}

async fn end_processes(served: &Arc<Served>) -> usize {
    let served = Arc::clone(served);
    let ended = tokio::task::spawn_blocking(move || leftovers::end(&served.lab)).await;
    ended.unwrap_or(0)
}

/// Takes one request. A client that goes away is none of the lab's business.
async fn answer(served: Arc<Served>, stream: UnixStream, end: mpsc::Sender<End>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if (&mut stream).take(MAX_LINE).read_line(&mut line).await.is_err() || line.is_empty() {
        return;
    }
    let mut stream = stream.into_inner();
    let reply = match serde_json::from_str(&line) {
        Ok(Request::Down) => {
            let processes = end_processes(&served).await;
            drop(served);
            let _ = end.send((processes, stream)).await;
            return;
        }
        Ok(Request::Capture { link }) => match served.capture(&link) {
            Ok((capture, directions)) => {
                drop(served);
                let told = tell(&mut stream, &Reply::Done).await;
                if let (Ok(()), Ok(stream)) = (told, stream.into_std()) {
                    tokio::task::spawn_blocking(move || drop(stream_capture(&stream, &capture, &directions)));
                }
                return;
            }
            Err(error) => Err(error),
        },
        Ok(request) => served.handle(request).await,
        Err(error) => Err(LabError::keeper("the request is not understood", error)),
    };
    let reply = reply.unwrap_or_else(|error| Reply::Error(error.to_string()));
    drop(tell(&mut stream, &reply).await);
}

async fn tell(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let line = serde_json::to_string(reply)?;
    stream.write_all(format!("{line}\n").as_bytes()).await
}

impl Served {
    async fn new(lab: Lab, in_user_namespace: bool) -> Result<Self, LabError> {
        let hosts = hosts(&lab).await?;
        let make = |node: &crate::lab::LabNode| Surroundings::new(node.namespace(), &hosts).ok();
        let surroundings = lab.nodes().iter().map(make).collect();
        Ok(Self {
            lab,
            surroundings,
            in_user_namespace,
        })
    }

    async fn handle(&self, request: Request) -> Result<Reply, LabError> {
        match request {
            Request::Status => return Ok(Reply::Status(self.lab.status().await?)),
            Request::Enter { node } => return self.entrance(&node).map(Reply::Enter),
            Request::Set {
                link,
                direction,
                settings,
            } => {
                let link = self.lab.link(&link)?;
                let parsed: Result<Vec<Setting>, String> = settings.iter().map(|setting| setting.parse()).collect();
                let settings = parsed.map_err(LabError::Keeper)?;
                link.set(&directions(link, direction.as_deref())?, &settings).await?;
            }
            Request::Break { link, direction, how } => {
                let link = self.lab.link(&link)?;
                link.cut(how, &directions(link, direction.as_deref())?).await?;
            }
            Request::Heal { link: Some(link) } => self.lab.link(&link)?.heal().await?,
            Request::Heal { link: None } => {
                for link in self.lab.links() {
                    link.heal().await?;
                }
            }
            Request::Capture { .. } | Request::Down => {}
        }
        Ok(Reply::Done)
    }

    fn entrance(&self, node: &str) -> Result<Entrance, LabError> {
        let network = self.lab.node(node)?.namespace();
        let number = self
            .lab
            .nodes()
            .iter()
            .position(|other| other.name() == node)
            .unwrap_or_default();
        let process = std::process::id();
        let path = |descriptor: i32| format!("/proc/{process}/fd/{descriptor}");
        let surroundings = self.surroundings.get(number).and_then(Option::as_ref);
        let of = |which: fn(&Surroundings) -> &File| surroundings.map(|own| path(which(own).as_raw_fd()));
        Ok(Entrance {
            user: self.in_user_namespace.then(|| format!("/proc/{process}/ns/user")),
            network: path(std::os::fd::AsFd::as_fd(network).as_raw_fd()),
            mount: of(|own| &own.mount),
            names: of(|own| &own.names),
        })
    }

    /// A capture and the names of its directions.
    fn capture(&self, link: &str) -> Result<(Capture, [String; 2]), LabError> {
        let link = self.lab.link(link)?;
        let directions = link.ends().map(|end| format!("{} from {end}", link.name()));
        Ok((link.capture()?, directions))
    }
}

/// The directions that are meant by `up`, `down`, the name of the node that sends, or nothing.
fn directions(link: &LabLink, named: Option<&str>) -> Result<Vec<Direction>, LabError> {
    let [first, second] = link.ends();
    match named {
        None | Some("both") => Ok(Direction::ALL.to_vec()),
        Some("up") => Ok(vec![Direction::Up]),
        Some("down") => Ok(vec![Direction::Down]),
        Some(node) if node == first => Ok(vec![Direction::Up]),
        Some(node) if node == second => Ok(vec![Direction::Down]),
        Some(other) => Err(LabError::Keeper(format!(
            "the link {:?} has no direction {other:?}; expected up or {first} for what {first} sends, down or {second} for what {second} \
             sends, or both",
            link.name()
        ))),
    }
}

/// `/etc/hosts` for all nodes: each host by its name, and by its name and interface.
async fn hosts(lab: &Lab) -> Result<String, LabError> {
    let mut text = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    for node in lab.status().await?.nodes {
        let name = &node.name;
        for (interface, address) in &node.addresses {
            text += &format!("{address} {name} {name}.{interface}\n");
        }
    }
    Ok(text)
}

/// Writes frames as they come until nobody reads, or the lab ends.
fn stream_capture(stream: &StdStream, capture: &Capture, directions: &[String; 2]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    // A reader that has stopped must not keep this thread, which the end of the lab waits for.
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    stream.set_read_timeout(Some(Duration::from_micros(1)))?;
    let [up, down] = directions;
    let mut writer = CaptureWriter::new(stream, [up, down])?;
    let mut missed = 0;
    loop {
        match capture.next_within(LOOK) {
            Ok(Some(mut frame)) => {
                let more = capture.missed() - missed;
                if more > 0 {
                    missed += more;
                    let remark = frame
                        .remark
                        .take()
                        .map_or_else(String::new, |remark| format!("; {remark}"));
                    frame.remark = Some(format!("{more} frames are missing before this one{remark}"));
                }
                writer.write(&frame)?;
            }
            Ok(None) => {
                let mut reader = stream;
                match reader.read(&mut [0]) {
                    Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                    _ => return Ok(()),
                }
            }
            Err(_) => return Ok(()),
        }
    }
}
