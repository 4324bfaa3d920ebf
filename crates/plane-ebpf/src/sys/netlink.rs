//! rtnetlink: requests and answers.
//!
//! Only those parts of an answer are read that somebody wants: what a newer kernel adds does not make an
//! answer unreadable.

#![allow(
    unsafe_code,
    reason = "the options of a netlink socket have no safe interface"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    DefaultNla, Emitable, NLA_TYPE_MASK, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP,
    NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NlasIterator,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::{Error, Result};

/// Bytes of one message at most: kernels fill what is offered up to 32 KiB.
const ROOM: usize = 64 << 10;
/// Bytes of a header (`struct nlmsghdr`).
const HEADER: usize = 16;
/// A list that changed while it was read is read again so often.
const TRIES: u32 = 10;

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG`: the reason in words.
const ATTR_MESSAGE: u16 = 1;

/// A socket for rtnetlink, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A request being written: a header of its kind, then attributes.
#[derive(Clone, Debug)]
pub(super) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    /// With this header, a multiple of 4 bytes.
    pub(super) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        Self {
            kind,
            flags,
            body: header.to_vec(),
        }
    }

    /// With one more attribute.
    #[must_use]
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        append(&mut self.body, kind, value);
        self
    }

    /// With one more attribute, if there is a value for it.
    #[must_use]
    pub(super) fn maybe(self, kind: u16, value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => self.with(kind, value),
            None => self,
        }
    }
}

/// Attributes within an attribute.
#[derive(Clone, Debug, Default)]
pub(super) struct Nested(Vec<u8>);

impl Nested {
    #[must_use]
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        append(&mut self.0, kind, value);
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A flag in the kind of an attribute that holds others (`NLA_F_NESTED`).
pub(super) const NESTED: u16 = netlink_packet_core::NLA_F_NESTED;

fn append(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let attribute = DefaultNla::new(kind, value.to_vec());
    let start = body.len();
    body.resize(start + attribute.buffer_len(), 0);
    if let Some(room) = body.get_mut(start..) {
        attribute.emit(room);
    }
}

/// The attributes in these bytes, with the kind of each; what is broken ends them.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(|attribute| {
        let attribute = attribute.ok()?.into_inner();
        let kind = u16::from_ne_bytes(*attribute.get(2..)?.first_chunk()?) & NLA_TYPE_MASK;
        let len = usize::from(u16::from_ne_bytes(*attribute.first_chunk()?));
        Some((kind, attribute.get(4..len)?))
    })
}

/// A number at an offset of a header or an attribute.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let number = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*number))
}

/// A number of two bytes.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let number = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*number))
}

/// A text that ends with a zero.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default())
        .into_owned()
}

/// A message of the kernel's: its type, and what comes after the header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after a header of so many bytes.
    pub(super) fn attributes(
        &self,
        header: usize,
    ) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        attributes(self.body.get(header..).unwrap_or_default())
    }
}

impl Netlink {
    /// Opens one.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> Result<Self> {
        Self::open_with(0)
    }

    /// Opens one that is told of changes in these groups (a bit for each, `RTMGRP_…`).
    pub(super) fn open_with(groups: u32) -> Result<Self> {
        let what = "opening a netlink socket";
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is 0.
            None,
        )
        .map_err(Error::system(what))?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, groups))
            .map_err(Error::system(what))?;
        // Reasons in words, without the request they are about.
        set(&socket, libc::NETLINK_EXT_ACK).map_err(Error::system(what))?;
        set(&socket, libc::NETLINK_CAP_ACK).map_err(Error::system(what))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; ROOM],
        })
    }

    /// Its descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a request and waits until the kernel has done it.
    pub(super) fn change(&mut self, what: &str, request: Request) -> Result<()> {
        self.ask(what, request, NLM_F_ACK, |_| {}).map(|_| ())
    }

    /// Sends a request that has one answer, or a few, and reads them.
    pub(super) fn get(
        &mut self,
        what: &str,
        request: Request,
        each: impl FnMut(Message<'_>),
    ) -> Result<()> {
        self.ask(what, request, NLM_F_ACK, each).map(|_| ())
    }

    /// Asks for a list. If it changed meanwhile it is asked for again.
    pub(super) fn list<T>(
        &mut self,
        what: &str,
        request: &Request,
        mut read: impl FnMut(Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut tries = 0;
        loop {
            let mut found = Vec::new();
            let whole = self.ask(what, request.clone(), NLM_F_DUMP, |message| {
                found.extend(read(message));
            })?;
            tries += 1;
            // A list that never stands still is better than none.
            if whole || tries == TRIES {
                return Ok(found);
            }
        }
    }

    /// Sends and reads up to the acknowledgement or the end of a list; false if the list changed while it was
    /// read.
    fn ask(
        &mut self,
        what: &str,
        request: Request,
        flags: u16,
        mut each: impl FnMut(Message<'_>),
    ) -> Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = frame(&request, flags, self.sequence);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty()).map_err(Error::system(what))?;
        let mut whole = true;
        loop {
            let len = self.receive(what, RecvFlags::empty())?;
            for message in messages(self.buffer.get(..len).unwrap_or_default()) {
                let message = message.map_err(|why| Error::Answer {
                    what: what.to_owned(),
                    why,
                })?;
                // What is left of a request that was given up.
                if message.sequence_number() != self.sequence {
                    continue;
                }
                whole &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_NOOP => {}
                    NLMSG_ERROR | NLMSG_DONE => {
                        ended(what, &message)?;
                        return Ok(whole);
                    }
                    kind => each(Message {
                        kind,
                        body: message.payload(),
                    }),
                }
            }
        }
    }

    /// Reads what is there, and waits for it unless told not to.
    fn receive(&mut self, what: &str, flags: RecvFlags) -> Result<usize> {
        loop {
            let received = rustix::net::recv(
                &self.socket,
                self.buffer.as_mut_slice(),
                flags | RecvFlags::TRUNC,
            );
            match received {
                Ok((_, len)) if len <= self.buffer.len() => return Ok(len),
                Ok((_, len)) => {
                    return Err(Error::Answer {
                        what: what.to_owned(),
                        why: format!("it has {len} bytes"),
                    });
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::system(what)(error)),
            }
        }
    }

    /// Reads the changes that are there now, without waiting; false if some were lost.
    pub(super) fn changes(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<bool> {
        let what = "reading changes of the network";
        let mut whole = true;
        loop {
            let len = match self.receive(what, RecvFlags::DONTWAIT) {
                Ok(len) => len,
                Err(error) if error.errno() == Some(libc::EAGAIN) => return Ok(whole),
                Err(error) if error.errno() == Some(libc::ENOBUFS) => {
                    whole = false;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for message in messages(self.buffer.get(..len).unwrap_or_default()) {
                let Ok(message) = message else {
                    whole = false;
                    break;
                };
                each(Message {
                    kind: message.message_type(),
                    body: message.payload(),
                });
            }
        }
    }
}

/// Sets an option of a netlink socket to 1.
fn set(socket: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let one: libc::c_int = 1;
    // SAFETY: the address is that of a number, with its size.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            std::ptr::from_ref(&one).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A request with its header.
fn frame(request: &Request, flags: u16, sequence: u32) -> Vec<u8> {
    let len = HEADER + request.body.len();
    let mut bytes = vec![0; len];
    let mut header = NetlinkBuffer::new(&mut bytes);
    header.set_length(u32::try_from(len).unwrap_or(u32::MAX));
    header.set_message_type(request.kind);
    header.set_flags(request.flags | flags | NLM_F_REQUEST);
    header.set_sequence_number(sequence);
    if let Some(body) = bytes.get_mut(HEADER..) {
        body.copy_from_slice(&request.body);
    }
    bytes
}

/// The messages in what was received.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Result<NetlinkBuffer<&[u8]>, String>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let message = match NetlinkBuffer::new_checked(bytes) {
            Ok(message) => message,
            Err(error) => {
                bytes = &[];
                return Some(Err(error.to_string()));
            }
        };
        let len = (message.length() as usize).next_multiple_of(4);
        bytes = bytes.get(len..).unwrap_or_default();
        Some(Ok(message))
    })
}

/// What an acknowledgement or the end of a list says.
fn ended(what: &str, message: &NetlinkBuffer<&[u8]>) -> Result<()> {
    let body = message.payload();
    let code = u32_at(body, 0).map_or(0, u32::cast_signed);
    if code == 0 {
        return Ok(());
    }
    // An error repeats the header of the request, and all of it if it is not capped.
    let reasons = match message.message_type() {
        NLMSG_DONE => 4,
        _ if message.flags() & NLM_F_CAPPED != 0 => 4 + HEADER,
        _ => 4 + u32_at(body, 4).map_or(HEADER, |len| (len as usize).next_multiple_of(4)),
    };
    let reasons = body.get(reasons..).unwrap_or_default();
    let words = attributes(reasons)
        .find(|(kind, _)| *kind == ATTR_MESSAGE && message.flags() & NLM_F_ACK_TLVS != 0);
    Err(Error::Netlink {
        what: what.to_owned(),
        source: io::Error::from_raw_os_error(code.saturating_neg()),
        message: words.map_or_else(String::new, |(_, words)| text(words)),
    })
}
