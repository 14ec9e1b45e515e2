//! What the kernel has to have.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::Ipv6Addr;
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

use super::finding::Finding;
use crate::sys::bpf::{CounterOptions, Counters};

const CHECK: &str = "kernel";
const TUN_NODE: &str = "/dev/net/tun";
/// Where programs can be attached to both directions of an interface.
const TCX: (u32, u32) = (6, 6);

pub(super) fn check() -> Vec<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut findings = vec![ipv6(), tun(Path::new(TUN_NODE))];
    findings.push(opened(
        "AF_PACKET sockets",
        Domain::PACKET,
        Type::RAW,
        None,
        "packets cannot be watched",
    ));
    findings.push(opened(
        "raw sockets for protocol 140",
        Domain::IPV6,
        Type::RAW,
        Some(140),
        "no message can be sent",
    ));
    findings.push(xdp());
    findings.push(bpf(&release));
    findings
}

fn ipv6() -> Finding {
    let setting = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
    match fs::read_to_string(setting) {
        Ok(value) if value.trim() == "0" => Finding::good(CHECK, "IPv6 is on"),
        Ok(_) => Finding::wrong(
            CHECK,
            "IPv6 is off (net.ipv6.conf.all.disable_ipv6)",
            "Shim6 is about IPv6 alone.",
        )
        .mend("sysctl -w net.ipv6.conf.all.disable_ipv6=0"),
        Err(_) => Finding::wrong(
            CHECK,
            "the kernel has no IPv6",
            "Shim6 is about IPv6 alone. Boot without ipv6.disable=1, with a kernel that has it.",
        ),
    }
}

fn tun(node: &Path) -> Finding {
    let means = "Packets of sessions that have moved go through a TUN device: the daemon does not start without it.";
    let path = node.display();
    match OpenOptions::new().read(true).write(true).open(node) {
        Ok(_) => Finding::good(CHECK, format!("{path} can be opened")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::wrong(CHECK, format!("there is no {path}"), means)
                .mend("modprobe tun   # in a container, pass the device through: --device /dev/net/tun")
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Finding::wrong(CHECK, format!("{path} cannot be opened: {error}"), means).mend(format!("chmod 0666 {path}"))
        }
        Err(error) => Finding::wrong(CHECK, format!("{path} cannot be opened: {error}"), means).mend("modprobe tun"),
    }
}

fn opened(what: &str, domain: Domain, kind: Type, protocol: Option<i32>, means: &str) -> Finding {
    match Socket::new(domain, kind, protocol.map(Protocol::from)) {
        Ok(_) => Finding::good(CHECK, format!("{what} can be opened")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Finding::unchecked(CHECK, format!("{what}: only with CAP_NET_RAW (run this as root)"))
        }
        Err(error) => {
            let found = format!("{what} cannot be opened: {error}");
            Finding::wrong(
                CHECK,
                found,
                &format!("Without them {means}. The kernel was built without them."),
            )
        }
    }
}

fn xdp() -> Finding {
    match Socket::new(Domain::from(libc::AF_XDP), Type::RAW, None) {
        Ok(_) => Finding::good(CHECK, "AF_XDP sockets can be opened"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Finding::unchecked(CHECK, "AF_XDP sockets: only with CAP_NET_RAW (run this as root)")
        }
        Err(error) => Finding::doubtful(
            CHECK,
            format!("AF_XDP sockets cannot be opened: {error}"),
            "Packets of sessions that have moved are sent by other sockets, which cost more time. Nothing else is lost.",
        ),
    }
}

fn bpf(release: &str) -> Finding {
    let means = "Packets are watched by taps instead, which cost more time under load. Nothing else is lost.";
    if version(release).is_some_and(|version| version < TCX) {
        let release = release.trim();
        return Finding::doubtful(
            CHECK,
            format!("Linux {release} is older than 6.6, which brought TCX"),
            means,
        )
        .mend("apt install -t bookworm-backports linux-image-amd64   # or any kernel from 6.6 on");
    }
    let options = CounterOptions {
        flows: 1,
        locals: &[Ipv6Addr::LOCALHOST],
        candidates: 1,
        packets: 1,
        octets: 0,
        small: false,
    };
    match Counters::new(options) {
        Ok(_) => Finding::good(CHECK, "eBPF programs can be loaded"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Finding::unchecked(
            CHECK,
            "eBPF programs: only with CAP_BPF and CAP_NET_ADMIN outside of user namespaces; without them packets are \
             watched by taps",
        ),
        Err(error) => Finding::doubtful(CHECK, format!("eBPF programs cannot be loaded: {error}"), means),
    }
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn an_old_kernel_is_told_from_a_new_one() {
        assert_eq!(version("6.1.0-18-amd64\n"), Some((6, 1)));
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("?"), None);
        let finding = bpf("6.1.0-18-amd64\n");
        assert_eq!(finding.level, Level::Doubtful);
        assert!(finding.found.contains("6.1.0-18-amd64"), "{finding:?}");
    }

    #[test]
    fn a_tun_device_that_is_missing_or_closed_is_wrong_and_says_what_to_do() {
        let absent = tun(Path::new("/nowhere/net/tun"));
        assert_eq!(absent.level, Level::Wrong);
        assert!(absent.mend[0].starts_with("modprobe tun"), "{absent:?}");
        let closed = tun(Path::new("/proc/self"));
        assert_eq!(closed.level, Level::Wrong, "{closed:?}");
    }
}
