//! Whole frames of the link layer, sent as they are.

#![allow(
    unsafe_code,
    reason = "the addresses of packet(7) have no safe interface"
)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::sys::{Error, Result};

/// A socket that sends frames and receives none (packet(7)).
#[derive(Debug)]
pub struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// Opens one, in the network namespace of the calling thread. It takes CAP_NET_RAW.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers; protocol 0 receives nothing.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return Err(Error::system("opening a packet socket")(error));
        }
        // SAFETY: the descriptor was opened above and is nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends a frame, its Ethernet header included, by the interface of this index.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send(&self, interface: u32, frame: &[u8]) -> Result<()> {
        // SAFETY: `sockaddr_ll` is plain numbers: all zero is one.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as libc::c_ushort;
        to.sll_ifindex = interface.cast_signed();
        // SAFETY: both addresses are those of values with the lengths that are given.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 {
            let error = io::Error::last_os_error();
            return Err(Error::system("sending a frame")(error));
        }
        Ok(())
    }
}
