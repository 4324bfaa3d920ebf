//! What can go wrong between us and the kernel.

use std::io;

/// Why the kernel did not do as asked. The text says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A request of rtnetlink was refused.
    #[error("{what}: {source}{}", said(.message))]
    Netlink {
        /// What was tried.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
        /// Its reason in words, where it gives one (extended acknowledgement).
        message: String,
    },
    /// What the kernel sent cannot be read.
    #[error("{what}: the answer of the kernel cannot be read: {why}")]
    Answer {
        /// What was asked.
        what: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// The verifier refused a program.
    #[error("the kernel refused program {program}: {source}{}", last_lines(.log))]
    Verifier {
        /// The program.
        program: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
        /// All that the verifier wrote.
        log: String,
    },
    /// The kernel refused the types of an object.
    #[error("the kernel refused the types (BTF) of an object: {source}{}", last_lines(.log))]
    Types {
        /// What the kernel said.
        #[source]
        source: io::Error,
        /// All that was written about it.
        log: String,
    },
    /// An object file is not what it should be.
    #[error("the object file: {0}")]
    Object(String),
    /// A key or a value has another length than the map's.
    #[error("map {map}: a {part} has {wanted} bytes, not {given}")]
    Length {
        /// The map's name.
        map: String,
        /// `key` or `value`.
        part: &'static str,
        /// Bytes it has.
        wanted: usize,
        /// Bytes that were given.
        given: usize,
    },
    /// A map is full (`max_entries`).
    #[error("map {map} is full: it has room for {room} entries")]
    Full {
        /// The map's name.
        map: String,
        /// Its `max_entries`.
        room: u32,
    },
    /// Somebody else's program is where ours should be.
    #[error(
        "{hook} of {interface} is taken by program {id} {name:?} ({mode}), which is not plimsoll's: {advice}"
    )]
    Foreign {
        /// `XDP` or `TC ingress`.
        hook: &'static str,
        /// The interface's name.
        interface: String,
        /// The program's id.
        id: u32,
        /// Its name; empty if it has none or it may not be read.
        name: String,
        /// How it is attached: `native`, `generic`, `offloaded`, by a link.
        mode: String,
        /// What to do.
        advice: String,
    },
    /// Programs of another layout are attached that cannot be taken over.
    #[error(
        "the programs that are attached have layout {found}, this plimsoll has {ours} and finds no {what} there: \
         start the plimsoll that attached them, or give its flows up and take them off \
         (bpftool net detach tcx_ingress dev …, ip link set dev … xdp off)"
    )]
    Layout {
        /// The version of their layout.
        found: u32,
        /// The version of this build's.
        ours: u32,
        /// What is lacking.
        what: String,
    },
    /// There is no such interface in this namespace.
    #[error("there is no interface {0} in this network namespace")]
    NoInterface(String),
    /// A privilege is missing.
    #[error("{0}")]
    Privilege(String),
    /// The kernel is too old.
    #[error(
        "kernel {found} is too old: the packet plane needs Linux 6.1 or newer; use plane = \"proxy\""
    )]
    Kernel {
        /// Its release.
        found: String,
    },
    /// Another process writes to the packet plane of this namespace.
    #[error("another process{} has the packet plane of this network namespace in its hands: stop it first, or run in a namespace of your own", holder(.0))]
    Locked(Option<u32>),
}

impl Error {
    /// For `map_err`.
    pub(super) fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::System {
            what,
            source: source.into(),
        }
    }

    /// The number the kernel gave (`errno`), if there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::System { source, .. }
            | Self::Netlink { source, .. }
            | Self::Verifier { source, .. }
            | Self::Types { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// So many lines of a verifier's log are shown at most.
const LINES: usize = 12;

/// The end of a log, where the reason is, on lines of their own.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut text = String::new();
    for line in lines.iter().skip(lines.len().saturating_sub(LINES)) {
        text.push_str("\n  ");
        text.push_str(line);
    }
    text
}

fn said(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(" ({message})")
    }
}

fn holder(process: &Option<u32>) -> String {
    process.map_or_else(String::new, |id| format!(" ({id})"))
}
