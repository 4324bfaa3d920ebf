//! What an interface does with packets before the kernel sees them.

#![allow(unsafe_code, reason = "the requests of ethtool have no safe interface")]

use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketType, socket};

use crate::sys::{Error, Result};

/// `SIOCETHTOOL`.
const ETHTOOL: libc::Ioctl = 0x8946;
/// `ETHTOOL_GFLAGS`.
const GET_FLAGS: u32 = 0x25;
/// `ETH_FLAG_LRO`.
const LRO: u32 = 1 << 15;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ifreq`, with a pointer in it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    value: *mut Value,
    rest: [u8; 16],
}

/// Whether an interface of the calling thread's namespace joins packets in hardware so that they cannot
/// be forwarded any more (large receive offload).
///
/// # Errors
/// There is no such interface, or what the kernel says.
pub fn large_receive(interface: &str) -> Result<bool> {
    let what = format!("asking for the offloads of {interface}");
    let mut name = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(Error::NoInterface(interface.to_owned()));
    }
    for (place, byte) in name.iter_mut().zip(interface.bytes()) {
        *place = byte;
    }
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)
        .map_err(Error::system(what.as_str()))?;
    let mut value = Value {
        command: GET_FLAGS,
        data: 0,
    };
    let mut request = Request {
        name,
        value: &raw mut value,
        rest: [0; 16],
    };
    // SAFETY: the request is as large as the kernel's, and what it points to lives as long.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL, &raw mut request) };
    if done == 0 {
        return Ok(value.data & LRO != 0);
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        // It has nothing to switch.
        Some(libc::EOPNOTSUPP) => Ok(false),
        _ => Err(Error::system(what)(error)),
    }
}
