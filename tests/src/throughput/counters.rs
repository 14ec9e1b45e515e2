//! What the kernel counted in the namespaces of a lab.

use std::fs;
use std::io;
use std::ops::{Add, Sub};

use shim6_tun::lab::Namespace;

/// Where the tables are: those of the calling thread's namespace.
const DIRECTORY: &str = "/proc/thread-self/net";

/// Counters of one or several hosts since they were made, or what was counted between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Packets of TCP, UDP or ICMPv6 with a wrong checksum.
    pub checksum_errors: u64,
    /// TCP segments that were sent again.
    pub retransmits: u64,
    /// How often TCP noticed that segments had overtaken others, as opposed to: were lost.
    pub reordered: u64,
    /// TCP segments that arrived before an earlier one, lost or late.
    pub out_of_order: u64,
}

impl HostCounters {
    /// Those of a host's namespace.
    ///
    /// # Errors
    /// The kernel's, or a table is not what it should be.
    pub fn read(namespace: &Namespace) -> anyhow::Result<Self> {
        let read = || {
            let table = |name| fs::read_to_string(format!("{DIRECTORY}/{name}"));
            io::Result::Ok((table("snmp")?, table("netstat")?, table("snmp6")?))
        };
        let (snmp, netstat, snmp6) = namespace.run(read)??;
        Ok(Self::parse(&snmp, &netstat, &snmp6)?)
    }

    fn parse(snmp: &str, netstat: &str, snmp6: &str) -> io::Result<Self> {
        let tcp = |name| in_two_lines(snmp, "Tcp:", name);
        let more = |name| in_two_lines(netstat, "TcpExt:", name);
        let v6 = |name| in_a_line(snmp6, name);
        Ok(Self {
            checksum_errors: tcp("InCsumErrors")? + v6("Udp6InCsumErrors")? + v6("Icmp6InCsumErrors")?,
            retransmits: tcp("RetransSegs")?,
            reordered: more("TCPSACKReorder")? + more("TCPRenoReorder")? + more("TCPTSReorder")?,
            out_of_order: more("TCPOFOQueue")?,
        })
    }
}

impl Add for HostCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            checksum_errors: self.checksum_errors + other.checksum_errors,
            retransmits: self.retransmits + other.retransmits,
            reordered: self.reordered + other.reordered,
            out_of_order: self.out_of_order + other.out_of_order,
        }
    }
}

impl Sub for HostCounters {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            checksum_errors: self.checksum_errors.saturating_sub(earlier.checksum_errors),
            retransmits: self.retransmits.saturating_sub(earlier.retransmits),
            reordered: self.reordered.saturating_sub(earlier.reordered),
            out_of_order: self.out_of_order.saturating_sub(earlier.out_of_order),
        }
    }
}

/// What the interfaces of a router received, but for its loopback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterCounters {
    /// Octets, Ethernet headers included.
    pub octets: u64,
    /// Frames; what is segmented later counts as one.
    pub frames: u64,
}

impl RouterCounters {
    /// Those of a router's namespace.
    ///
    /// # Errors
    /// The kernel's, or a table is not what it should be.
    pub fn read(namespace: &Namespace) -> anyhow::Result<Self> {
        let table = namespace.run(|| fs::read_to_string(format!("{DIRECTORY}/dev")))??;
        Ok(Self::parse(&table)?)
    }

    fn parse(table: &str) -> io::Result<Self> {
        let mut sum = Self::default();
        for line in table.lines() {
            // Two lines of headings have none.
            let Some((name, figures)) = line.split_once(':') else {
                continue;
            };
            let mut figures = figures.split_whitespace().map(str::parse);
            let (Some(Ok::<u64, _>(octets)), Some(Ok::<u64, _>(frames))) = (figures.next(), figures.next()) else {
                return Err(missing(name));
            };
            if name.trim() != "lo" {
                sum.octets += octets;
                sum.frames += frames;
            }
        }
        Ok(sum)
    }

    /// The mean length of a frame, in octets: beyond the MTU where TCP's segments are larger.
    #[must_use]
    pub fn frame_octets(self) -> Option<f64> {
        (self.frames > 0).then(|| self.octets as f64 / self.frames as f64)
    }
}

impl Add for RouterCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            octets: self.octets + other.octets,
            frames: self.frames + other.frames,
        }
    }
}

impl Sub for RouterCounters {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            octets: self.octets.saturating_sub(earlier.octets),
            frames: self.frames.saturating_sub(earlier.frames),
        }
    }
}

/// A value in a table that has a line of names and one of values for each protocol.
fn in_two_lines(table: &str, protocol: &str, name: &str) -> io::Result<u64> {
    let mut lines = table.lines().filter_map(|line| line.strip_prefix(protocol));
    let names = lines.next().unwrap_or_default().split_whitespace();
    let values = lines.next().unwrap_or_default().split_whitespace();
    let found = names.zip(values).find(|&(found, _)| found == name);
    found
        .and_then(|(_, value)| value.parse().ok())
        .ok_or_else(|| missing(name))
}

/// A value in a table that has a line with a name and a value for each.
fn in_a_line(table: &str, name: &str) -> io::Result<u64> {
    let mut pairs = table.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let found = pairs.find(|&(found, _)| found == name);
    found
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| missing(name))
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel has no counter {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str =
        "Ip: Forwarding\nIp: 1\nTcp: RtoMin RetransSegs InErrs InCsumErrors\nTcp: 200 7 1 3\nUdp: X\nUdp: 1\n";
    const NETSTAT: &str =
        "TcpExt: TCPSACKReorder TCPRenoReorder TCPTSReorder TCPOFOQueue\nTcpExt: 1 2 4 80\nIpExt: A\nIpExt: 9\n";
    const SNMP6: &str = "Icmp6InCsumErrors               \t10\nUdp6InCsumErrors                \t20\n";

    #[test]
    fn counters_are_found_by_name_and_added_up() {
        let read = HostCounters::parse(SNMP, NETSTAT, SNMP6).expect("all are there");
        let expected = HostCounters {
            checksum_errors: 33,
            retransmits: 7,
            reordered: 7,
            out_of_order: 80,
        };
        assert_eq!(read, expected);
        assert_eq!(read + read - read, expected);
    }

    #[test]
    fn a_counter_that_is_missing_is_an_error() {
        let error = HostCounters::parse(SNMP, "", SNMP6).expect_err("there is none");
        assert!(error.to_string().contains("TCPSACKReorder"), "{error}");
        assert!(HostCounters::parse(SNMP, NETSTAT, "Udp6InCsumErrors").is_err());
    }

    #[test]
    fn frames_have_a_mean_length() {
        let table = |octets, frames| {
            format!(
                "Inter-|   Receive\n face |bytes    packets\n    lo: 9999 1 0\nisp-a1: {octets} {frames} 0\nisp-b1:  1000 10 0\n"
            )
        };
        let [earlier, later] =
            [table(0, 0), table(4000, 10)].map(|table| RouterCounters::parse(&table).expect("a table"));
        assert_eq!(
            later,
            RouterCounters {
                octets: 5000,
                frames: 20
            }
        );
        assert_eq!((later - earlier).frame_octets(), Some(400.0));
        assert_eq!((later - later).frame_octets(), None);
        assert_eq!(later - earlier + earlier, later);
        assert!(RouterCounters::parse("eth0: many 1").is_err());
    }

    #[test]
    fn this_kernel_has_all_counters() {
        let table = |name| fs::read_to_string(format!("{DIRECTORY}/{name}")).expect("a table");
        HostCounters::parse(&table("snmp"), &table("netstat"), &table("snmp6")).expect("all are there");
        RouterCounters::parse(&table("dev")).expect("interfaces");
    }
}
