//! The way of a session to its backend: a place there, a connected socket, and how that is read.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use plimsoll_model::Invalid;
use socket2::{Protocol, SockAddr, Socket, Type};

use super::session::Key;
use super::sockets::Sockets;
use super::sys::{self, BATCH};
use crate::backend::{LiveBackend, Place};
use crate::connect::{describe, is_local, is_short};
use crate::itself::{self, Itself, is_itself};
use crate::listener::Port;
use crate::snapshot::LiveService;
use crate::way::Way;

/// After so many datagrams from the backend a session is no exchange of a question and an answer, and
/// worth a system call to have what follows told or sent in a better way.
const LONG: u64 = 8;

/// Messages read by one call where few are expected.
const FEW: usize = 4;

/// Of so many datagrams of a calm session, one is read as if there were more.
const LOOK: u64 = 16;

/// Bytes that wait to be read of a long session; the kernel caps it at `net.core.rmem_max`.
const ROOM: usize = 2 << 20;

/// The way to a backend: a place there, and a connected socket, whose port tells the answers to this
/// client from those to others.
#[derive(Debug)]
pub(crate) struct Link {
    place: Place,
    connected: Connected,
    manner: Manner,
}

/// A socket that is connected: it gets the answers of this backend alone, and its ICMP errors.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) socket: Socket,
    addr: SocketAddr,
    /// It has options of its own (`to-backends`), and so is of no use to another session.
    own: bool,
}

/// How a backend answers, and so how its socket is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// It is not known yet. The socket tells of news only (edge-triggered).
    New {
        /// It has sent several at a time.
        many: bool,
    },
    /// One datagram at a time. As the socket tells of what is left (level-triggered), one is read
    /// without asking for a second that is not there.
    Calm,
    /// Several at a time, and so in trains where the kernel can. The socket tells of news only.
    Trains {
        /// Messages to expect.
        room: usize,
    },
}

impl Link {
    pub(crate) fn new(place: Place, connected: Connected) -> Self {
        Self {
            place,
            connected,
            manner: Manner::New { many: false },
        }
    }

    pub(crate) fn backend(&self) -> &Arc<LiveBackend> {
        self.place.backend()
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.connected.socket.as_fd()
    }

    /// Whether the socket tells again of what was not read.
    pub(crate) fn tells_again(&self) -> bool {
        self.manner == Manner::Calm
    }

    /// How many messages to read by one call, after so many datagrams. `ends`: the session ends with the
    /// answer that it waits for.
    pub(crate) fn room(&self, ends: bool, answered: u64) -> usize {
        match self.manner {
            Manner::New { .. } if ends => 1,
            Manner::Calm if !answered.is_multiple_of(LOOK) => 1,
            Manner::Trains { room } => room,
            Manner::New { .. } | Manner::Calm => FEW,
        }
    }

    /// Reads from now on as what was just read suggests.
    pub(crate) fn adapt(
        &mut self,
        sockets: &Sockets,
        answered: u64,
        messages: usize,
        datagrams: usize,
    ) {
        let (socket, several) = (&self.connected.socket, datagrams > 1);
        self.manner = match self.manner {
            Manner::New { many } if answered <= LONG => Manner::New {
                many: many || several,
            },
            Manner::New { many: false } if !several => match sockets.tell_again(socket, true) {
                true => Manner::Calm,
                false => return,
            },
            Manner::Calm if !several => return,
            Manner::Calm if !sockets.tell_again(socket, false) => return,
            Manner::New { .. } | Manner::Calm => {
                sys::receive_trains(socket);
                // The default holds three trains.
                let _ = socket.set_recv_buffer_size(ROOM);
                Manner::Trains { room: BATCH }
            }
            Manner::Trains { .. } => Manner::Trains {
                room: (messages * 2).clamp(FEW, BATCH),
            },
        };
    }

    /// The socket, and the address it is connected to, if another session can use it.
    pub(crate) fn left(self) -> Option<(Socket, SocketAddr)> {
        let Connected { socket, addr, own } = self.connected;
        let usual = !own && matches!(self.manner, Manner::New { .. });
        usual.then_some((socket, addr))
    }
}

/// Why there is no socket.
pub(super) enum Failure {
    /// The host has no descriptor, port or memory left.
    Host(io::Error),
    /// The same towards this backend alone.
    Short(io::Error),
    /// The backend cannot be reached from the client's address.
    Client(Invalid),
    Backend(String),
}

/// Connects to a backend, at `now` in µs.
pub(super) fn connect(
    service: &LiveService,
    backend: &LiveBackend,
    port: &Port,
    key: &Key,
    sockets: &mut Sockets,
    now: u64,
) -> Result<Connected, Failure> {
    // The plane's check refuses Unix sockets, so there is an address.
    let Some(addr) = backend.socket_addr(port.port) else {
        return Err(Failure::Backend("it has no address".into()));
    };
    let itself = match is_itself(port, addr) {
        Itself::No => false,
        Itself::Yes => true,
        Itself::IfLocal => backend.whereabouts.is_here(addr),
    };
    if itself {
        return Err(Failure::Backend(itself::REASON.into()));
    }
    let way = Way::of(&service.spec, addr, key.client()).map_err(Failure::Client)?;
    let (socket, addr) = match &way {
        Some(way) => {
            let socket = match way.socket(Type::DGRAM, Protocol::UDP) {
                Err(error) if !is_local(&error) && error.kind() != io::ErrorKind::AddrInUse => {
                    return Err(Failure::Backend(way.describe(&error)));
                }
                socket => socket,
            };
            (socket.and_then(|socket| sockets.watch(socket)), way.addr())
        }
        None => (sockets.open(addr, now), addr),
    };
    let socket = socket.map_err(Failure::Host)?;
    match socket.connect(&SockAddr::from(addr)) {
        Ok(()) => Ok(Connected {
            socket,
            addr,
            own: way.is_some(),
        }),
        Err(error) if is_local(&error) => Err(Failure::Host(error)),
        Err(error) if is_short(&error) => Err(Failure::Short(error)),
        Err(error) => Err(Failure::Backend(unreachable(&error))),
    }
}

/// Why nothing gets there, in the words of the field: what is a refused connection to a socket is the
/// ICMP message "port unreachable" to a datagram.
pub(super) fn unreachable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "port unreachable".into(),
        _ => describe(error),
    }
}
