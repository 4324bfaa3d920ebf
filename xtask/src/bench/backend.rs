//! The cheapest backends that still answer properly: one prebuilt answer, keep-alive, no parsing
//! beyond the end of a request.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, Ipv4Addr, RecvFlags, SendFlags, SocketAddrV4, SocketFlags, SocketType,
};

use super::engine::Poll;
use super::{Error, Mode};

/// Room in a socket's send buffer for a whole answer or request, in bytes.
pub(crate) const SEND_BUFFER: usize = 512 * 1024;

/// Bytes read at once.
pub(crate) const READ: usize = 128 * 1024;

/// Connections wait here until they are accepted.
const BACKLOG: i32 = 4096;

/// Several listeners that answer alike.
pub(crate) struct Backend {
    mode: Mode,
    /// The whole answer to one request.
    answer: Vec<u8>,
    /// Bytes of a request (TCP).
    request: usize,
    listeners: Vec<(OwnedFd, u16)>,
    /// Their tokens follow those of the listeners.
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

struct Conn {
    fd: OwnedFd,
    /// Bytes of the request that have come so far (TCP).
    got: usize,
    /// The end of what came so far (HTTP).
    tail: [u8; 4],
    /// Bytes of the answer that are sent, while one is on its way.
    sending: Option<usize>,
    /// Whether the socket is watched for room to write.
    awaits_room: bool,
}

impl Backend {
    /// Listens on `count` ports of 127.0.0.1.
    pub(crate) fn start(mode: Mode, bytes: usize, count: usize) -> Result<Self, Error> {
        let mut answer = match mode {
            Mode::Http => format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {bytes}\r\n\r\n"
            )
            .into_bytes(),
            Mode::Tcp | Mode::Udp => Vec::new(),
        };
        answer.resize(answer.len() + bytes, b'x');
        let listeners = (0..count)
            .map(|_| listen().map_err(|errno| Error::Io("listen", errno.into())))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            mode,
            answer,
            request: bytes,
            listeners,
            conns: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; READ],
        })
    }

    /// Where it listens.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.listeners.iter().map(|(_, port)| *port).collect()
    }

    /// Watches the listeners.
    pub(crate) fn register(&self, poll: &Poll<'_>) -> Result<(), Errno> {
        for (token, (fd, _)) in self.listeners.iter().enumerate() {
            poll.add(fd, token, false)?;
        }
        Ok(())
    }

    /// Something happened on a socket.
    pub(crate) fn ready(&mut self, poll: &Poll<'_>, token: usize) {
        match token.checked_sub(self.listeners.len()) {
            None => self.accept(poll, token),
            Some(slot) => self.serve(poll, token, slot),
        }
    }

    fn accept(&mut self, poll: &Poll<'_>, token: usize) {
        let Some((listener, _)) = self.listeners.get(token) else {
            return;
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        while let Ok(fd) = rustix::net::accept_with(listener, flags) {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            let ready = sockopt::set_tcp_nodelay(&fd, true)
                .and_then(|()| sockopt::set_socket_send_buffer_size(&fd, SEND_BUFFER))
                .and_then(|()| poll.add(&fd, self.listeners.len() + slot, false));
            match (ready, self.conns.get_mut(slot)) {
                (Ok(()), Some(place)) => {
                    *place = Some(Conn {
                        fd,
                        got: 0,
                        tail: [0; 4],
                        sending: None,
                        awaits_room: false,
                    });
                }
                _ => self.free.push(slot),
            }
        }
    }

    fn serve(&mut self, poll: &Poll<'_>, token: usize, slot: usize) {
        let Some(place) = self.conns.get_mut(slot) else {
            return;
        };
        let Some(conn) = place else { return };
        let alive = if conn.sending.is_some() {
            conn.send(poll, token, &self.answer)
        } else {
            match conn.receive(self.mode, self.request, &mut self.buffer) {
                Received::Whole => {
                    conn.sending = Some(0);
                    conn.send(poll, token, &self.answer)
                }
                Received::Part => true,
                Received::End => false,
            }
        };
        if !alive {
            *place = None;
            self.free.push(slot);
        }
    }
}

enum Received {
    Part,
    Whole,
    End,
}

impl Conn {
    fn receive(&mut self, mode: Mode, request: usize, buffer: &mut [u8]) -> Received {
        // The payload of a TCP request is only counted: no need to copy it out of the kernel.
        let flags = if mode == Mode::Tcp {
            RecvFlags::TRUNC
        } else {
            RecvFlags::empty()
        };
        let length = match rustix::net::recv(&self.fd, &mut *buffer, flags) {
            Ok((_, 0)) => return Received::End,
            Ok((_, length)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Received::Part,
            Err(_) => return Received::End,
        };
        let whole = match mode {
            Mode::Tcp | Mode::Udp => {
                self.got += length;
                self.got >= request
            }
            Mode::Http => {
                let came = buffer.get(..length).unwrap_or_default();
                for &byte in came.get(length.saturating_sub(4)..).unwrap_or_default() {
                    self.tail.rotate_left(1);
                    self.tail[3] = byte;
                }
                self.tail == *b"\r\n\r\n"
            }
        };
        if whole {
            self.got = 0;
            self.tail = [0; 4];
            Received::Whole
        } else {
            Received::Part
        }
    }

    /// Whether the connection lives on.
    fn send(&mut self, poll: &Poll<'_>, token: usize, answer: &[u8]) -> bool {
        let sent = self.sending.unwrap_or_default();
        let rest = answer.get(sent..).unwrap_or_default();
        let room = match rustix::net::send(&self.fd, rest, SendFlags::NOSIGNAL) {
            Ok(count) if count == rest.len() => {
                self.sending = None;
                false
            }
            Ok(count) => {
                self.sending = Some(sent + count);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => return false,
        };
        std::mem::replace(&mut self.awaits_room, room) == room
            || poll.modify(&self.fd, token, room).is_ok()
    }
}

fn listen() -> Result<(OwnedFd, u16), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&fd, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&fd, BACKLOG)?;
    let address = rustix::net::getsockname(&fd)?;
    let port = SocketAddrV4::try_from(address)?.port();
    Ok((fd, port))
}
