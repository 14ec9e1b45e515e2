//! A tunnel of userspace WireGuard between the hosts of a lab: another program that moves every packet through a TUN device.
//!
//! `wireguard-go` is driven over its control socket, so that nothing else has to be installed.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv6Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::unistd::{AccessFlags, access};
use shim6_tun::demo::stage::Locators;
use shim6_tun::lab::{Host, Topology};
use shim6_tun::netlink::AddressSpec;
use tokio::time::{Instant, sleep};

const PROGRAM: &str = "wireguard-go";
/// Where it puts its control sockets; it cannot be told otherwise.
const SOCKETS: &str = "/var/run/wireguard";
const PORT: u16 = 51820;
/// A packet in the tunnel grows by 80 octets: IPv6, UDP and 32 of its own.
const MTU: u32 = 1420;
/// How long a program may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// The addresses within the tunnel.
const INSIDE: Locators = [
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xa),
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xb),
];
/// A host's private key, and the public key that follows from it. There is nothing to protect.
const KEYS: [[&str; 2]; 2] = [
    [
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "14ca9e4d387bccf35746e0407daaacc6b28a4f8445ef5a5158894db983e24070",
    ],
    [
        "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        "6b0b616d718e53691236d3be3ce6d44f9d28836426d81305d131f488206f8d2b",
    ],
];

/// Whether there is a program to measure, and it could run.
///
/// # Errors
/// Why not.
pub fn support() -> Result<(), String> {
    let found = env::var_os("PATH").is_some_and(|path| {
        let mut places = env::split_paths(&path).map(|directory| directory.join(PROGRAM));
        places.any(|program| access(&program, AccessFlags::X_OK).is_ok())
    });
    if !found {
        return Err(format!("{PROGRAM} is not installed"));
    }
    let sockets = Path::new(SOCKETS);
    let written = if sockets.exists() {
        Some(sockets)
    } else {
        sockets.parent()
    };
    match written.map(|directory| access(directory, AccessFlags::W_OK)) {
        Some(Ok(())) => Ok(()),
        _ => Err(format!("{PROGRAM} needs to write into {SOCKETS}")),
    }
}

/// A tunnel. Dropping it ends its programs.
#[derive(Debug)]
pub struct Tunnel {
    ends: Vec<End>,
}

#[derive(Debug)]
struct End {
    child: Child,
    socket: PathBuf,
}

impl Drop for End {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

impl Tunnel {
    /// Starts the programs on both hosts and connects them over the first uplinks. To be called on a thread that lives
    /// longer than the tunnel.
    ///
    /// # Errors
    /// A program could not be started, or does not do what it is told.
    pub async fn start(topology: &Topology) -> anyhow::Result<Self> {
        let hosts = [&topology.a, &topology.b];
        let mut ends = Vec::new();
        for (own, host) in hosts.into_iter().enumerate() {
            let peer = 1 - own;
            let [private, _] = KEYS[own];
            let [_, public] = KEYS[peer];
            let endpoint = hosts[peer].uplinks[0].address;
            let settings = format!(
                "set=1\nprivate_key={private}\nlisten_port={PORT}\npublic_key={public}\n\
                 endpoint=[{endpoint}]:{PORT}\nallowed_ip={}/128\n\n",
                INSIDE[peer]
            );
            let end = End::start(host, INSIDE[own], &settings).await;
            ends.push(end.with_context(|| format!("{PROGRAM} on host {}", host.name))?);
        }
        Ok(Self { ends })
    }

    /// The addresses within it.
    #[must_use]
    pub fn addresses(&self) -> Locators {
        INSIDE
    }

    /// The programs' process ids.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.ends.iter().map(|end| end.child.id()).collect()
    }
}

impl End {
    async fn start(host: &Host, address: Ipv6Addr, settings: &str) -> anyhow::Result<Self> {
        // The sockets of all processes are in one directory.
        let interface = format!("wg{}{}", host.name, std::process::id());
        let mut command = host.namespace.command(PROGRAM);
        command.args(["-f", &interface]).env("LOG_LEVEL", "silent");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("cannot start it")?;
        let socket = Path::new(SOCKETS).join(format!("{interface}.sock"));
        let mut end = Self { child, socket };
        let stream = end.connect().await?;
        tell(&stream, settings)?;

        let netlink = host.namespace.netlink()?;
        let index = netlink.link(&interface).await?.index;
        let address = AddressSpec {
            index,
            address,
            prefix_len: 64,
            no_dad: true,
            deprecated: false,
            no_prefix_route: false,
        };
        netlink.add_address(&address).await?;
        netlink.set_mtu(index, MTU).await?;
        netlink.set_up(index).await?;
        Ok(end)
    }

    async fn connect(&mut self) -> anyhow::Result<UnixStream> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match UnixStream::connect(&self.socket) {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once: {status}");
            }
            if Instant::now() >= deadline {
                bail!(
                    "no control socket {} within {PATIENCE:?}: {error}",
                    self.socket.display()
                );
            }
            sleep(POLL).await;
        }
    }
}

fn tell(mut stream: &UnixStream, settings: &str) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(settings.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.trim() != "errno=0" {
        bail!("it refused its settings: {answer}");
    }
    Ok(())
}
