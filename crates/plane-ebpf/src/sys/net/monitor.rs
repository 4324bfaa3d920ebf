//! Changes of links, addresses, neighbours and routes, as they happen.

#![allow(
    unsafe_code,
    reason = "a runtime is promised that a descriptor stays open"
)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::addresses::{RTM_DELADDR, RTM_NEWADDR};
use super::links::{RTM_DELLINK, RTM_NEWLINK, read_link};
use super::neighbours::{RTM_DELNEIGH, RTM_NEWNEIGH, read_neighbour};
use super::routes::{RTM_DELROUTE, RTM_NEWROUTE};
use super::{Link, Neighbour};
use crate::sys::{Error, Netlink, Result};

/// `RTMGRP_LINK`, `RTMGRP_NEIGH`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR`,
/// `RTMGRP_IPV6_ROUTE`.
const GROUPS: u32 = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400;

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`.
const ADDRESSES: u32 = 0x1 | 0x10 | 0x100;

/// Something changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An interface is new or is otherwise now.
    Link(Link),
    /// An interface is gone.
    LinkGone(Link),
    /// A neighbour is new or is otherwise now.
    Neighbour(Neighbour),
    /// A neighbour is gone.
    NeighbourGone(Neighbour),
    /// Some address is new or gone.
    Addresses,
    /// Some route is new, gone or otherwise now.
    Routes,
    /// There were more changes than fit: everything is to be read anew.
    Lost,
}

/// Tells of changes in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Monitor(Netlink);

impl Monitor {
    /// Opens one. What changes from now on is told.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> Result<Self> {
        Netlink::open_with(GROUPS).map(Self)
    }

    /// Opens one that tells of links and addresses only.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn of_addresses() -> Result<Self> {
        Netlink::open_with(ADDRESSES).map(Self)
    }

    /// Waited for by the runtime of the calling thread.
    ///
    /// # Errors
    /// The runtime has no room for it.
    pub fn watched(self) -> Result<AsyncFd<Self>> {
        // SAFETY: the socket is the monitor's own, and is closed only with it.
        let watched = unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) };
        watched.map_err(|error| Error::System {
            what: "watching for changes of the network".to_owned(),
            source: error.into_parts().1,
        })
    }

    /// The changes since the last time, without waiting for any.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn changes(&mut self) -> Result<Vec<Change>> {
        let mut found = Vec::new();
        let whole = self.0.changes(|message| {
            found.extend(match message.kind {
                RTM_NEWLINK => read_link(message).map(Change::Link),
                RTM_DELLINK => read_link(message).map(Change::LinkGone),
                RTM_NEWNEIGH => read_neighbour(message).map(Change::Neighbour),
                RTM_DELNEIGH => read_neighbour(message).map(Change::NeighbourGone),
                RTM_NEWADDR | RTM_DELADDR => Some(Change::Addresses),
                RTM_NEWROUTE | RTM_DELROUTE => Some(Change::Routes),
                _ => None,
            });
        })?;
        if !whole {
            found.push(Change::Lost);
        }
        Ok(found)
    }
}

impl AsFd for Monitor {
    /// Readable when there are changes.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
