//! Ports of loopback that tests running side by side do not take from each other.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::fs::FlockOperation;

use crate::Error;

/// The first port that is given out.
const FIRST: u16 = 10_000;

/// How many there are: all of them below the range from which Linux takes the ports of outgoing
/// connections.
const COUNT: u16 = 22_000;

/// A port that nobody listens on. It is ours as long as this lives: the lock on a file of its
/// number keeps other tests away, in this process and others, while nothing listens on it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Takes a free port, for TCP and UDP.
    ///
    /// # Errors
    /// None is free, or the lock files cannot be made.
    pub fn take() -> Result<Self, Error> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let user = rustix::process::geteuid().as_raw();
        let dir = std::env::temp_dir().join(format!("plimsoll-ports-{user}"));
        fs::create_dir_all(&dir).map_err(Error::io(format!("making {}", dir.display())))?;
        // Each process begins elsewhere, so that they seldom try the same.
        let start = std::process::id().wrapping_mul(101) % u32::from(COUNT);
        for _ in 0..COUNT {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let Ok(offset) = u16::try_from((start + step) % u32::from(COUNT)) else {
                continue;
            };
            let number = FIRST + offset;
            let lock = File::create(dir.join(number.to_string()))
                .map_err(Error::io(format!("locking port {number}")))?;
            let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
            if locked.is_ok() && unused(number) {
                return Ok(Self {
                    number,
                    _lock: lock,
                });
            }
        }
        Err(Error::Failed("no port is free on loopback".to_owned()))
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// It on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// Whether nobody listens there, on any address.
fn unused(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_a_port_twice() {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(|| (0..50).map(|_| Port::take().unwrap()).collect::<Vec<_>>())
            })
            .collect();
        let ports: Vec<Port> = threads
            .into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 400);
    }

    #[test]
    fn a_port_in_use_is_not_given_out() {
        let port = Port::take().unwrap();
        let _listener = TcpListener::bind(port.address()).unwrap();
        assert!(!unused(port.number()));
    }
}
