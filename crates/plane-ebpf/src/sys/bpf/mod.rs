//! The bpf(2) system call: its commands with their arguments, and what each is owed.
//!
//! Arguments are laid out as `union bpf_attr` of the kernel's `include/uapi/linux/bpf.h`, without
//! padding of the compiler's: what a kernel does not know must be zero.

#![allow(
    unsafe_code,
    reason = "bpf(2) takes addresses; there is no safe interface to it"
)]

mod maps;
mod programs;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub(super) use maps::{Batch, Definition, Handle};
pub(super) use programs::{
    Load, RawProgramInfo, TcxPlace, attach_tcx, bind_map, detach_tcx, load_program, load_types,
    program_by_id, program_info, query_tcx, test_run,
};

/// Length of a name in the kernel, with the zero at its end (`BPF_OBJ_NAME_LEN`).
pub(super) const NAME_LEN: usize = 16;

/// Commands (`enum bpf_cmd`).
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(super) enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ProgramLoad = 5,
    ProgramAttach = 8,
    ProgramDetach = 9,
    ProgramTestRun = 10,
    ProgramById = 13,
    MapById = 14,
    Info = 15,
    ProgramQuery = 16,
    TypesLoad = 18,
    TypesById = 19,
    MapFreeze = 22,
    MapLookupBatch = 24,
    MapUpdateBatch = 26,
    LinkById = 30,
    LinkNextId = 31,
    ProgramBindMap = 35,
}

/// Calls bpf(2).
///
/// # Safety
/// `attr` is laid out as this command's part of `union bpf_attr`, without padding, and every address in it is
/// that of memory as long as the command reads or writes, which lives until this returns and is not
/// otherwise used.
unsafe fn call<T>(command: Command, attr: &mut T) -> io::Result<i64> {
    // SAFETY: the caller's promise; the size is that of what is pointed to.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// [`call`] for commands whose result is a new file descriptor.
///
/// # Safety
/// As there.
unsafe fn call_for_fd<T>(command: Command, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { call(command, attr)? };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us (with close-on-exec), and nobody else
    // knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An address for the kernel.
fn address<T>(slice: &[T]) -> u64 {
    slice.as_ptr() as u64
}

/// An address for the kernel to write to.
fn address_mut<T>(slice: &mut [T]) -> u64 {
    slice.as_mut_ptr() as u64
}

/// A descriptor as the kernel takes it.
pub(super) fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// A length as the kernel takes it.
fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// A name cut to what the kernel keeps.
fn kernel_name(name: &str) -> [u8; NAME_LEN] {
    let mut kept = [0; NAME_LEN];
    for (to, from) in kept.iter_mut().take(NAME_LEN - 1).zip(name.bytes()) {
        *to = from;
    }
    kept
}

/// A name as the kernel gives it.
fn read_name(name: &[u8]) -> String {
    let end = name.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(name.get(..end.unwrap_or(name.len())).unwrap_or_default()).into_owned()
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The map, program or link with this id.
pub(super) fn by_id(command: Command, id: u32) -> io::Result<OwnedFd> {
    let mut attr = IdAttr {
        id,
        ..IdAttr::default()
    };
    // SAFETY: this is what the commands *_GET_FD_BY_ID take, without an address.
    unsafe { call_for_fd(command, &mut attr) }
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

/// Reads what the kernel tells of an object into `info`, as much as fits.
///
/// # Safety
/// `T` is the beginning of the structure for this kind of object, without padding, any bits are
/// right for it, and addresses in it are as in [`call`].
unsafe fn info<T>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = InfoAttr {
        fd: number(fd),
        len: length(size_of::<T>())?,
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: `info` has `len` bytes, and the rest is the caller's promise.
    unsafe { call(Command::Info, &mut attr) }.map(|_| ())
}

/// The beginning of `struct bpf_link_info`, for links to an interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkInfo {
    /// `BPF_LINK_TYPE_…`.
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) program: u32,
    pad: u32,
    /// For XDP and tcx: the interface.
    pub(super) interface: u32,
    /// Room for what other types of links tell, whose addresses are zero.
    rest: [u32; 11],
}

/// All links (`bpf_link`) of the system that can be looked at. Needs CAP_SYS_ADMIN.
pub(super) fn links() -> io::Result<Vec<LinkInfo>> {
    let mut found = Vec::new();
    let mut attr = IdAttr::default();
    loop {
        // SAFETY: this is what LINK_GET_NEXT_ID takes, without an address.
        match unsafe { call(Command::LinkNextId, &mut attr) } {
            Ok(_) => {}
            Err(end) if end.raw_os_error() == Some(libc::ENOENT) => return Ok(found),
            Err(error) => return Err(error),
        }
        attr.id = attr.next_id;
        // It may be gone meanwhile.
        let Ok(link) = by_id(Command::LinkById, attr.id) else {
            continue;
        };
        let mut about = LinkInfo::default();
        // SAFETY: `LinkInfo` is the beginning of the structure, of numbers only, and all zero.
        if unsafe { info(std::os::fd::AsFd::as_fd(&link), &mut about) }.is_ok() {
            found.push(about);
        }
    }
}
