//! Who may do what: this process, the daemon, and everybody else with the key.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Uid, User, geteuid};

use super::Host;
use super::finding::Finding;

const CHECK: &str = "rights";
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(missing) = missing("/proc/self/status") {
        let found = format!("this process has no {missing}: some checks are left out; run it as root");
        findings.push(Finding::unchecked(CHECK, found));
    }
    match &host.status {
        Some(status) => findings.push(of_daemon(status.pid)),
        None => findings.extend(to_become(host)),
    }
    if let Some(directory) = &host.config.addresses.identity {
        findings.extend(identity(directory, owner_of_daemon(host)));
    }
    findings
}

/// Which of the needed capabilities a process does not have.
fn missing(path: &str) -> Option<String> {
    let effective = effective(path)?;
    let names = [(NET_ADMIN, "CAP_NET_ADMIN"), (NET_RAW, "CAP_NET_RAW")];
    let missing: Vec<_> = names
        .iter()
        .filter(|(bit, _)| effective & bit == 0)
        .map(|(_, name)| *name)
        .collect();
    (!missing.is_empty()).then(|| missing.join(" and "))
}

fn effective(path: &str) -> Option<u64> {
    let status = fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Whether a daemon that root starts could become the user it is to be.
fn to_become(host: &Host) -> Option<Finding> {
    let why = crate::privileges::check_user(&host.config).err()?;
    let level = match geteuid().is_root() {
        true => Finding::wrong(
            CHECK,
            why.to_string(),
            "`shim6 run` does not start until that is mended.",
        ),
        // As another user it may be started by the service manager.
        false => Finding::unchecked(CHECK, why.to_string()),
    };
    Some(level)
}

fn of_daemon(pid: u32) -> Finding {
    let path = format!("/proc/{pid}/status");
    let Some(effective) = effective(&path) else {
        return Finding::unchecked(
            CHECK,
            format!("the rights of the daemon (process {pid}) cannot be seen from here"),
        );
    };
    match missing(&path) {
        Some(missing) => Finding::wrong(
            CHECK,
            format!("the daemon (process {pid}) has no {missing}"),
            "It cannot follow the host's addresses or move sessions.",
        )
        .mend("systemctl restart shim6"),
        None if effective.count_ones() > 8 => Finding::doubtful(
            CHECK,
            format!(
                "the daemon (process {pid}) has {} capabilities, of which it needs three",
                effective.count_ones()
            ),
            "Whoever takes it over has the host.",
        )
        .mend("systemctl restart shim6   # it gives up the others by itself"),
        None => Finding::good(
            CHECK,
            format!("the daemon (process {pid}) has what it needs and little more"),
        ),
    }
}

/// Who has to be able to read the key.
fn owner_of_daemon(host: &Host) -> Option<Uid> {
    let pid = host.status.as_ref()?.pid;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok().map(Uid::from_raw)
}

/// The directory and the keys in it; `reader` is the daemon, if that is known.
fn identity(directory: &Path, reader: Option<Uid>) -> Vec<Finding> {
    let shown = directory.display();
    let entries = match directory.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![Finding::good(
                CHECK,
                format!("there is no identity in {shown} yet: the daemon makes one"),
            )];
        }
        Err(error) => return vec![Finding::unchecked(CHECK, format!("{shown} cannot be read: {error}"))],
    };
    let mut findings = Vec::new();
    let mut keys = 0;
    for entry in entries.flatten() {
        let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else {
            continue;
        };
        if !entry.file_name().to_string_lossy().starts_with("key-") {
            continue;
        }
        keys += 1;
        let (shown, mode) = (path.display(), metadata.mode() & 0o7777);
        if mode & 0o077 != 0 {
            findings.push(
                Finding::wrong(
                    CHECK,
                    format!("{shown} has mode {mode:04o}: others than its owner can get at the private key"),
                    "The daemon refuses such a key. Whoever had it can claim that sessions of this host have moved.",
                )
                .mend(format!("chmod 0600 {shown}"))
                .mend("shim6 address rotate   # if anybody else may have read it"),
            );
        }
        if let Some(reader) = reader.filter(|reader| !reader.is_root() && reader.as_raw() != metadata.uid()) {
            let name = name(reader);
            let found = format!(
                "{shown} belongs to {}, and the daemon runs as {name}",
                name_of(metadata.uid())
            );
            findings.push(
                Finding::wrong(
                    CHECK,
                    found,
                    "The daemon cannot read the key, and does not start the next time.",
                )
                .mend(format!("chown {name} {shown}")),
            );
        }
    }
    if findings.is_empty() {
        let what = if keys > 0 {
            "private keys are their owner's alone"
        } else {
            "it has no private key"
        };
        findings.push(Finding::good(CHECK, format!("identity in {shown}: {what}")));
    }
    findings.extend(space(directory));
    findings
}

/// A disk that is full keeps the daemon from keeping its addresses.
fn space(directory: &Path) -> Option<Finding> {
    let free = nix::sys::statvfs::statvfs(directory).ok()?;
    let octets = free.blocks_available().saturating_mul(free.fragment_size());
    if octets >= 1 << 20 || geteuid().is_root() && free.blocks() == 0 {
        return None;
    }
    let shown = directory.display();
    Some(
        Finding::wrong(
            CHECK,
            format!("there are {} kB left on the disk of {shown}", octets / 1024),
            "Addresses that the daemon makes cannot be kept: the next start makes others.",
        )
        .mend("df -h   # and make room"),
    )
}

fn name(user: Uid) -> String {
    name_of(user.as_raw())
}

fn name_of(user: u32) -> String {
    let found = User::from_uid(Uid::from_raw(user)).ok().flatten();
    found.map_or_else(|| user.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::finding::Level;
    use super::*;

    fn levels(findings: &[Finding]) -> Vec<Level> {
        findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_key_that_others_can_read_or_that_the_daemon_cannot_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(levels(&identity(directory.path(), None)), [Level::Good]);
        let key = directory.path().join("key-1.pem");
        fs::write(&key, "").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(levels(&identity(directory.path(), Some(geteuid()))), [Level::Good]);

        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let findings = identity(directory.path(), None);
        assert_eq!(levels(&findings), [Level::Wrong]);
        assert_eq!(findings[0].mend[0], format!("chmod 0600 {}", key.display()));

        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let other = Uid::from_raw(geteuid().as_raw() + 4242);
        let findings = identity(directory.path(), Some(other));
        assert_eq!(levels(&findings), [Level::Wrong]);
        assert!(findings[0].mend[0].starts_with("chown "), "{findings:?}");
    }

    #[test]
    fn a_host_without_an_identity_is_well() {
        assert_eq!(levels(&identity(Path::new("/nowhere/identity"), None)), [Level::Good]);
    }

    #[test]
    fn a_process_has_its_own_rights() {
        assert!(effective("/proc/self/status").is_some());
        assert_eq!(effective("/proc/0/status"), None);
    }
}
