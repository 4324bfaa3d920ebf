//! Socket options for which no library at hand has a function.

#![allow(
    unsafe_code,
    reason = "setsockopt has no safe interface for these options"
)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use libc::c_int;
use socket2::Socket;

/// Lets so many clients send data along with their first packet at once (tcp(7), `TCP_FASTOPEN`), on
/// a socket that listens.
pub(crate) fn fast_open_queue(socket: impl AsFd, queue: u32) -> io::Result<()> {
    let queue = c_int::try_from(queue).unwrap_or(c_int::MAX);
    set(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, queue)
}

/// Puts off the first packet until there is something to go along with it, if the other end has
/// allowed that before (tcp(7), `TCP_FASTOPEN_CONNECT`).
pub(crate) fn fast_open_connect(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)
}

/// Has the port chosen when the socket is connected, so that it need be free only towards that peer
/// (ip(7), `IP_BIND_ADDRESS_NO_PORT`); of both families.
pub(crate) fn choose_port_late(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Lets the socket have addresses that are not of this host (ip(7), `IP_TRANSPARENT`).
///
/// # Errors
/// `PermissionDenied` without CAP_NET_ADMIN and CAP_NET_RAW.
pub(crate) fn be_transparent(socket: &Socket, v6: bool) -> io::Result<()> {
    match v6 {
        true => socket.set_ip_transparent_v6(true),
        false => socket.set_ip_transparent_v4(true),
    }
}

fn set(socket: impl AsFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or_default();
    // SAFETY: the kernel reads `length` bytes of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            length,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
