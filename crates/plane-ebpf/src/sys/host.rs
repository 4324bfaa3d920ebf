//! Whether this host and this process can carry the packet plane.

use std::fs;
use std::sync::OnceLock;

use super::{Error, Result};

/// The oldest kernel that will do.
const OLDEST: (u32, u32) = (6, 1);

/// Processors that the kernel counts with, switched on or not: so many values has an entry of a map with
/// a value for each.
///
/// # Errors
/// `/sys` cannot be read.
pub fn possible_cpus() -> Result<usize> {
    static COUNT: OnceLock<usize> = OnceLock::new();
    if let Some(count) = COUNT.get() {
        return Ok(*count);
    }
    let path = "/sys/devices/system/cpu/possible";
    let text = fs::read_to_string(path).map_err(Error::system(format!("reading {path}")))?;
    let count = last_cpu(&text).ok_or_else(|| Error::Answer {
        what: format!("reading {path}"),
        why: format!("{text:?} is no list of processors"),
    })?;
    Ok(*COUNT.get_or_init(|| count + 1))
}

/// The greatest number in a list such as `0-3,8`.
fn last_cpu(list: &str) -> Option<usize> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

/// Makes sure that the kernel is new enough.
///
/// # Errors
/// [`Error::Kernel`].
pub fn check_kernel() -> Result<()> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    match version(&release) {
        Some(found) if found >= OLDEST => Ok(()),
        _ => Err(Error::Kernel {
            found: release.into_owned(),
        }),
    }
}

/// The first two numbers of the kernel's release; none if it cannot be read.
pub fn kernel() -> Option<(u32, u32)> {
    version(&rustix::system::uname().release().to_string_lossy())
}

/// The first two numbers of a release such as `6.1.0-25-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether programs are translated to the machine's own code; none if the kernel does not tell (it does
/// only in the first network namespace). Of a single program [`super::ProgramInfo::jited`] tells.
pub fn jit() -> Option<bool> {
    let text = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").ok()?;
    Some(text.trim() != "0")
}

/// Whether users without privileges may load programs (`kernel.unprivileged_bpf_disabled` is 0); none if
/// the kernel does not tell.
pub fn unprivileged_bpf() -> Option<bool> {
    let text = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").ok()?;
    Some(text.trim() == "0")
}

/// What a process wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Load programs and attach them.
    Load,
    /// Find what an earlier process left: programs and maps are opened by their ids, which takes
    /// CAP_SYS_ADMIN.
    TakeOver,
}

/// Capabilities by their bits (`linux/capability.h`).
const NET_ADMIN: Capability = ("CAP_NET_ADMIN", 12);
const SYS_ADMIN: Capability = ("CAP_SYS_ADMIN", 21);
const PERFMON: Capability = ("CAP_PERFMON", 38);
const BPF: Capability = ("CAP_BPF", 39);

type Capability = (&'static str, u32);

/// The capabilities of this process, a bit each (`CapEff`).
///
/// # Errors
/// There is no `/proc`.
pub fn capabilities() -> Result<u64> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).map_err(Error::system(format!("reading {path}")))?;
    effective(&status).ok_or_else(|| Error::Answer {
        what: format!("reading {path}"),
        why: "it has no CapEff".to_owned(),
    })
}

/// Whether this process is in the first user namespace: privileges of others mean nothing to the host.
pub fn in_first_users() -> bool {
    all_users(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
}

/// Whether this process is in a container, by the marks that engines put there.
pub fn in_container() -> bool {
    let mut marks = ["/.dockerenv", "/run/.containerenv"].into_iter();
    marks.any(|mark| fs::exists(mark).unwrap_or(false))
}

/// Makes sure that this process has the capabilities it needs.
///
/// # Errors
/// [`Error::Privilege`], which names those that are missing, and what to do.
pub fn check_privileges(task: Task) -> Result<()> {
    match lack(capabilities()?, in_first_users(), in_container(), task) {
        Some(text) => Err(Error::Privilege(text)),
        None => Ok(()),
    }
}

/// `CapEff` in `/proc/PID/status`.
fn effective(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Whether a user namespace is the first one: there all users are themselves.
fn all_users(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The capabilities that a process with these (`CapEff`, a bit each) lacks for a task.
pub fn missing(effective: u64, task: Task) -> Vec<&'static str> {
    let has = |(_, bit): Capability| effective & (1 << bit) != 0;
    let mut missing = Vec::new();
    if !has(NET_ADMIN) {
        missing.push(NET_ADMIN.0);
    }
    if !has(SYS_ADMIN) {
        // It includes the two others.
        missing.extend(
            [BPF, PERFMON]
                .into_iter()
                .filter(|one| !has(*one))
                .map(|(name, _)| name),
        );
        if task == Task::TakeOver {
            missing.push(SYS_ADMIN.0);
        }
    }
    missing
}

/// What is missing, in words.
fn lack(effective: u64, first_users: bool, container: bool, task: Task) -> Option<String> {
    let missing = missing(effective, task);
    if missing.is_empty() && first_users {
        return None;
    }
    let why = "the packet plane";
    if missing.is_empty() {
        return Some(format!(
            "{why} needs the capabilities of the host, and this user namespace has only its own: \
             run it as the host's root{}, or use plane = \"proxy\"",
            if container {
                " (not in a rootless container)"
            } else {
                ""
            }
        ));
    }
    let advice = if container {
        let options: Vec<String> = missing
            .iter()
            .filter_map(|name| name.strip_prefix("CAP_"))
            .map(|name| format!("--cap-add {name}"))
            .collect();
        format!(
            "start the container as root, with {}, and without --user, which gives them up again \
             (the image's own command has it: say `run` instead)",
            options.join(" ")
        )
    } else {
        format!(
            "run it as root and without --user, or give its systemd unit AmbientCapabilities={}",
            missing.join(" ")
        )
    };
    Some(format!(
        "{why} needs {}, which this process lacks: {advice}, or use plane = \"proxy\"",
        missing.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn lists_of_processors() {
        assert_eq!(last_cpu("0\n"), Some(0));
        assert_eq!(last_cpu("0-1\n"), Some(1));
        assert_eq!(last_cpu("0-3,8-127\n"), Some(127));
        assert_eq!(last_cpu("0,2\n"), Some(2));
        assert_eq!(last_cpu(""), None);
    }

    #[test]
    fn releases() {
        assert_eq!(version("6.1.0-25-amd64"), Some((6, 1)));
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("5.15"), Some((5, 15)));
        assert_eq!(version("unknown"), None);
        assert!((5, 19) < OLDEST && (6, 1) >= OLDEST && (10, 0) > OLDEST);
    }

    #[test]
    fn capabilities_of_a_process() {
        let status = "Name:\tcat\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n";
        assert_eq!(effective(status), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("Name:\tcat\n"), None);
        assert!(all_users("         0          0 4294967295\n"));
        assert!(!all_users("         0       1000          1\n"));
    }

    #[test]
    fn root_lacks_nothing() {
        assert_eq!(lack(u64::MAX, true, true, Task::TakeOver), None);
        let three = 1 << 12 | 1 << 38 | 1 << 39;
        assert_eq!(lack(three, true, false, Task::Load), None);
        assert_eq!(lack(1 << 12 | 1 << 21, true, false, Task::TakeOver), None);
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let text = lack(0, true, false, Task::Load).unwrap();
        assert!(
            text.contains("CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON"),
            "{text}"
        );
        assert!(text.contains("without --user"), "{text}");
        assert!(text.contains("AmbientCapabilities="), "{text}");
        let text = lack(1 << 12 | 1 << 38 | 1 << 39, true, true, Task::TakeOver).unwrap();
        assert!(text.contains("needs CAP_SYS_ADMIN,"), "{text}");
        assert!(
            text.contains("--cap-add SYS_ADMIN, and without --user"),
            "{text}"
        );
        let text = lack(u64::MAX, false, true, Task::Load).unwrap();
        assert!(text.contains("user namespace"), "{text}");
    }
}
