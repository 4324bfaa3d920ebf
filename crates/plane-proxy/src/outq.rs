//! How much of what was written has not reached the peer yet.

#![allow(unsafe_code, reason = "this ioctl has no safe interface")]

use std::ffi::c_int;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, ioctl};

/// `SIOCOUTQ`, which is `TIOCOUTQ` (tcp(7)).
const SIOCOUTQ: u32 = 0x5411;

/// Bytes in the send queue of a TCP socket that its peer has not acknowledged; none if the kernel does
/// not say.
pub(crate) fn unacknowledged(socket: impl AsFd) -> Option<u32> {
    // SAFETY: of a socket, this operation writes one int and reads nothing; of any other file it
    // fails or does the same.
    let queued = unsafe { ioctl(socket, Getter::<{ SIOCOUTQ }, c_int>::new()) };
    u32::try_from(queued.ok()?).ok()
}
