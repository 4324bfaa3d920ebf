//! Changes of links, addresses, neighbours and routes, as they happen.

use std::os::fd::{AsFd, BorrowedFd};

use super::addresses::{RTM_DELADDR, RTM_NEWADDR};
use super::links::{RTM_DELLINK, RTM_NEWLINK, read_link};
use super::neighbours::{RTM_DELNEIGH, RTM_NEWNEIGH, read_neighbour};
use super::routes::{RTM_DELROUTE, RTM_NEWROUTE};
use super::{Link, Neighbour};
use crate::sys::{Netlink, Result};

/// `RTMGRP_LINK`, `RTMGRP_NEIGH`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR`,
/// `RTMGRP_IPV6_ROUTE`.
const GROUPS: u32 = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400;

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
