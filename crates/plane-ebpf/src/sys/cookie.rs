//! What tells one network namespace from another.

#![allow(
    unsafe_code,
    reason = "SO_NETNS_COOKIE is an option that no safe interface knows"
)]

use std::io;
use std::mem::size_of;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use super::{Error, Result};

/// A number that the network namespace of the calling thread has for itself, until the host is started
/// anew: unlike its inode's it is never used again (since Linux 5.14).
///
/// # Errors
/// What the kernel says.
pub fn netns_cookie() -> Result<u64> {
    let what = "asking for the cookie of the network namespace";
    // Not connected to anything: any family does, and IPv4 is in every kernel.
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(Error::system(what))?;
    let mut cookie = 0_u64;
    let mut len = libc::socklen_t::try_from(size_of::<u64>()).unwrap_or(8);
    // SAFETY: the descriptor is open, and both addresses are those of local variables; no more than `len`
    // bytes are written to the first.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(Error::system(what)(io::Error::last_os_error()))
    }
}
