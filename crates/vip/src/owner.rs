//! Does what is decided.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_plane::{Addresses, VipEvent, VipNote, VipView, Wanted};
use plimsoll_plane_ebpf::sys::net::{Address, FrameSocket, Marked};
use plimsoll_plane_ebpf::sys::{Error, Netlink, Result, host};
use tokio::sync::Notify;

use crate::claims::Claims;
use crate::frames::announcements;
use crate::machine::{Announcement, Found, MARK, Machine, Step};
use crate::watch::{News, Watch};

/// Addresses are looked at so often, though nobody said that they have changed.
const LOOK: Duration = Duration::from_secs(5);
/// The first kernel that keeps the mark of an address.
const MARKS: (u32, u32) = (5, 18);

const ADMIN: &str = "it takes CAP_NET_ADMIN: run plimsoll as root and without --user (in a container: with \
                     --cap-add NET_ADMIN), or add the address yourself and leave out `vip`";
const RAW: &str = "it takes CAP_NET_RAW (in a container: --cap-add NET_RAW); neighbours that know the address \
                   of another host learn of this one late";

/// The VIPs of the network namespace of the thread that it is used on.
///
/// Dropped, it takes away what it has added.
#[derive(Debug)]
pub struct Vips {
    machine: Machine,
    claims: Claims,
    netlink: Option<Netlink>,
    frames: Option<FrameSocket>,
    watch: Option<Watch>,
    changed: Arc<Notify>,
    wanted: Wanted,
    /// What was found just now, until it has been looked through for what is to go.
    found: Option<Found>,
    next_look: Option<Instant>,
}

impl Default for Vips {
    fn default() -> Self {
        Self::new()
    }
}

impl Vips {
    /// None yet. Nothing is opened before the first is wanted, but for one look at what an earlier process
    /// has left.
    pub fn new() -> Self {
        let marks = host::kernel().is_none_or(|version| version >= MARKS);
        Self {
            machine: Machine::new(marks),
            claims: Claims::new(),
            netlink: None,
            frames: None,
            watch: None,
            changed: Arc::new(Notify::new()),
            wanted: Wanted::default(),
            found: None,
            next_look: None,
        }
    }

    /// Whether there is nothing to do and nothing to look for.
    fn is_idle(&self, wanted: &Wanted) -> bool {
        wanted.is_empty() && self.machine.is_empty() && self.next_look.is_some()
    }

    fn netlink(&mut self) -> Result<&mut Netlink> {
        let open = match self.netlink.take() {
            Some(open) => open,
            None => Netlink::open()?,
        };
        Ok(self.netlink.insert(open))
    }

    fn look(&mut self) -> Result<Found> {
        let netlink = self.netlink()?;
        Ok(Found {
            links: netlink.links()?,
            addresses: netlink.marked_addresses()?,
        })
    }

    fn news(&mut self, wanted: &Wanted) -> News {
        if wanted.is_empty() {
            self.watch = None;
        } else if self.watch.is_none() {
            // Without it there is a look every few seconds.
            self.watch = Watch::start(self.changed.clone()).ok();
        }
        self.watch.as_ref().map(Watch::news).unwrap_or_default()
    }

    /// Brings all that are wanted to where they should be.
    fn reach(&mut self, now: Instant, wanted: &Wanted, news: &News) -> Vec<VipNote> {
        let found = match self.look() {
            Ok(found) => found,
            Err(error) => {
                let why = format!("addresses cannot be read: {error}");
                let missing = |vip| self.machine.missing(now, vip, why.clone());
                return wanted.add.iter().filter_map(missing).collect();
            }
        };
        let shaken = |index| news.lost || news.shaken.contains(&index);
        let (steps, mut notes) = self.machine.reach(now, wanted, &found, shaken);
        for vip in wanted.iter() {
            if let Err(error) = self.claims.take(vip) {
                let (vip, why) = (vip.clone(), format!("cannot be claimed: {error}"));
                let event = VipEvent::Failed(why);
                notes.push(VipNote { vip, event });
            }
        }
        for step in steps {
            notes.extend(match step {
                Step::Add(vip, address) => match self.put(&address) {
                    Ok(()) => self.machine.added(now, &vip),
                    Err(error) => self.machine.missing(now, &vip, words(&error, &address)),
                },
                Step::Delete(vip, address) => {
                    let why = self.delete(&address).err();
                    why.and_then(|why| self.machine.missing(now, &vip, why))
                }
            });
        }
        self.found = Some(found);
        notes
    }

    fn put(&mut self, address: &Address) -> Result<()> {
        let marked = Marked {
            address: *address,
            mark: MARK,
        };
        // If it has come in between, the next look tells whose it is.
        self.netlink()?.add_marked_address(&marked).map(drop)
    }

    fn delete(&mut self, address: &Address) -> Result<(), String> {
        let promotes = self.promotes(address);
        let netlink = self.netlink();
        let deleted = netlink.and_then(|netlink| {
            if !promotes {
                netlink.promote_secondaries(address.interface, true)?;
            }
            let deleted = netlink.delete_address(address);
            if !promotes {
                netlink.promote_secondaries(address.interface, false)?;
            }
            deleted
        });
        deleted.map(drop).map_err(|error| words(&error, address))
    }

    /// Whether others stay when this address is deleted. With the first IPv4 address of a network the kernel
    /// deletes the others of that network at the interface, unless it is told otherwise.
    fn promotes(&self, address: &Address) -> bool {
        if address.ip.is_ipv6() || address.prefix == 32 {
            return true;
        }
        let found = self.found.as_ref();
        let name = found.and_then(|found| found.name(address.interface));
        ["all"].into_iter().chain(name).any(|interface| {
            let path = format!("/proc/sys/net/ipv4/conf/{interface}/promote_secondaries");
            fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
        })
    }

    fn announce(&mut self, now: Instant) -> Vec<VipNote> {
        let mut notes = Vec::new();
        for announcement in self.machine.due(now) {
            let sent = self.send(&announcement);
            notes.extend(self.machine.announced(&announcement.vip, sent));
        }
        notes
    }

    fn send(&mut self, what: &Announcement) -> Result<(), String> {
        let words = |error: Error| match error.errno() {
            Some(EPERM) => format!("cannot be announced: {RAW}"),
            _ => format!("cannot be announced: {error}"),
        };
        let socket = match self.frames.take() {
            Some(open) => open,
            None => FrameSocket::open().map_err(words)?,
        };
        let socket = self.frames.insert(socket);
        let router = forwards(what.vip.interface.as_str());
        for frame in announcements(what.vip.address.ip, what.mac, router) {
            socket.send(what.interface, &frame).map_err(words)?;
        }
        Ok(())
    }
}

/// `EPERM` and `EACCES` of Linux.
const EPERM: i32 = 1;
const EACCES: i32 = 13;

/// Why an address cannot be added or removed, with what to do.
fn words(error: &Error, address: &Address) -> String {
    match error.errno() {
        Some(EPERM) => ADMIN.to_owned(),
        Some(EACCES) if address.ip.is_ipv6() => format!(
            "{error}: IPv6 is switched off at this interface (sysctl net.ipv6.conf.NAME.disable_ipv6)"
        ),
        _ => error.to_string(),
    }
}

/// Whether this host forwards IPv6 packets that come by an interface.
fn forwards(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

impl Addresses for Vips {
    fn add(&mut self, now: Instant, wanted: &Wanted) -> Vec<VipNote> {
        if self.is_idle(wanted) {
            return Vec::new();
        }
        let news = self.news(wanted);
        let due = self.next_look.is_none_or(|at| at <= now);
        let mut notes = Vec::new();
        if news.any || due || *wanted != self.wanted {
            self.wanted.clone_from(wanted);
            self.next_look = Some(now + LOOK);
            notes = self.reach(now, wanted, &news);
        }
        notes.extend(self.announce(now));
        notes
    }

    fn remove(&mut self, _: Instant, wanted: &Wanted) -> Vec<VipNote> {
        let Some(found) = &self.found else {
            return Vec::new();
        };
        let claims = &self.claims;
        let (steps, mut notes) = self.machine.leave(wanted, found, || claims.others());
        for step in steps {
            let (Step::Delete(vip, address) | Step::Add(vip, address)) = step;
            let event = match self.delete(&address) {
                Ok(()) => VipEvent::Removed,
                Err(why) => VipEvent::Failed(format!("cannot be removed: {why}")),
            };
            notes.push(VipNote { vip, event });
        }
        self.found = None;
        self.claims.keep(wanted);
        notes
    }

    fn next_deadline(&self) -> Option<Instant> {
        let look = self.next_look.filter(|_| !self.machine.is_empty());
        look.into_iter().chain(self.machine.next_deadline()).min()
    }

    fn vips(&self) -> Vec<VipView> {
        self.machine.views()
    }

    fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    fn finish(&mut self) -> Vec<VipNote> {
        if self.machine.is_empty() {
            return Vec::new();
        }
        self.watch = None;
        self.wanted = Wanted::default();
        self.found = self.look().ok();
        self.remove(Instant::now(), &Wanted::default())
    }
}

impl Drop for Vips {
    fn drop(&mut self) {
        self.finish();
    }
}
