//! The sockets to backends: which session each one is of, and those that wait for their next one.
//!
//! To open, watch and close a socket costs the kernel more than the two datagrams do that a session of
//! a question and its answer is made of. So a socket is used again: it is taken off its backend (a
//! `connect` to `AF_UNSPEC`, connect(2)), by which it loses its port and with it what is yet to come,
//! and the next `connect` gives it another port at random, as it gives one to a new socket.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, Socket, Type};

use super::table::Id;

/// How long a socket rests, in µs. What another core is putting into it just when it is taken off its
/// backend is in there by then, to be thrown away: nobody gets an answer to another.
const REST: u64 = 5_000;

/// What is thrown away of a socket before it is used again; if there is more it is closed.
const LEFT: usize = 256;

/// Sockets to backends, all watched.
#[derive(Debug)]
pub(crate) struct Sockets {
    set: Rc<OwnedFd>,
    /// Whose a socket is, by its descriptor. If it is nobody's, whose it was: a session that has ended.
    owners: Vec<Option<Id>>,
    v4: Resting,
    v6: Resting,
}

/// Sockets of one family that are nobody's.
#[derive(Debug)]
struct Resting {
    /// With the time from when on they rest, which is that of the first at most.
    sockets: VecDeque<(u64, Socket)>,
    most: usize,
    /// How many have not been needed of late.
    spare: usize,
}

impl Sockets {
    /// Watched in `set`. At most `most` of each family rest.
    pub(crate) fn new(set: Rc<OwnedFd>, most: usize) -> Self {
        let resting = || Resting {
            sockets: VecDeque::new(),
            most,
            spare: 0,
        };
        Self {
            set,
            owners: Vec::new(),
            v4: resting(),
            v6: resting(),
        }
    }

    /// A socket to be connected to `addr`. `now` is in µs.
    ///
    /// # Errors
    /// The host has no descriptor or memory left.
    pub(crate) fn open(&mut self, addr: SocketAddr, now: u64) -> io::Result<Socket> {
        if let Some(socket) = self.resting(addr).take(now) {
            return Ok(socket);
        }
        let kind = Type::DGRAM.nonblocking().cloexec();
        let domain = Domain::for_address(addr);
        self.watch(Socket::new_raw(domain, kind, Some(Protocol::UDP))?)
    }

    /// Watches a new socket.
    ///
    /// # Errors
    /// The host has no memory left.
    pub(crate) fn watch(&self, socket: Socket) -> io::Result<Socket> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&self.set, &socket, data(&socket), flags)?;
        Ok(socket)
    }

    /// Gives a socket to a session.
    pub(crate) fn own(&mut self, socket: &Socket, id: Id) {
        let at = number(socket);
        if self.owners.len() <= at {
            self.owners.resize(at + 1, None);
        }
        if let Some(owner) = self.owners.get_mut(at) {
            *owner = Some(id);
        }
    }

    /// The session that the socket with this number is of, or was of.
    pub(crate) fn owner(&self, number: u32) -> Option<Id> {
        *self.owners.get(number as usize)?
    }

    /// Takes a socket back that was connected to `addr` and whose session has ended. `now` is in µs.
    pub(crate) fn give_back(&mut self, socket: Socket, addr: SocketAddr, now: u64) {
        let resting = self.resting(addr);
        if resting.sockets.len() < resting.most && rustix::net::connect_unspec(&socket).is_ok() {
            resting.sockets.push_back((now, socket));
        }
    }

    /// Has a socket tell of what is left unread as often as it is asked (level-triggered), or of news
    /// only. Whether it does.
    pub(crate) fn tell_again(&self, socket: &Socket, again: bool) -> bool {
        let flags = match again {
            true => epoll::EventFlags::IN,
            false => epoll::EventFlags::IN | epoll::EventFlags::ET,
        };
        epoll::modify(&self.set, socket, data(socket), flags).is_ok()
    }

    /// Closes sockets that have not been needed since the last time.
    pub(crate) fn shrink(&mut self) {
        for resting in [&mut self.v4, &mut self.v6] {
            resting.sockets.drain(..resting.spare.div_ceil(2));
            resting.spare = resting.sockets.len();
        }
    }

    fn resting(&mut self, addr: SocketAddr) -> &mut Resting {
        match addr {
            SocketAddr::V4(_) => &mut self.v4,
            SocketAddr::V6(_) => &mut self.v6,
        }
    }
}

impl Resting {
    /// One that has rested for long enough and holds nothing.
    fn take(&mut self, now: u64) -> Option<Socket> {
        let rested = |(since, _): &(u64, Socket)| now.saturating_sub(*since) >= REST;
        loop {
            if !self.sockets.front().is_some_and(rested) {
                self.spare = 0;
                return None;
            }
            let (_, socket) = self.sockets.pop_front()?;
            self.spare = self.spare.min(self.sockets.len());
            if is_emptied(&socket) {
                return Some(socket);
            }
        }
    }
}

/// Throws away what a socket holds: datagrams, and the error that the kernel has to tell of one. Not
/// if there is no end to it.
fn is_emptied(socket: &Socket) -> bool {
    let mut byte = [0];
    (0..LEFT).any(|_| {
        let received = rustix::net::recv(socket, &mut byte, RecvFlags::DONTWAIT);
        matches!(received, Err(Errno::AGAIN))
    })
}

/// What events tell a socket by: its descriptor.
fn number(socket: &Socket) -> usize {
    usize::try_from(socket.as_fd().as_raw_fd()).unwrap_or(0)
}

fn data(socket: &Socket) -> epoll::EventData {
    epoll::EventData::new_u64(number(socket) as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::collections::HashSet;
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

    use rustix::buffer::spare_capacity;

    use super::*;

    fn sockets(most: usize) -> Sockets {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        Sockets::new(Rc::new(set), most)
    }

    fn peer() -> (UdpSocket, SocketAddr) {
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = peer.local_addr().unwrap();
        (peer, addr)
    }

    fn connect(sockets: &mut Sockets, addr: SocketAddr, id: Id, now: u64) -> Socket {
        let socket = sockets.open(addr, now).unwrap();
        sockets.own(&socket, id);
        socket.connect(&addr.into()).unwrap();
        socket
    }

    fn id(at: u32) -> Id {
        Id { at, generation: 1 }
    }

    fn local(socket: &Socket) -> SocketAddr {
        socket.local_addr().unwrap().as_socket().unwrap()
    }

    #[test]
    fn a_socket_is_used_again_from_another_port_and_tells_of_its_new_session() {
        let (mut sockets, (peer, addr)) = (sockets(8), peer());
        let mut ports = HashSet::new();
        for turn in 0..8 {
            let now = u64::from(turn) * REST;
            let socket = connect(&mut sockets, addr, id(turn), now);
            ports.insert(local(&socket).port());
            socket.send(b"?").unwrap();
            let (_, from) = peer.recv_from(&mut [0; 9]).unwrap();
            peer.send_to(b"!", from).unwrap();
            let mut events = Vec::with_capacity(4);
            epoll::wait(&sockets.set, spare_capacity(&mut events), None).unwrap();
            let number = u32::try_from(events[0].data.u64()).unwrap();
            assert_eq!((events.len(), sockets.owner(number)), (1, Some(id(turn))));
            let mut bytes = [0; 9];
            assert_eq!(
                rustix::net::recv(&socket, &mut bytes, RecvFlags::DONTWAIT)
                    .unwrap()
                    .1,
                1
            );
            sockets.give_back(socket, addr, now);
            assert_eq!(sockets.v4.sockets.len(), 1, "it is one and the same");
        }
        // Eight ports at random: that all are the same happens never.
        assert!(ports.len() > 1, "{ports:?}");
    }

    #[test]
    fn what_comes_late_is_for_nobody() {
        let (mut sockets, (peer, addr)) = (sockets(8), peer());
        let first = connect(&mut sockets, addr, id(1), 0);
        let port = local(&first);
        // What was not read, and what comes when the session is over.
        peer.send_to(b"unread", port).unwrap();
        sockets.give_back(first, addr, 0);
        peer.send_to(b"late", port).unwrap();
        let (gone, nowhere) = {
            let (gone, nowhere) = self::peer();
            let socket = connect(&mut sockets, nowhere, id(2), 0);
            drop(gone);
            // The error that comes back is that of a session which has ended, too.
            socket.send(b"?").unwrap();
            (socket, nowhere)
        };
        sockets.give_back(gone, nowhere, 0);
        for turn in 3..5 {
            let socket = connect(&mut sockets, addr, id(turn), REST);
            let received = rustix::net::recv(&socket, &mut [0; 9], RecvFlags::DONTWAIT);
            assert_eq!(received.unwrap_err(), Errno::AGAIN);
        }
        assert!(sockets.v4.sockets.is_empty(), "both were used again");
    }

    #[test]
    fn a_socket_rests_first_and_only_so_many_do() {
        let (mut sockets, (_peer, addr)) = (sockets(2), peer());
        let held: Vec<Socket> = (0..3)
            .map(|n| connect(&mut sockets, addr, id(n), 0))
            .collect();
        for socket in held {
            sockets.give_back(socket, addr, 1000);
        }
        assert_eq!(sockets.v4.sockets.len(), 2);
        let _new = connect(&mut sockets, addr, id(4), 999 + REST);
        assert_eq!(sockets.v4.sockets.len(), 2, "they still rest");
        let _again = connect(&mut sockets, addr, id(5), 1000 + REST);
        assert_eq!(sockets.v4.sockets.len(), 1);
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
        assert!(
            sockets.resting(v6).take(u64::MAX).is_none(),
            "another family"
        );
    }

    #[test]
    fn what_is_not_needed_is_closed_by_and_by() {
        let (mut sockets, (_peer, addr)) = (sockets(64), peer());
        let held: Vec<Socket> = (0..16)
            .map(|n| connect(&mut sockets, addr, id(n), 0))
            .collect();
        for socket in held {
            sockets.give_back(socket, addr, 0);
        }
        sockets.shrink();
        let left = |sockets: &Sockets| sockets.v4.sockets.len();
        assert_eq!(left(&sockets), 16, "they have just come");
        let used: Vec<Socket> = (0..12)
            .map(|n| connect(&mut sockets, addr, id(n), REST))
            .collect();
        for socket in used {
            sockets.give_back(socket, addr, REST);
        }
        sockets.shrink();
        assert_eq!(left(&sockets), 14, "four were too many");
        let mut turns = 0;
        while left(&sockets) > 0 {
            sockets.shrink();
            turns += 1;
            assert!(turns < 10, "{} are left", left(&sockets));
        }
    }
}
