//! Makes programs and maps, or takes over those that an earlier process left.

use std::collections::BTreeMap;

use rustix::rand::{GetRandomFlags, getrandom};

use super::tables::{self, Tables};
use super::{Clock, Layout, Maps, Sizes, Takeover};
use crate::layout::{Config, VERSION};
use crate::sys::hooks;
use crate::sys::{Error, Map, Netlink, Object, Program, Result};

/// The names of our programs, for TC and XDP. Others of ours may be there, a node's.
pub const NAMES: [&str; 2] = ["plimsoll_tc", "plimsoll_xdp"];

/// In how many seconds the sweep goes through the whole table of flows.
const SWEEP_SECONDS: u32 = 10;

/// Programs and maps of one network namespace.
#[derive(Debug)]
pub struct Kernel {
    /// The maps.
    pub maps: Maps,
    /// For TC ingress.
    pub tc: Program,
    /// For XDP.
    pub xdp: Program,
    /// The clock of the programs.
    pub clock: Clock,
    /// How large the tables are.
    pub sizes: Sizes,
}

/// What [`Kernel::open`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing: all is new and empty.
    New,
    /// What an earlier process left, with all that it holds.
    TakenOver,
}

impl Kernel {
    /// Takes over what an earlier process left in this namespace: its maps are used on, and its
    /// programs replaced by ours where they are attached; maps of another layout are copied (see
    /// [`Takeover`]). If there is nothing, makes new ones of these sizes, attached nowhere.
    ///
    /// # Errors
    /// What the kernel refuses; [`Error::Layout`].
    pub fn open(netlink: &mut Netlink, sizes: Sizes) -> Result<(Self, Opened)> {
        let clock = Clock::read()?;
        let layout = Layout::OURS;
        if let Some(mut takeover) = Takeover::begin(netlink, &layout, clock.hz())? {
            takeover.finish(netlink)?;
            let sizes = sizes_of(&takeover.maps, sizes);
            let kernel = Self {
                maps: Maps(takeover.maps),
                tc: takeover.tc,
                xdp: takeover.xdp,
                clock,
                sizes,
            };
            kernel.configure(Opened::TakenOver)?;
            return Ok((kernel, Opened::TakenOver));
        }
        let left = tables::find(netlink)?.into_iter().next();
        let mut tc = Object::parse(layout.tc)?;
        let mut xdp = Object::parse(layout.xdp)?;
        let (maps, attached) = match left {
            Some(Tables { maps, attached, .. }) => (maps, attached),
            None => (tc.create_maps(&entries(sizes))?, Vec::new()),
        };
        let opened = match attached.is_empty() {
            true => Opened::New,
            false => Opened::TakenOver,
        };
        let (tc, xdp) = (load(&mut tc, &maps)?, load(&mut xdp, &maps)?);
        bind_notes(&maps, [&tc, &xdp])?;
        let sizes = sizes_of(&maps, sizes);
        let kernel = Self {
            maps: Maps(maps),
            tc,
            xdp,
            clock,
            sizes,
        };
        kernel.configure(opened)?;
        // Ours take the place of those that are attached.
        for (link, attached) in attached {
            hooks::replace(netlink, link.index, &attached, [&kernel.tc, &kernel.xdp])?;
        }
        Ok((kernel, opened))
    }

    /// What an earlier process left in this namespace, to be looked at only: nothing is written
    /// or attached. None if there is nothing that has our layout.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn look(netlink: &mut Netlink) -> Result<Option<Self>> {
        let left = tables::find(netlink)?;
        let ours = left.into_iter().find(|tables| tables.version == VERSION);
        let Some(Tables { maps, attached, .. }) = ours else {
            return Ok(None);
        };
        let named = |name: &str| attached.iter().find(|(_, here)| here.name == name);
        let [tc, xdp] = NAMES.map(named);
        // XDP comes beside TC. Whoever only looks attaches neither.
        let Some((_, tc)) = tc.or(xdp) else {
            return Ok(None);
        };
        let xdp = xdp.map_or(tc.id, |(_, xdp)| xdp.id);
        let sizes = sizes_of(&maps, Sizes::small());
        Ok(Some(Self {
            maps: Maps(maps),
            tc: Program::from_id(tc.id)?,
            xdp: Program::from_id(xdp)?,
            clock: Clock::read()?,
            sizes,
        }))
    }

    fn configure(&self, opened: Opened) -> Result<()> {
        let mut config = self.config()?;
        if opened == Opened::New {
            config.seed = random();
        }
        config.layout = VERSION;
        config.hz = self.clock.hz();
        config.buckets4 = self.sizes.buckets4 - 1;
        config.buckets6 = self.sizes.buckets6 - 1;
        config.sweep4 = sweep(self.sizes.buckets4, config.hz);
        config.sweep6 = sweep(self.sizes.buckets6, config.hz);
        self.set_config(&config)
    }

    /// The configuration of the programs.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn config(&self) -> Result<Config> {
        Ok(self.maps.get("config", &0u32)?.unwrap_or_default())
    }

    /// Changes the configuration of the programs.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_config(&self, config: &Config) -> Result<()> {
        self.maps.put("config", &0u32, config)
    }
}

/// Buckets to look through in a jiffy.
pub(super) fn sweep(buckets: u32, hz: u32) -> u32 {
    buckets.div_ceil(hz * SWEEP_SECONDS)
}

/// The programs have no use for notes; bound to them they stay as long as they do.
pub(super) fn bind_notes(maps: &BTreeMap<String, Map>, programs: [&Program; 2]) -> Result<()> {
    let notes = maps.get("notes").into_iter();
    let mut pairs = notes.flat_map(|notes| programs.map(|program| (program, notes)));
    pairs.try_for_each(|(program, notes)| program.bind_map(notes))
}

fn entries(sizes: Sizes) -> BTreeMap<&'static str, u32> {
    BTreeMap::from([
        ("vips4", sizes.vips),
        ("vips6", sizes.vips),
        ("vip_addrs", sizes.vips),
        ("listens", sizes.listens),
        ("ranges", sizes.listens),
        ("services", sizes.services),
        ("sets", sizes.services),
        ("backends", sizes.backends),
        ("lives", sizes.backends),
        ("traffic", sizes.backends),
        ("flows4", sizes.buckets4),
        ("flows6", sizes.buckets6),
        ("notes", sizes.backends.saturating_mul(4)),
    ])
}

/// The sizes of maps that were found.
fn sizes_of(maps: &BTreeMap<String, Map>, or: Sizes) -> Sizes {
    let entries = |name: &str, or: u32| maps.get(name).map_or(or, |map| map.info().max_entries);
    Sizes {
        buckets4: entries("flows4", or.buckets4),
        buckets6: entries("flows6", or.buckets6),
        services: entries("services", or.services),
        backends: entries("backends", or.backends),
        listens: entries("listens", or.listens),
        vips: entries("vip_addrs", or.vips),
    }
}

pub(super) fn load(object: &mut Object, maps: &BTreeMap<String, Map>) -> Result<Program> {
    let programs = object.load(maps, &BTreeMap::new())?;
    let program = programs.into_values().next();
    program.ok_or_else(|| Error::Object("it has no program".to_owned()))
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // The kernel has had its entropy long since; without it a constant will do as well.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    u64::from_ne_bytes(bytes)
}
