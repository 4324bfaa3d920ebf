//! Makes programs and maps, or takes over those that an earlier process left.

use std::collections::BTreeMap;

use rustix::rand::{GetRandomFlags, getrandom};

use super::{Clock, Maps, Sizes};
use crate::layout::{Config, VERSION};
use crate::sys::hooks::{self, Attached};
use crate::sys::net::Link;
use crate::sys::{Error, Map, Netlink, Object, Program, Result};

static TC: &[u8] = include_bytes!("../../objects/director-tc.o");
static XDP: &[u8] = include_bytes!("../../objects/director-xdp.o");

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
    /// programs replaced by ours where they are attached. If there is nothing, makes new ones of
    /// these sizes, attached nowhere.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn open(netlink: &mut Netlink, sizes: Sizes) -> Result<(Self, Opened)> {
        let clock = Clock::read()?;
        let left = hooks::ours(netlink)?;
        let maps = find(&left)?;
        let opened = match maps {
            Some(_) => Opened::TakenOver,
            None => Opened::New,
        };
        let mut tc = Object::parse(TC)?;
        let mut xdp = Object::parse(XDP)?;
        let maps = match maps {
            Some(maps) => maps,
            None => tc.create_maps(&entries(sizes))?,
        };
        let (tc, xdp) = (load(&mut tc, &maps)?, load(&mut xdp, &maps)?);
        // The programs have no use for it; bound to them it stays as long as they do.
        if let Some(notes) = maps.get("notes") {
            tc.bind_map(notes)?;
            xdp.bind_map(notes)?;
        }
        let sizes = sizes_of(&maps, sizes);
        let kernel = Self {
            maps: Maps(maps),
            tc,
            xdp,
            clock,
            sizes,
        };
        kernel.configure(opened)?;
        kernel.replace(netlink, &left)?;
        Ok((kernel, opened))
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
        let each = |buckets: u32| buckets.div_ceil(config.hz * SWEEP_SECONDS);
        config.sweep4 = each(self.sizes.buckets4);
        config.sweep6 = each(self.sizes.buckets6);
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

    /// Puts our programs in the place of those that an earlier process attached.
    fn replace(&self, netlink: &mut Netlink, left: &[(Link, Attached)]) -> Result<()> {
        for (link, attached) in left {
            if attached.name == self.tc.name() {
                hooks::attach_tc(netlink, link.index, &self.tc, hooks::TcOptions::default())?;
            } else if attached.name == self.xdp.name() {
                let mode = match attached.mode {
                    hooks::Mode::Generic => hooks::XdpMode::Generic,
                    _ => hooks::XdpMode::Native,
                };
                hooks::attach_xdp(netlink, link.index, &self.xdp, mode)?;
            }
        }
        Ok(())
    }
}

/// The maps of what is attached, if they are such as ours.
fn find(left: &[(Link, Attached)]) -> Result<Option<BTreeMap<String, Map>>> {
    let directors = left
        .iter()
        .filter(|(_, a)| NAMES.contains(&a.name.as_str()));
    for (_, attached) in directors {
        let Ok(program) = Program::from_id(attached.id) else {
            continue;
        };
        let maps = program.maps()?;
        let maps: BTreeMap<String, Map> = maps
            .into_iter()
            .map(|map| (map.name().to_owned(), map))
            .collect();
        let Some(config) = maps.get("config") else {
            continue;
        };
        let mut value = Config::default();
        let bytes = zerocopy::IntoBytes::as_mut_bytes(&mut value);
        if config.info().value_size as usize == bytes.len()
            && config.lookup_into(&0u32.to_ne_bytes(), bytes)?
            && value.layout == VERSION
        {
            return Ok(Some(maps));
        }
    }
    Ok(None)
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

fn load(object: &mut Object, maps: &BTreeMap<String, Map>) -> Result<Program> {
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
