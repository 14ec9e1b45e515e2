//! User and network namespaces: entering them, in this process or in a child between fork and exec.
//!
//! Everything that runs between fork and exec is async-signal-safe: no allocation, no locks, only
//! system calls on data prepared before the fork.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::{set_dumpable, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid, getppid, pipe2, write};

/// What was being done when isolation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// `unshare(CLONE_NEWUSER)`.
    UserNamespace = 1,
    /// Writing `setgroups`, `uid_map` and `gid_map` of the new user namespace.
    IdMaps,
    /// `unshare(CLONE_NEWNET)`.
    NetworkNamespace,
    /// Asking for a signal at the parent's death.
    DeathSignal,
    /// Setting the loopback interface up.
    Loopback,
    /// Opening a network setting below `/proc/sys/net/ipv6` for writing.
    Sysctl,
    /// Creating a pair of virtual Ethernet interfaces.
    Veth,
    /// Creating a TUN device.
    Tun,
}

impl Step {
    const ALL: [Self; 8] = [
        Self::UserNamespace,
        Self::IdMaps,
        Self::NetworkNamespace,
        Self::DeathSignal,
        Self::Loopback,
        Self::Sysctl,
        Self::Veth,
        Self::Tun,
    ];

    fn from_octet(octet: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as u8 == octet)
    }
}

/// A step of isolation and the kernel's answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The step that failed.
    pub step: Step,
    /// Why.
    pub errno: Errno,
}

/// Why a child could not be started.
#[derive(Debug)]
pub enum SpawnError {
    /// The child could not be isolated.
    Refused(Refused),
    /// The program could not be started.
    Io(io::Error),
}

/// Moves the calling process into new user and network namespaces, where the caller is root, and
/// sets the loopback interface up.
///
/// # Errors
/// The step that the kernel refused. `EINVAL` from [`Step::UserNamespace`] when the process has
/// more than one thread.
pub fn isolate() -> Result<(), Refused> {
    IdMaps::of_caller().isolate()
}

/// Moves the calling thread, and the threads that it starts, into a new network namespace and sets the loopback interface up there. The
/// caller stays who it is: without privileges this is refused.
///
/// # Errors
/// The step that the kernel refused.
pub fn isolate_network() -> Result<(), Refused> {
    at(Step::NetworkNamespace, unshare(CloneFlags::CLONE_NEWNET))?;
    at(Step::Loopback, loopback_up())
}

/// Tries in a forked child everything that a lab needs: both namespaces, settings, virtual
/// Ethernet, TUN.
///
/// # Errors
/// Outer: the child could not be made or asked. Inner: the first step that failed.
pub fn probe() -> io::Result<Result<(), Refused>> {
    let maps = IdMaps::of_caller();
    let (mut reader, writer) = report_pipe()?;
    // SAFETY: the child only makes system calls on data prepared above, then `_exit`s.
    match unsafe { fork() }? {
        ForkResult::Child => {
            if let Err(refused) = maps.isolate().and_then(|()| try_devices()) {
                refused.report(writer.as_fd());
            }
            // SAFETY: `_exit` is async-signal-safe and runs no handlers of the parent's.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let answer = read_report(&mut reader);
            while waitpid(child, None) == Err(Errno::EINTR) {}
            Ok(answer?.map_or(Ok(()), Err))
        }
    }
}

/// Starts `command` in new user and network namespaces of its own, as root there, with loopback
/// up. The child is killed (`SIGKILL`) when the calling *thread* ends.
///
/// # Errors
/// The refused step, or why the program did not start.
pub fn spawn_isolated(command: Command) -> Result<Child, SpawnError> {
    let maps = IdMaps::of_caller();
    spawn_after(command, move || maps.isolate())
}

/// Starts `command` in a new network namespace of its own, with loopback up, as the user that the caller is. The child is killed
/// (`SIGKILL`) when the calling *thread* ends.
///
/// # Errors
/// The refused step, or why the program did not start.
pub fn spawn_in_network(command: Command) -> Result<Child, SpawnError> {
    spawn_after(command, isolate_network)
}

/// Starts `command` in a child that `isolate` has isolated, with nothing but system calls on data that it owns.
fn spawn_after(
    mut command: Command,
    isolate: impl Fn() -> Result<(), Refused> + Send + Sync + 'static,
) -> Result<Child, SpawnError> {
    let parent = Pid::this();
    let (mut reader, writer) = report_pipe().map_err(SpawnError::Io)?;
    let enter = move || {
        // The death signal comes last: a change of credentials clears it.
        isolate()
            .and_then(|()| die_with_parent(parent, Signal::SIGKILL))
            .map_err(|refused| {
                refused.report(writer.as_fd());
                io::Error::from(refused.errno)
            })
    };
    // SAFETY: the closure makes system calls on data prepared before the fork, nothing else.
    let outcome = unsafe { command.pre_exec(enter) }.spawn();
    // The command owns the write end of the pipe.
    drop(command);
    outcome.map_err(|error| explain(error, &mut reader))
}

/// Why a child did not start: by what it reported, or else by what the system says.
fn explain(error: io::Error, report: &mut std::fs::File) -> SpawnError {
    match read_report(report) {
        Ok(Some(refused)) => SpawnError::Refused(refused),
        _ => SpawnError::Io(error),
    }
}

/// Makes `command`'s child enter the network namespace `netns` and get `SIGTERM` when the thread
/// that starts it ends.
pub fn enter_on_exec(command: &mut Command, netns: Arc<OwnedFd>) {
    let parent = Pid::this();
    let enter = move || {
        setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
        die_with_parent(parent, Signal::SIGTERM).map_err(|refused| refused.errno)?;
        Ok(())
    };
    // SAFETY: the closure makes three system calls and touches no memory but its own captures.
    unsafe { command.pre_exec(enter) };
}

/// Sets the loopback interface of the calling thread's network namespace up.
///
/// # Errors
/// The kernel's answer.
pub fn loopback_up() -> Result<(), Errno> {
    let socket = socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request = interface_request(b"lo");
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a valid, NUL-terminated `ifreq` that outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) }).map(drop)
}

impl Refused {
    /// Tells the parent: one octet for the step, four for the error number.
    fn report(self, pipe: BorrowedFd<'_>) {
        let mut message = [self.step as u8; 5];
        message[1..].copy_from_slice(&(self.errno as i32).to_ne_bytes());
        // Nothing can be done in the child if this fails; the parent then sees its exit alone.
        let _ = write(pipe, &message);
    }
}

/// The identity maps of a user namespace whose root is the caller, prepared before a fork.
struct IdMaps {
    uid: Vec<u8>,
    gid: Vec<u8>,
}

impl IdMaps {
    fn of_caller() -> Self {
        Self {
            uid: format!("0 {} 1\n", geteuid()).into_bytes(),
            gid: format!("0 {} 1\n", getegid()).into_bytes(),
        }
    }

    fn isolate(&self) -> Result<(), Refused> {
        at(Step::UserNamespace, unshare(CloneFlags::CLONE_NEWUSER))?;
        // The files below /proc/self belong to the real root while a process is not dumpable,
        // and could then not be written.
        at(Step::IdMaps, set_dumpable(true))?;
        at(Step::IdMaps, put(c"/proc/self/setgroups", b"deny"))?;
        at(Step::IdMaps, put(c"/proc/self/uid_map", &self.uid))?;
        at(Step::IdMaps, put(c"/proc/self/gid_map", &self.gid))?;
        isolate_network()
    }
}

fn at<T>(step: Step, result: Result<T, Errno>) -> Result<T, Refused> {
    result.map_err(|errno| Refused { step, errno })
}

fn put(path: &CStr, text: &[u8]) -> Result<(), Errno> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    write(&file, text).map(drop)
}

/// Asks for `signal` when the parent's thread ends, and notices a parent that is already gone.
fn die_with_parent(parent: Pid, signal: Signal) -> Result<(), Refused> {
    at(Step::DeathSignal, set_pdeathsig(signal))?;
    if getppid() == parent {
        Ok(())
    } else {
        at(Step::DeathSignal, Err(Errno::ESRCH))
    }
}

fn report_pipe() -> io::Result<(std::fs::File, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    Ok((reader.into(), writer))
}

fn read_report(pipe: &mut std::fs::File) -> io::Result<Option<Refused>> {
    let mut message = [0; 5];
    match pipe.read_exact(&mut message) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let [step, errno @ ..] = message;
    let step = Step::from_octet(step).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let errno = Errno::from_raw(i32::from_ne_bytes(errno));
    Ok(Some(Refused { step, errno }))
}

/// What a lab needs inside its namespaces.
fn try_devices() -> Result<(), Refused> {
    let forwarding = c"/proc/sys/net/ipv6/conf/all/forwarding";
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    at(Step::Sysctl, open(forwarding, flags, Mode::empty()))?;
    at(Step::Veth, try_veth())?;
    at(Step::Tun, try_tun())
}

/// Creates a veth pair with names of the kernel's choice; it goes with the namespace.
fn try_veth() -> Result<(), Errno> {
    const HEADERS: usize = 16 + 16; // nlmsghdr, ifinfomsg
    const LENGTH: usize = HEADERS + 4 + 4 + 8; // IFLA_LINKINFO { IFLA_INFO_KIND "veth\0" }
    let mut request = [0; LENGTH];
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    request[..4].copy_from_slice(&(LENGTH as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&(flags as u16).to_ne_bytes());
    request[HEADERS..][..2].copy_from_slice(&16_u16.to_ne_bytes());
    request[HEADERS + 2..][..2].copy_from_slice(&libc::IFLA_LINKINFO.to_ne_bytes());
    request[HEADERS + 4..][..2].copy_from_slice(&9_u16.to_ne_bytes());
    request[HEADERS + 6..][..2].copy_from_slice(&libc::IFLA_INFO_KIND.to_ne_bytes());
    request[HEADERS + 8..][..4].copy_from_slice(b"veth");

    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // The answer is an NLMSG_ERROR: after the header, a negated error number or zero.
    match answer[..length] {
        [_, _, _, _, 2, 0, _, _, _, _, _, _, _, _, _, _, a, b, c, d, ..] => match i32::from_ne_bytes([a, b, c, d]) {
            0 => Ok(()),
            negated => Err(Errno::from_raw(negated.wrapping_neg())),
        },
        _ => Err(Errno::EPROTO),
    }
}

fn try_tun() -> Result<(), Errno> {
    let tun = open(c"/dev/net/tun", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut request = interface_request(b"");
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request is a valid `ifreq` that outlives the call; the kernel writes a name in it.
    Errno::result(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &mut request) }).map(drop)
}

fn interface_request(name: &[u8]) -> libc::ifreq {
    // SAFETY: `ifreq` is plain data of the C library, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{enter_user_namespace, skip, support};

    #[test]
    fn a_process_with_one_thread_enters_and_is_root() {
        if let Err(why) = support() {
            skip("a_process_with_one_thread_enters_and_is_root", why);
            return;
        }
        // Test binaries always have threads; the child of a fork has one.
        let mut command = Command::new("sh");
        command.args(["-c", "cat /proc/self/uid_map /proc/net/dev"]);
        let enter = || enter_user_namespace().map_err(|_| io::ErrorKind::Other.into());
        // SAFETY: it allocates, which the C libraries of Linux allow in a fork of a threaded process;
        // it takes no other lock.
        let output = unsafe { command.pre_exec(enter) }.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let map: Vec<_> = said.split_whitespace().take(3).collect();
        assert_eq!(map, ["0", &geteuid().to_string(), "1"]);
        let interfaces = said.lines().filter(|line| line.contains(": ")).count();
        assert_eq!(interfaces, 1, "{said}");
    }
}
