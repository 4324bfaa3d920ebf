//! Does what was planned.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::find::{self, setting_path};
use super::store::{self, Store};
use super::{
    Change, Counts, Error, Found, LOOPBACK, Namespace, Planned, Result, State, Target, Trouble,
    clamp, program, towards, troubles,
};
use crate::sys::Netlink;
use crate::sys::net::Address;

const ADVICE: &str = "it takes CAP_NET_ADMIN: run this as root";

/// A namespace that is made a node, and what was changed in it. As long as this lives no other process
/// does the same there.
#[derive(Debug)]
pub struct Node {
    namespace: Namespace,
    store: Store,
    state: State,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The steps.
    pub changes: Vec<Change>,
    /// What stays as it is, and why, in words.
    pub left: Vec<String>,
}

impl Namespace {
    /// What is there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn found(&self) -> Result<Found> {
        self.run(|| find::found(&mut Netlink::open()?))
    }

    /// The interfaces by which packets come: those that are named, else those of the default routes, else
    /// the only one there is.
    ///
    /// # Errors
    /// One is not there, or none is named and it cannot be told.
    pub fn interfaces(&self, named: &[String]) -> Result<Vec<String>> {
        self.run(|| find::interfaces(&mut Netlink::open()?, named))
    }

    /// What earlier runs wrote down in this folder.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn state(&self, folder: &Path) -> Result<State> {
        store::read(folder, self.inode()?, self.cookie()?)
    }

    /// What the programs that unwrap did, by their interfaces.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn counts(&self) -> Result<BTreeMap<String, Counts>> {
        self.run(|| {
            let mut netlink = Netlink::open()?;
            let mut all = BTreeMap::new();
            for link in netlink.links()? {
                if let Some(counts) = program::counts(&mut netlink, link.index)? {
                    all.insert(link.name, counts);
                }
            }
            Ok(all)
        })
    }
}

impl Node {
    /// Takes a namespace into its hands, with what earlier runs wrote down in this folder.
    ///
    /// # Errors
    /// [`Error::Held`]; or the folder cannot be written to.
    pub fn hold(namespace: Namespace, folder: &Path) -> Result<Self> {
        let (inode, cookie) = (namespace.inode()?, namespace.cookie()?);
        let (store, state) = Store::open(folder, inode, cookie)?;
        Ok(Self {
            namespace,
            store,
            state,
        })
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What was changed.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Goes to what shall be. What cannot be reached is left as it was before, as well as it can be done.
    ///
    /// # Errors
    /// Something is in the way, or the kernel refuses a step.
    pub fn reach(&mut self, target: &Target) -> Result<Done> {
        let found = self.namespace.found()?;
        let fatal = |trouble: &Trouble| trouble.is_fatal();
        if let Some(trouble) = troubles(target, &found).into_iter().find(fatal) {
            let remedy = trouble.remedy();
            return Err(Error::Trouble(format!(
                "{trouble}: mend it with `{remedy}`{}",
                self.namespace
                    .path()
                    .map_or_else(String::new, |path| format!(" in {path}"))
            )));
        }
        let planned = towards(target, &found, &self.state);
        let before = self.state.clone();
        // First written down, then done: whoever comes after a crash finds no change that is not there.
        self.state = before.and(&planned.state);
        self.store.write(&self.state)?;
        let done = self.namespace.run(|| all(&planned.changes));
        if let Err(error) = done {
            self.back(&before);
            return Err(error);
        }
        let Planned {
            changes,
            state,
            left,
        } = planned;
        self.store.write(&state)?;
        self.state = state;
        Ok(Done { changes, left })
    }

    /// Takes back what a way that failed has done already.
    fn back(&mut self, before: &State) {
        let target = Target {
            vips: before
                .vips
                .iter()
                .map(|(ip, vip)| (*ip, vip.stays))
                .collect(),
            interfaces: before.interfaces.clone(),
            mss: before.mss.values().next().copied(),
        };
        let Ok(found) = self.namespace.found() else {
            return;
        };
        let planned = towards(&target, &found, &self.state);
        let each = |change: &Change| {
            let one = std::slice::from_ref(change);
            self.namespace.run(|| all(one)).is_ok()
        };
        // One that fails, too, keeps no other from being tried.
        if planned
            .changes
            .iter()
            .filter(|change| !each(change))
            .count()
            == 0
            && self.store.write(&planned.state).is_ok()
        {
            self.state = planned.state;
        }
    }
}

/// Does these steps, in the namespace of the calling thread.
fn all(changes: &[Change]) -> Result<()> {
    let mut netlink = Netlink::open()?;
    changes
        .iter()
        .try_for_each(|change| one(change, &mut netlink))
}

fn one(change: &Change, netlink: &mut Netlink) -> Result<()> {
    match change {
        Change::Set { name, from, to } => set(name, *from, *to),
        Change::Add(ip) => {
            let address = on_loopback(netlink, *ip)?;
            let added = netlink.add_address(&address);
            added.map(drop).map_err(Error::kernel(ADVICE))
        }
        Change::Delete(ip) => {
            let address = on_loopback(netlink, *ip)?;
            let deleted = netlink.delete_address(&address);
            deleted.map(drop).map_err(Error::kernel(ADVICE))
        }
        Change::Unwrap { interface, vips } => {
            let link = netlink.link_named(interface)?;
            program::attach(netlink, &link, vips)
        }
        Change::StopUnwrapping(interface) => {
            let link = netlink.link_named(interface)?;
            program::detach(netlink, link.index).map(drop)
        }
        Change::Clamp { interface, vips } => {
            let link = netlink.link_named(interface)?;
            clamp::attach(netlink, &link, vips)
        }
        Change::StopClamping(interface) => {
            let link = netlink.link_named(interface)?;
            clamp::detach(netlink, link.index).map(drop)
        }
    }
}

fn on_loopback(netlink: &mut Netlink, ip: IpAddr) -> Result<Address> {
    Ok(Address {
        interface: netlink.link_named(LOOPBACK)?.index,
        ip,
        prefix: if ip.is_ipv4() { 32 } else { 128 },
    })
}

fn set(name: &str, now: i32, wanted: i32) -> Result<()> {
    let path = PathBuf::from(setting_path(name));
    fs::write(&path, format!("{wanted}\n")).map_err(|error| match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly {
            name: name.to_owned(),
            now,
            wanted,
        },
        io::ErrorKind::PermissionDenied => Error::Privilege {
            what: format!("setting {name} to {wanted}"),
            advice: "run this as root of the namespace, or on the host with --container",
        },
        _ => Error::file(&path)(error),
    })
}
