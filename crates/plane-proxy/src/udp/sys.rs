//! Datagrams in batches: `recvmmsg` and `sendmmsg` with the address that a datagram came to (and an
//! answer leaves from), and trains of datagrams in one message (UDP GRO and GSO).
//!
//! No library at hand has all of that for a proxy: rustix knows none of these control messages, and
//! quinn-udp forbids fragmentation, which loses large DNS answers, and sends one message per call.

#![allow(
    unsafe_code,
    reason = "recvmmsg, sendmmsg and their control messages have no safe interface"
)]

mod control;

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::train::{Piece, Train};
use control::{say, told};

/// The greatest UDP payload, or train of payloads, that fits a slot (RFC 768: 16 bits with a header).
pub(crate) const SLOT: usize = 65_535;

/// Distance of two slots. Not a power of two: the first lines of all slots, which small datagrams
/// fill, would fall on one set of the processor's cache.
const STRIDE: usize = 65_536 + 192;

/// Messages received or sent by one call at most.
pub(crate) const BATCH: usize = 32;

/// Room for the control messages of one message: a packet info of IPv6 and a segment size, or more.
const CONTROL: usize = 96;

/// Where an answer leaves from: an address of this host, and the interface where the address alone
/// does not say it (link-local).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Local {
    pub(crate) ip: IpAddr,
    /// 0 for any.
    pub(crate) interface: u32,
}

/// One message received into a slot: a datagram, or a train of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) piece: Piece,
    pub(crate) from: SocketAddr,
    /// What it was sent to, if the socket was made to tell.
    pub(crate) to: Option<Local>,
}

/// A train to send.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) train: Train,
    /// None on a connected socket.
    pub(crate) to: Option<SocketAddr>,
    pub(crate) from: Option<Local>,
}

/// Aligned as control messages have to be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// Slots for datagrams, and what the kernel is told and tells of them.
pub(crate) struct Mailbox {
    bytes: Box<[u8]>,
    heads: Box<[libc::mmsghdr]>,
    names: Box<[libc::sockaddr_storage]>,
    parts: Vec<libc::iovec>,
    controls: Box<[Control]>,
}

impl Mailbox {
    /// A mailbox of [`BATCH`] slots.
    pub(crate) fn new() -> Self {
        // SAFETY: these are plain C structures, for which all zeros are a value.
        let (head, name) = unsafe { (zeroed::<libc::mmsghdr>(), zeroed()) };
        Self {
            bytes: vec![0; STRIDE * BATCH].into_boxed_slice(),
            heads: vec![head; BATCH].into_boxed_slice(),
            names: vec![name; BATCH].into_boxed_slice(),
            parts: Vec::with_capacity(BATCH),
            controls: vec![Control([0; CONTROL]); BATCH].into_boxed_slice(),
        }
    }

    /// Receives into the slots from `first` on, at most `most` messages, and appends what came.
    /// The number of messages; fewer than there was room for means that none is left.
    ///
    /// # Errors
    /// None waits (`WouldBlock`), or what the kernel has to tell of an earlier datagram
    /// (`ConnectionRefused`).
    pub(crate) fn receive(
        &mut self,
        socket: impl AsFd,
        first: usize,
        most: usize,
        got: &mut Vec<Received>,
    ) -> io::Result<usize> {
        let n = self.fill(socket, first, most, true)?;
        let messages = self.heads.iter().zip(&self.names).take(n).enumerate();
        for (i, (head, name)) in messages {
            let Some(from) = address(name) else {
                continue;
            };
            let (to, stride) = told(&head.msg_hdr);
            let piece = piece(first + i, head, stride);
            got.push(Received { piece, from, to });
        }
        Ok(n)
    }

    /// As [`Self::receive`], where all comes from the one that the socket is connected to.
    ///
    /// # Errors
    /// As of [`Self::receive`].
    pub(crate) fn receive_from_peer(
        &mut self,
        socket: impl AsFd,
        first: usize,
        most: usize,
        got: &mut Vec<Piece>,
    ) -> io::Result<usize> {
        let n = self.fill(socket, first, most, false)?;
        let messages = self.heads.iter().take(n).enumerate();
        got.extend(messages.map(|(i, head)| piece(first + i, head, told(&head.msg_hdr).1)));
        Ok(n)
    }

    /// Receives one datagram into a slot, from a connected socket that gets no trains. 1.
    ///
    /// # Errors
    /// As of [`Self::receive`].
    pub(crate) fn receive_one(
        &mut self,
        socket: impl AsFd,
        slot: usize,
        got: &mut Vec<Piece>,
    ) -> io::Result<usize> {
        let start = slot * STRIDE;
        let room = self.bytes.get_mut(start..start + SLOT).unwrap_or_default();
        loop {
            match rustix::net::recv(&socket, &mut *room, RecvFlags::DONTWAIT) {
                Ok((len, _)) => {
                    let stride = len;
                    got.push(Piece { slot, len, stride });
                    return Ok(1);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Receives into the slots from `first` on, with the senders' names if `named`.
    fn fill(
        &mut self,
        socket: impl AsFd,
        first: usize,
        most: usize,
        named: bool,
    ) -> io::Result<usize> {
        let most = most.min(BATCH.saturating_sub(first));
        self.parts.clear();
        for at in first..first + most {
            let Some(slot) = self.bytes.get_mut(at * STRIDE..at * STRIDE + SLOT) else {
                break;
            };
            self.parts.push(libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: SLOT,
            });
        }
        let rooms = self.heads.iter_mut().zip(&mut self.names);
        let rooms = rooms.zip(&mut self.controls).zip(&mut self.parts);
        for (((head, name), control), part) in rooms {
            let head = &mut head.msg_hdr;
            (head.msg_name, head.msg_namelen) = match named {
                true => (
                    ptr::from_mut(name).cast(),
                    len_of::<libc::sockaddr_storage>(),
                ),
                false => (ptr::null_mut(), 0),
            };
            head.msg_iov = part;
            head.msg_iovlen = 1;
            head.msg_control = control.0.as_mut_ptr().cast();
            head.msg_controllen = CONTROL;
            head.msg_flags = 0;
        }
        let count = self.parts.len().try_into().unwrap_or(0);
        // SAFETY: each of the first `count` heads points to a name, a part and a control of its own,
        // which live in `self` and are not looked at while the kernel writes; each part points to a
        // slot of its own with SLOT bytes.
        again(|| unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.heads.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        })
    }

    /// Sends up to [`BATCH`] messages. The number of those that were sent; fewer than were given
    /// means that the next call tells the error of the first that was not.
    ///
    /// # Errors
    /// Of the first message.
    pub(crate) fn send(&mut self, socket: impl AsFd, messages: &[Outgoing]) -> io::Result<usize> {
        if let [only] = messages
            && let Some(done) = self.send_plain(&socket, only)
        {
            return done.map(|()| 1);
        }
        self.parts.clear();
        for message in messages.iter().take(BATCH) {
            for piece in &message.train.pieces {
                let start = piece.slot * STRIDE + piece.offset;
                let bytes = self.bytes.get(start..start + piece.len);
                let bytes = bytes.unwrap_or_default();
                self.parts.push(libc::iovec {
                    iov_base: bytes.as_ptr().cast_mut().cast(),
                    iov_len: bytes.len(),
                });
            }
        }
        let mut parts = self.parts.as_mut_slice();
        let rooms = self.heads.iter_mut().zip(&mut self.names);
        let rooms = rooms.zip(&mut self.controls).zip(messages);
        let mut count = 0;
        for (((head, name), control), message) in rooms {
            let pieces = message.train.pieces.len();
            let Some((own, rest)) = std::mem::take(&mut parts).split_at_mut_checked(pieces) else {
                break;
            };
            parts = rest;
            let head = &mut head.msg_hdr;
            head.msg_iov = own.as_mut_ptr();
            head.msg_iovlen = own.len();
            (head.msg_name, head.msg_namelen) = match message.to {
                Some(to) => (ptr::from_mut(name).cast(), put_address(name, to)),
                None => (ptr::null_mut(), 0),
            };
            head.msg_flags = 0;
            head.msg_control = control.0.as_mut_ptr().cast();
            head.msg_controllen = CONTROL;
            head.msg_controllen = say(head, message);
            if head.msg_controllen == 0 {
                head.msg_control = ptr::null_mut();
            }
            count += 1;
        }
        // SAFETY: each of the first `count` heads points to parts, a name and a control of its own in
        // `self`, and the parts to bytes in its slots, which the kernel only reads.
        again(|| unsafe {
            libc::sendmmsg(
                socket.as_fd().as_raw_fd(),
                self.heads.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        })
    }

    /// Sends a message that is one datagram and needs no control message; None if it is not.
    fn send_plain(&self, socket: impl AsFd, message: &Outgoing) -> Option<io::Result<()>> {
        let ([piece], None, None) = (&*message.train.pieces, message.train.segment, message.from)
        else {
            return None;
        };
        let start = piece.slot * STRIDE + piece.offset;
        let bytes = self.bytes.get(start..start + piece.len).unwrap_or_default();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            let sent = match message.to {
                None => rustix::net::send(&socket, bytes, flags),
                Some(to) => rustix::net::sendto(&socket, bytes, flags, &to),
            };
            match sent {
                Err(Errno::INTR) => {}
                sent => return Some(sent.map(drop).map_err(io::Error::from)),
            }
        }
    }
}

/// What was received into a slot; `stride` is of the train, if it is one.
fn piece(slot: usize, head: &libc::mmsghdr, stride: Option<usize>) -> Piece {
    let len = usize::try_from(head.msg_len).unwrap_or(0);
    Piece {
        slot,
        len,
        stride: stride.filter(|s| *s < len && *s > 0).unwrap_or(len),
    }
}

fn len_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

/// Calls until it is not interrupted.
fn again(mut call: impl FnMut() -> libc::c_int) -> io::Result<usize> {
    loop {
        if let Ok(n) = usize::try_from(call()) {
            return Ok(n);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The address in a name that the kernel filled in.
fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is a sockaddr_in, which is smaller than the storage
            // and aligned like it.
            let v4 = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for a sockaddr_in6.
            let v6 = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Writes an address into a name. Its length.
fn put_address(name: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let family = libc::sa_family_t::try_from(family).unwrap_or(0);
    match address {
        SocketAddr::V4(v4) => {
            let put = libc::sockaddr_in {
                sin_family: family,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from(*v4.ip()).to_be(),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is larger than every address and aligned for it.
            unsafe { ptr::from_mut(name).cast::<libc::sockaddr_in>().write(put) };
            len_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let put = libc::sockaddr_in6 {
                sin6_family: family,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { ptr::from_mut(name).cast::<libc::sockaddr_in6>().write(put) };
            len_of::<libc::sockaddr_in6>()
        }
    }
}

/// Has trains of datagrams received in one message, where the kernel can (Linux 5.0).
pub(crate) fn receive_trains(socket: impl AsFd) {
    // Without it each datagram is a message.
    let _ = switch_on(socket, libc::SOL_UDP, libc::UDP_GRO);
}

/// Has each message tell what it was sent to.
///
/// # Errors
/// The kernel cannot tell, and so answers would leave from the wrong address.
pub(crate) fn tell_destination(socket: impl AsFd, v6: bool) -> io::Result<()> {
    match v6 {
        true => switch_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => switch_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO),
    }
}

/// Has the runtime watch a polling set.
///
/// # Errors
/// The runtime cannot.
pub(crate) fn watched(set: Rc<OwnedFd>) -> io::Result<AsyncFd<Rc<OwnedFd>>> {
    // SAFETY: the descriptor is owned, shared and never replaced, so it stays open and the same for
    // as long as the result lives.
    let watched = unsafe { AsyncFd::register_with_interest(set, Interest::READABLE) };
    Ok(watched?)
}

fn switch_on(socket: impl AsFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value is an int that lives during the call, and its length is given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            ptr::from_ref(&on).cast(),
            len_of::<libc::c_int>(),
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
