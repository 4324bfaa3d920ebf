//! Commands on programs.

use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{
    Command, NAME_LEN, address, address_mut, call, call_for_fd, info, kernel_name, length, number,
    read_name,
};

/// Bytes of a log at most. The verifier writes about one line for each instruction that it looks at.
const LOG: usize = 16 << 20;

#[repr(C)]
#[derive(Default)]
struct TypesAttr {
    types: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    log_true_size: u32,
}

/// Loads the types of an object (BTF); the log with the error.
pub(in crate::sys) fn load_types(types: &[u8]) -> Result<OwnedFd, (io::Error, String)> {
    let size = length(types.len()).map_err(|error| (error, String::new()))?;
    with_log(|log| {
        let mut attr = TypesAttr {
            types: address(types),
            size,
            log: if log.is_empty() { 0 } else { address_mut(log) },
            log_size: length(log.len())?,
            log_level: u32::from(!log.is_empty()),
            ..TypesAttr::default()
        };
        // SAFETY: there are `size` bytes to read and `log_size` to write.
        unsafe { call_for_fd(Command::TypesLoad, &mut attr) }
    })
}

/// Tries without a log, which is quicker, and if that fails once more with one.
fn with_log(
    mut load: impl FnMut(&mut [u8]) -> io::Result<OwnedFd>,
) -> Result<OwnedFd, (io::Error, String)> {
    let first = match load(&mut []) {
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    // Neither of these is about what was loaded.
    if matches!(first.raw_os_error(), Some(libc::EPERM | libc::ENOMEM)) {
        return Err((first, String::new()));
    }
    let mut log = vec![0; LOG];
    match load(&mut log) {
        Ok(fd) => Ok(fd),
        Err(error) => {
            // Before 6.4 a log that is too long hides what is wrong behind ENOSPC.
            let error = if error.raw_os_error() == Some(libc::ENOSPC) {
                first
            } else {
                error
            };
            Err((error, read_name(&log)))
        }
    }
}

/// A program to load.
#[derive(Clone, Copy, Debug)]
pub(in crate::sys) struct Load<'a> {
    /// `BPF_PROG_TYPE_…`.
    pub(in crate::sys) kind: u32,
    /// `BPF_F_…`.
    pub(in crate::sys) flags: u32,
    /// Where it will be attached (`BPF_XDP`, …); 0 if its kind does not care.
    pub(in crate::sys) attach: u32,
    pub(in crate::sys) name: &'a str,
    pub(in crate::sys) license: &'a CStr,
    /// Instructions of 8 bytes.
    pub(in crate::sys) code: &'a [u8],
    pub(in crate::sys) types: Option<BorrowedFd<'a>>,
    /// Records about functions, and the bytes of each.
    pub(in crate::sys) functions: (&'a [u8], usize),
    /// Records about lines, and the bytes of each.
    pub(in crate::sys) lines: (&'a [u8], usize),
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; NAME_LEN],
    interface: u32,
    attach: u32,
    types_fd: u32,
    function_size: u32,
    functions: u64,
    function_count: u32,
    line_size: u32,
    lines: u64,
    line_count: u32,
    attach_types: u32,
}

/// Loads a program; the verifier's log with the error.
pub(in crate::sys) fn load_program(of: &Load<'_>) -> Result<OwnedFd, (io::Error, String)> {
    with_log(|log| {
        let (functions, function_size) = of.functions;
        let (lines, line_size) = of.lines;
        let told = of.types.is_some();
        let count = |bytes: usize, size: usize| bytes.checked_div(size).map_or(Ok(0), length);
        let mut attr = LoadAttr {
            kind: of.kind,
            instructions: count(of.code.len(), 8)?,
            code: address(of.code),
            license: of.license.as_ptr() as u64,
            log_level: u32::from(!log.is_empty()),
            log_size: length(log.len())?,
            log: if log.is_empty() { 0 } else { address_mut(log) },
            flags: of.flags,
            name: kernel_name(of.name),
            attach: of.attach,
            ..LoadAttr::default()
        };
        if told {
            attr.types_fd = of.types.map_or(0, number);
            attr.function_size = length(function_size)?;
            attr.functions = address(functions);
            attr.function_count = count(functions.len(), function_size)?;
            attr.line_size = length(line_size)?;
            attr.lines = address(lines);
            attr.line_count = count(lines.len(), line_size)?;
        }
        // SAFETY: code and records have as many items as their lengths hold, the licence ends with a
        // zero, and there are `log_size` bytes to write.
        unsafe { call_for_fd(Command::ProgramLoad, &mut attr) }
    })
}

/// `struct bpf_prog_info`, as long as Linux 5.16 has it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct InfoAttr {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    translated_len: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    user: u32,
    maps_count: u32,
    maps: u64,
    name: [u8; NAME_LEN],
    interface: u32,
    gpl_compatible: u32,
    netns_device: u64,
    netns_inode: u64,
    jited_symbols_count: u32,
    jited_lengths_count: u32,
    jited_symbols: u64,
    jited_lengths: u64,
    types: u32,
    function_size: u32,
    functions: u64,
    function_count: u32,
    line_count: u32,
    lines: u64,
    jited_lines: u64,
    jited_line_count: u32,
    line_size: u32,
    jited_line_size: u32,
    tags_count: u32,
    tags: u64,
    run_time: u64,
    runs: u64,
    recursion_misses: u64,
    verified: u32,
    attach_object: u32,
}

/// What the kernel tells of a program.
#[derive(Clone, Debug)]
pub(in crate::sys) struct RawProgramInfo {
    pub(in crate::sys) kind: u32,
    pub(in crate::sys) id: u32,
    pub(in crate::sys) tag: [u8; 8],
    pub(in crate::sys) jited_len: u32,
    pub(in crate::sys) name: String,
    pub(in crate::sys) maps: Vec<u32>,
    pub(in crate::sys) run_time: u64,
    pub(in crate::sys) runs: u64,
    pub(in crate::sys) verified: u32,
}

/// Reads it.
pub(in crate::sys) fn program_info(fd: BorrowedFd<'_>) -> io::Result<RawProgramInfo> {
    let mut maps = Vec::new();
    loop {
        let mut raw = InfoAttr {
            maps_count: length(maps.len())?,
            maps: if maps.is_empty() {
                0
            } else {
                address_mut(&mut maps)
            },
            ..InfoAttr::default()
        };
        // SAFETY: this is the beginning of the structure for programs; its only address that is not
        // zero is that of `maps`, with room for `maps_count` numbers.
        unsafe { info(fd, &mut raw)? };
        let count = raw.maps_count as usize;
        if count > maps.len() {
            // Maps may be bound while we ask.
            maps = vec![0_u32; count];
            continue;
        }
        maps.truncate(count);
        return Ok(RawProgramInfo {
            kind: raw.kind,
            id: raw.id,
            tag: raw.tag,
            jited_len: raw.jited_len,
            name: read_name(&raw.name),
            maps,
            run_time: raw.run_time,
            runs: raw.runs,
            verified: raw.verified,
        });
    }
}

#[repr(C)]
#[derive(Default)]
struct BindAttr {
    program: u32,
    map: u32,
    flags: u32,
}

/// Makes a map live as long as a program.
pub(in crate::sys) fn bind_map(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = BindAttr {
        program: number(program),
        map: number(map),
        flags: 0,
    };
    // SAFETY: this is what PROG_BIND_MAP takes, without an address.
    unsafe { call(Command::ProgramBindMap, &mut attr) }.map(|_| ())
}

#[repr(C)]
#[derive(Default)]
struct RunAttr {
    program: u32,
    result: u32,
    in_size: u32,
    out_size: u32,
    input: u64,
    output: u64,
    repeat: u32,
    duration: u32,
    context_in_size: u32,
    context_out_size: u32,
    context_in: u64,
    context_out: u64,
}

/// What a run gave.
#[derive(Clone, Copy, Debug)]
pub(in crate::sys) struct Run {
    pub(in crate::sys) result: u32,
    /// Bytes of the packet that were written.
    pub(in crate::sys) written: usize,
    /// Nanoseconds, the mean of all repetitions.
    pub(in crate::sys) duration: u32,
}

/// Runs a program on a packet (`BPF_PROG_TEST_RUN`); what becomes of the packet is written to `output`.
pub(in crate::sys) fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    context: &[u8],
    output: &mut [u8],
    repeat: u32,
) -> io::Result<Run> {
    let mut attr = RunAttr {
        program: number(program),
        in_size: length(packet.len())?,
        out_size: length(output.len())?,
        input: address(packet),
        output: if output.is_empty() {
            0
        } else {
            address_mut(output)
        },
        repeat,
        context_in_size: length(context.len())?,
        context_in: if context.is_empty() {
            0
        } else {
            address(context)
        },
        ..RunAttr::default()
    };
    // SAFETY: every address goes with the length of what is there.
    unsafe { call(Command::ProgramTestRun, &mut attr)? };
    Ok(Run {
        result: attr.result,
        written: (attr.out_size as usize).min(output.len()),
        duration: attr.duration,
    })
}

/// `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS`, of `enum bpf_attach_type`.
const fn tcx(egress: bool) -> u32 {
    if egress { 47 } else { 46 }
}

/// `BPF_F_REPLACE`, `BPF_F_BEFORE`, `BPF_F_AFTER`.
const REPLACE: u32 = 1 << 2;
const BEFORE: u32 = 1 << 3;
const AFTER: u32 = 1 << 4;

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    interface: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
    relative: u32,
    revision: u64,
}

/// Where in the chain of an interface.
#[derive(Clone, Copy, Debug)]
pub(in crate::sys) enum TcxPlace<'a> {
    First,
    Last,
    /// Before another program.
    Before(BorrowedFd<'a>),
    /// Instead of another program.
    InPlaceOf(BorrowedFd<'a>),
}

/// Attaches to the ingress of an interface, or its egress.
pub(in crate::sys) fn attach_tcx(
    interface: u32,
    egress: bool,
    program: BorrowedFd<'_>,
    place: TcxPlace<'_>,
) -> io::Result<()> {
    let mut attr = AttachAttr {
        interface,
        program: number(program),
        kind: tcx(egress),
        ..AttachAttr::default()
    };
    match place {
        TcxPlace::First => attr.flags = BEFORE,
        TcxPlace::Last => attr.flags = AFTER,
        TcxPlace::Before(other) => (attr.flags, attr.relative) = (BEFORE, number(other)),
        TcxPlace::InPlaceOf(other) => (attr.flags, attr.replace) = (REPLACE, number(other)),
    }
    // SAFETY: this is what PROG_ATTACH takes, without an address.
    unsafe { call(Command::ProgramAttach, &mut attr) }.map(|_| ())
}

/// Detaches from the ingress of an interface, or its egress.
pub(in crate::sys) fn detach_tcx(
    interface: u32,
    egress: bool,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut attr = AttachAttr {
        interface,
        program: number(program),
        kind: tcx(egress),
        ..AttachAttr::default()
    };
    // SAFETY: this is what PROG_DETACH takes, without an address.
    unsafe { call(Command::ProgramDetach, &mut attr) }.map(|_| ())
}

/// A program in a chain of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sys) struct TcxEntry {
    pub(in crate::sys) program: u32,
    /// The link that holds it; 0 if none does.
    pub(in crate::sys) link: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    interface: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// The chain of an interface's ingress or egress, in its order; none where the kernel has no such chains
/// (before 6.6).
pub(in crate::sys) fn query_tcx(interface: u32, egress: bool) -> io::Result<Option<Vec<TcxEntry>>> {
    let mut room = 64;
    loop {
        let mut programs = vec![0_u32; room];
        let mut links = vec![0_u32; room];
        let mut attr = QueryAttr {
            interface,
            kind: tcx(egress),
            programs: address_mut(&mut programs),
            links: address_mut(&mut links),
            count: length(room)?,
            ..QueryAttr::default()
        };
        // SAFETY: there is room for `count` numbers at both addresses.
        match unsafe { call(Command::ProgramQuery, &mut attr) } {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::EINVAL) => return Ok(None),
                Some(libc::ENOENT) => return Ok(Some(Vec::new())),
                Some(libc::ENOSPC) if room < 1 << 16 => {
                    room *= 2;
                    continue;
                }
                _ => return Err(error),
            },
        }
        let entries = programs.into_iter().zip(links).take(attr.count as usize);
        return Ok(Some(
            entries
                .map(|(program, link)| TcxEntry { program, link })
                .collect(),
        ));
    }
}

/// A descriptor of the program with this id. Needs CAP_SYS_ADMIN.
pub(in crate::sys) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    super::by_id(Command::ProgramById, id)
}
