//! Programs in the kernel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::bpf::{RawProgramInfo, bind_map, program_by_id, program_info};
use super::{Error, Map, PREFIX, Result};

/// What a program is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProgramKind {
    /// Packets as a driver receives them.
    Xdp,
    /// Packets as the stack has them (`BPF_PROG_TYPE_SCHED_CLS`).
    Tc,
    /// Any other, by the kernel's number.
    Other(u32),
}

/// What the kernel tells of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its id, which nothing else has as long as it lives.
    pub id: u32,
    /// What it is made for.
    pub kind: ProgramKind,
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: String,
    /// A hash of its instructions.
    pub tag: [u8; 8],
    /// The maps that it uses, and those bound to it.
    pub map_ids: Vec<u32>,
    /// Whether it was translated to the machine's own code.
    pub jited: bool,
    /// Time it has run, where the kernel counts that (`kernel.bpf_stats_enabled`).
    pub run_time: Duration,
    /// Times it has run, where the kernel counts that.
    pub runs: u64,
    /// Instructions that the verifier looked at; it gives up after a million.
    pub verified: u32,
}

impl ProgramInfo {
    /// Whether it is ours, by its name.
    pub fn is_ours(&self) -> bool {
        self.name.starts_with(PREFIX)
    }
}

impl From<RawProgramInfo> for ProgramInfo {
    fn from(raw: RawProgramInfo) -> Self {
        Self {
            id: raw.id,
            kind: match raw.kind {
                6 => ProgramKind::Xdp,
                3 => ProgramKind::Tc,
                other => ProgramKind::Other(other),
            },
            name: raw.name,
            tag: raw.tag,
            map_ids: raw.maps,
            jited: raw.jited_len > 0,
            run_time: Duration::from_nanos(raw.run_time),
            runs: raw.runs,
            verified: raw.verified,
        }
    }
}

/// A program. It lives as long as this, or as it is attached.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    id: u32,
    name: String,
    kind: ProgramKind,
}

impl Program {
    pub(super) fn of(fd: OwnedFd) -> Result<Self> {
        let raw = program_info(fd.as_fd()).map_err(Error::system("reading about a program"))?;
        let info = ProgramInfo::from(raw);
        Ok(Self {
            fd,
            id: info.id,
            name: info.name,
            kind: info.kind,
        })
    }

    /// The program with this id.
    ///
    /// # Errors
    /// There is none, or CAP_SYS_ADMIN is missing.
    pub fn from_id(id: u32) -> Result<Self> {
        let fd = program_by_id(id).map_err(Error::system(format!("opening program {id}")))?;
        Self::of(fd)
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its name, of which the kernel keeps 15 bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is made for.
    pub fn kind(&self) -> ProgramKind {
        self.kind
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What the kernel tells of it now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn info(&self) -> Result<ProgramInfo> {
        program_info(self.fd())
            .map(ProgramInfo::from)
            .map_err(Error::system(format!(
                "reading about program {}",
                self.name
            )))
    }

    /// Makes a map that the program does not use live as long as it, and be among its
    /// [`ProgramInfo::map_ids`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn bind_map(&self, map: &Map) -> Result<()> {
        match bind_map(self.fd(), map.fd()) {
            // It is bound already.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            done => done.map_err(Error::system(format!(
                "binding map {} to program {}",
                map.name(),
                self.name
            ))),
        }
    }

    /// Opens the maps that it uses, and those bound to it. So a process finds what an earlier one left.
    ///
    /// # Errors
    /// CAP_SYS_ADMIN is missing.
    pub fn maps(&self) -> Result<Vec<Map>> {
        let ids = self.info()?.map_ids;
        ids.into_iter().map(Map::from_id).collect()
    }
}
