//! Who else has a VIP in this network namespace.
//!
//! Each process holds a socket with an abstract name (unix(7)) for each VIP: such names are the network
//! namespace's own, need no folder, and go with the process however it ends. Whoever would remove an
//! address looks first whether somebody else has it, too, as when a new process takes over from an old one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use plimsoll_model::Vip;
use plimsoll_plane::Wanted;

const PREFIX: &str = "plimsoll-vip/";
/// What the namespace of the calling thread has.
const SOCKETS: &str = "/proc/thread-self/net/unix";

/// Where a VIP is, whatever its network's length.
pub(crate) type Spot = (String, IpAddr);

pub(crate) fn spot(vip: &Vip) -> Spot {
    (vip.interface.to_string(), vip.address.ip)
}

/// What this process has.
#[derive(Debug)]
pub(crate) struct Claims {
    /// Process numbers are not unique in a network namespace.
    token: String,
    held: BTreeMap<Spot, UnixDatagram>,
}

impl Claims {
    pub(crate) fn new() -> Self {
        let random = RandomState::new().hash_one(std::process::id());
        Self {
            token: format!("{random:016x}"),
            held: BTreeMap::new(),
        }
    }

    /// Says that this process has a VIP.
    pub(crate) fn take(&mut self, vip: &Vip) -> io::Result<()> {
        let spot = spot(vip);
        if self.held.contains_key(&spot) {
            return Ok(());
        }
        let name = format!("{PREFIX}{}/{}/{}", spot.0, spot.1, self.token);
        let address = SocketAddr::from_abstract_name(name)?;
        self.held.insert(spot, UnixDatagram::bind_addr(&address)?);
        Ok(())
    }

    /// Gives back all but these.
    pub(crate) fn keep(&mut self, wanted: &Wanted) {
        let wanted: BTreeSet<Spot> = wanted.iter().map(spot).collect();
        self.held.retain(|spot, _| wanted.contains(spot));
    }

    /// What other processes have. Nothing if it cannot be seen: an address that is removed too much is
    /// added again by whoever has it, one too little stays for good.
    pub(crate) fn others(&self) -> BTreeSet<Spot> {
        let sockets = fs::read_to_string(SOCKETS).unwrap_or_default();
        others_in(&sockets, &self.token)
    }
}

/// What others than `token` have.
fn others_in(sockets: &str, token: &str) -> BTreeSet<Spot> {
    let each = sockets.lines().filter_map(|line| {
        let name = line.split_whitespace().nth(7)?.strip_prefix('@')?;
        let mut words = name.strip_prefix(PREFIX)?.split('/');
        let (interface, ip, whose) = (words.next()?, words.next()?, words.next()?);
        (whose != token).then_some((interface.to_owned(), ip.parse().ok()?))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn others_are_told_from_this_process() {
        let sockets = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 100 @plimsoll-vip/eth0/203.0.113.9/00aa\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 101 @plimsoll-vip/eth0/2001:db8::9/00bb\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 102 @plimsoll-vip/eth1/203.0.113.9/00bb\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 103 @plimsoll-vip/eth1/nonsense/00bb\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 104 @other\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 105 /run/plimsoll-vip/a/203.0.113.9/cc\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 106\n";
        let spots = |token| {
            let all = others_in(sockets, token);
            all.into_iter()
                .map(|(interface, ip)| format!("{interface} {ip}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(spots("00aa"), ["eth0 2001:db8::9", "eth1 203.0.113.9"]);
        assert_eq!(spots("00bb"), ["eth0 203.0.113.9"]);
        assert_eq!(spots("00cc").len(), 3);
    }

    #[test]
    fn a_claim_is_seen_by_others_until_it_is_given_back() {
        // An interface that no other test has.
        let name = format!("t{}", std::process::id());
        let vip = Vip {
            address: "203.0.113.9".parse().unwrap(),
            interface: name.parse().unwrap(),
        };
        let (mut one, other) = (Claims::new(), Claims::new());
        one.take(&vip).unwrap();
        one.take(&vip).unwrap();
        assert!(other.others().contains(&spot(&vip)));
        assert!(!one.others().contains(&spot(&vip)));
        one.keep(&Wanted {
            add: BTreeSet::from([vip.clone()]),
            ..Wanted::default()
        });
        assert!(other.others().contains(&spot(&vip)));
        one.keep(&Wanted::default());
        assert!(!other.others().contains(&spot(&vip)));
    }
}
