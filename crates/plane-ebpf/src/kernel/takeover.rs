//! Takes over what programs of another layout hold, without a flow lost.
//!
//! The other layout is read by the types that the kernel keeps with its maps; the rules that make this
//! possible are those of `bpf/layout.h`. The order of things:
//!
//! 1. New maps are made, services and backends copied under the same numbers, and flows of UDP.
//! 2. Our programs are attached *before* the others, which stay: what is in mid-stream of a flow that we do not
//!    know is passed on to them, new flows are ours. At XDP, where there can be but one, ours take their
//!    place, and what is passed on meets those at TC; where nobody is there, it is dropped, and sent again.
//! 3. Flows are copied, the newer one being kept where both have one of the same ends. Those of TCP not before 2: a
//!    client may take a port again, and a copy of what it had there before would lead to another backend. Those
//!    of UDP have no beginning that would tell a new one from one that is only not copied yet.
//! 4. Unknown packets in mid-stream are dropped, the others detached, and flows copied once more.
//! 5. Unknown packets in mid-stream are what they were to the others, whose maps go with the last of them.
//!
//! A process that dies in between leaves both attached; the next one goes on from 2. After 4 it leaves ours alone:
//! the next one writes over what is to become of unknown packets, and opens no table of the others.

use std::collections::BTreeMap;

use super::carry::{Table, What};
use super::needed::check;
use super::open::{self, NAMES};
use super::reshape::{Reshape, read, set, write};
use super::tables::{self, Tables};
use crate::layout::{MIDSTREAM_DROP, MIDSTREAM_PASS, VERSION};
use crate::sys::hooks::{self, Attached, TcOptions};
use crate::sys::net::Link;
use crate::sys::{Error, Map, Netlink, Object, Place, Program, Result, Shape};

/// A layout: its version, and the objects that were compiled for it.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    /// `LAYOUT_VERSION` of its `bpf/layout.h`.
    pub version: u32,
    /// `director-tc.o`.
    pub tc: &'a [u8],
    /// `director-xdp.o`.
    pub xdp: &'a [u8],
    /// `carry.o`.
    pub carry: &'a [u8],
}

impl Layout<'static> {
    /// The layout of this build.
    pub const OURS: Self = Self {
        version: VERSION,
        tc: include_bytes!("../../objects/director-tc.o"),
        xdp: include_bytes!("../../objects/director-xdp.o"),
        carry: include_bytes!("../../objects/carry.o"),
    };
}

/// Sets that are put into their place together: each needs a descriptor meanwhile.
const AT_ONCE: usize = 256;
/// Passes over all flows one after another, at most.
const PASSES: u32 = 8;
/// A pass that found so many flows or fewer, and none that is to be done again, is the last one.
const NEXT_TO_NOTHING: u64 = 64;

/// A takeover that has begun: our programs are attached beside the others.
#[derive(Debug)]
pub struct Takeover {
    pub(super) maps: BTreeMap<String, Map>,
    pub(super) tc: Program,
    pub(super) xdp: Program,
    carry: Program,
    /// What is taken over, in the order in which packets meet it.
    others: Vec<Tables>,
    /// Counts that were copied, with the values that they had.
    copied: Vec<(&'static str, Entries)>,
}

/// Keys and values.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

impl Takeover {
    /// Copies what programs of other layouts hold, and attaches ours before them. None if there are no such
    /// programs in this network namespace.
    ///
    /// # Errors
    /// [`Error::Layout`] if the other layout lacks what must be known; nothing has changed then. What the
    /// kernel says.
    pub fn begin(netlink: &mut Netlink, layout: &Layout<'_>, hz: u32) -> Result<Option<Self>> {
        let mut tc = Object::parse(layout.tc)?;
        let mut xdp = Object::parse(layout.xdp)?;
        let found = tables::find(netlink)?;
        let (mut ours, others): (Vec<Tables>, Vec<Tables>) = (found.into_iter())
            .partition(|tables| tables.version == layout.version && tc.fits(&tables.maps));
        let Some(other) = others.first() else {
            return Ok(None);
        };
        for other in &others {
            check(other, layout.version)?;
        }
        let begun = ours.pop().map(|tables| tables.maps);
        let is_new = begun.is_none();
        let maps = match begun {
            Some(maps) => maps,
            None => {
                let sizes = sizes(other, &mut tc)?;
                tc.create_maps(&sizes)?
            }
        };
        let mut copied = Vec::new();
        if is_new {
            copied = copy(other, &maps)?;
            configure(other, &maps, layout.version, hz)?;
        }
        let carry = open::load(&mut Object::parse(layout.carry)?, &maps)?;
        let (tc, xdp) = (open::load(&mut tc, &maps)?, open::load(&mut xdp, &maps)?);
        open::bind_notes(&maps, [&tc, &xdp])?;
        let takeover = Self {
            maps,
            tc,
            xdp,
            carry,
            others,
            copied,
        };
        let first = match takeover.is_alone() {
            // What is not there yet will be dropped until it is.
            true => What::All,
            false => What::Datagrams,
        };
        carry_all(&mut takeover.flow_tables()?, &takeover.carry, first)?;
        takeover.leave_midstream()?;
        takeover.attach(netlink)?;
        Ok(Some(takeover))
    }

    /// Brings the rest over and detaches the others.
    ///
    /// # Errors
    /// What the kernel says. What is attached stays then, and another try goes on from there.
    pub fn finish(&mut self, netlink: &mut Netlink) -> Result<()> {
        let mut tables = self.flow_tables()?;
        carry_all(&mut tables, &self.carry, What::All)?;
        self.unknown_are(Some(MIDSTREAM_DROP.into()))?;
        self.let_packets_pass()?;
        for tables in &self.others {
            for (link, attached) in &tables.attached {
                if attached.name == NAMES[0] {
                    hooks::detach_tc_one(netlink, link.index, attached)?;
                }
            }
        }
        carry_all(&mut tables, &self.carry, What::Settled)?;
        self.unknown_are(None)?;
        self.settle_counts()
    }

    /// The tables of flows of all that is taken over.
    fn flow_tables(&self) -> Result<Vec<Table<'_>>> {
        let tables = self.others.iter().map(flow_tables);
        Ok(tables
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect())
    }

    /// What becomes of packets in mid-stream of flows that we do not know: this, or what the others make of them.
    fn unknown_are(&self, meanwhile: Option<u64>) -> Result<()> {
        let mut others = self.others.iter();
        others.try_for_each(|other| midstream(other, &self.maps, meanwhile))
    }

    /// Waits until no program is at a packet that it met before: the kernel does that when a set is put into its
    /// place, here one into its own.
    fn let_packets_pass(&self) -> Result<()> {
        let Some(sets) = self.maps.get("sets") else {
            return Ok(());
        };
        let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
        let entries = sets.entries()?;
        let mut entries = entries.iter().map(|(key, id)| (number(key), number(id)));
        match entries.find(|(_, id)| *id != 0) {
            Some((key, id)) => sets.set_inners([(key, &Map::from_id(id)?)]),
            None => Ok(()),
        }
    }

    /// Whether ours are somewhere with none of the others behind them, as where only XDP is.
    fn is_alone(&self) -> bool {
        let links = |name| {
            let attached = self.others.iter().flat_map(|tables| &tables.attached);
            let of = attached.filter(move |(_, attached)| attached.name == name);
            of.map(|(link, _)| link.index)
        };
        links(NAMES[1]).any(|link| !links(NAMES[0]).any(|tc| tc == link))
    }

    /// Packets in mid-stream of flows that we do not know are the others' while they are there.
    fn leave_midstream(&self) -> Result<()> {
        // Where there is nobody to pass it on to, what is dropped is sent again.
        let meanwhile = match self.is_alone() {
            true => MIDSTREAM_DROP,
            false => MIDSTREAM_PASS,
        };
        self.unknown_are(Some(meanwhile.into()))
    }

    fn attach(&self, netlink: &mut Netlink) -> Result<()> {
        for (link, attached) in self.others.iter().flat_map(|tables| &tables.attached) {
            if attached.name == NAMES[0] {
                if !self.goes_on_from(netlink, link, attached)? {
                    hooks::attach_tc_before(netlink, link.index, &self.tc, attached)?;
                }
            } else {
                hooks::replace(netlink, link.index, attached, [&self.tc, &self.xdp])?;
            }
        }
        Ok(())
    }

    /// Whether an earlier process has attached a program of our layout there already: ours takes its place.
    fn goes_on_from(&self, netlink: &mut Netlink, link: &Link, other: &Attached) -> Result<bool> {
        let here = hooks::tc(netlink, link.index)?;
        let mut ours = here.iter().filter(|a| a.is_ours() && a.name == NAMES[0]);
        let first = ours.next().filter(|first| first.id != other.id);
        if first.is_some() {
            hooks::attach_tc(netlink, link.index, &self.tc, TcOptions::default())?;
        }
        Ok(first.is_some())
    }

    /// Adds what was counted by the others since their counts were copied.
    fn settle_counts(&mut self) -> Result<()> {
        let Some(other) = self.others.first() else {
            return Ok(());
        };
        for (name, before) in std::mem::take(&mut self.copied) {
            let (Some(from), Some(to)) = (other.maps.get(name), self.maps.get(name)) else {
                continue;
            };
            let Some(reshape) = reshape(from, to)? else {
                continue;
            };
            let before: BTreeMap<Vec<u8>, Vec<u8>> = before.into_iter().collect();
            for (key, now) in from.entries()? {
                let was = before.get(&key);
                if was == Some(&now) || now.iter().all(|byte| *byte == 0) {
                    continue;
                }
                let was = was.map_or_else(|| vec![0; now.len()], Clone::clone);
                let (Some(was), Some(now)) = (
                    on_each_cpu(from, to, &reshape, &was),
                    on_each_cpu(from, to, &reshape, &now),
                ) else {
                    continue;
                };
                let Some(mut held) = to.lookup(&key)? else {
                    continue;
                };
                // All counts have 8 bytes.
                for (held, (was, now)) in held
                    .chunks_exact_mut(8)
                    .zip(was.chunks_exact(8).zip(now.chunks_exact(8)))
                {
                    let number =
                        |bytes: &[u8]| bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
                    let sum = number(held).wrapping_add(number(now).wrapping_sub(number(was)));
                    held.copy_from_slice(&sum.to_le_bytes());
                }
                to.update(&key, &held, 0)?;
            }
        }
        Ok(())
    }
}

/// Brings over what tables have, pass by pass, until one finds next to nothing that is new.
fn carry_all(tables: &mut [Table<'_>], program: &Program, what: What) -> Result<()> {
    for _ in 0..PASSES {
        let (mut news, mut left) = (0, 0);
        for table in &mut *tables {
            let pass = table.carry(program, what)?;
            news += pass.news;
            left += pass.left;
        }
        if left == 0 && news <= NEXT_TO_NOTHING {
            break;
        }
    }
    Ok(())
}

/// Entries of the new maps: as many as the others have.
fn sizes(other: &Tables, object: &mut Object) -> Result<BTreeMap<&'static str, u32>> {
    let specs = object.map_specs()?;
    let mut sizes = BTreeMap::new();
    for name in tables::SIZED {
        if let Some(map) = other.maps.get(name) {
            sizes.insert(name, map.info().max_entries);
        }
    }
    for (name, table) in ["flows4", "flows6"].into_iter().zip(flow_tables(other)?) {
        let Some(map) = other.maps.get(name) else {
            continue;
        };
        let flows = u64::from(map.info().max_entries) * table.ways() as u64;
        let Some(spec) = specs.get(name) else {
            continue;
        };
        // The kernel tells how many go into one of ours.
        let one = Map::create(&spec.clone().max_entries(1))?;
        let ways = match one.shapes()? {
            Some((_, shape)) => Table::new(&one, 0, &shape).ways() as u64,
            None => 1,
        };
        let buckets = flows.div_ceil(ways.max(1)).next_power_of_two();
        sizes.insert(name, u32::try_from(buckets).unwrap_or(1 << 31));
    }
    Ok(sizes)
}

fn flow_tables(other: &Tables) -> Result<Vec<Table<'_>>> {
    let mut tables = Vec::new();
    for (name, family) in [("flows4", 4), ("flows6", 6)] {
        if let Some(map) = other.maps.get(name)
            && let Some((_, shape)) = map.shapes()?
        {
            tables.push(Table::new(map, family, &shape));
        }
    }
    Ok(tables)
}

/// From the values of one map to those of another; none if the types of one are not known.
fn reshape(from: &Map, to: &Map) -> Result<Option<Reshape>> {
    let (Some((_, from)), Some((_, to))) = (from.shapes()?, to.shapes()?) else {
        return Ok(None);
    };
    Ok(Some(Reshape::new(&from, &to)))
}

/// Copies all but flows and what programs find out by themselves; the counts that were copied.
fn copy(other: &Tables, maps: &BTreeMap<String, Map>) -> Result<Vec<(&'static str, Entries)>> {
    for name in [
        "vips4",
        "vips6",
        "vip_addrs",
        "listens",
        "ranges",
        "services",
        "backends",
        "links",
        "notes",
    ] {
        if let (Some(from), Some(to)) = (other.maps.get(name), maps.get(name)) {
            copy_map(from, to, |_| true)?;
        }
    }
    // The counts of a backend's flows come with them; whether it has met its threshold does not.
    if let (Some(from), Some(to)) = (other.maps.get("lives"), maps.get("lives")) {
        copy_map(from, to, |field| field == "overloaded")?;
    }
    // What is in a set is the same in all layouts: both may have the same.
    if let (Some(from), Some(to)) = (other.maps.get("sets"), maps.get("sets")) {
        let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
        let sets = from.entries()?;
        let sets = sets.iter().map(|(key, id)| (number(key), number(id)));
        let sets: Vec<(u32, u32)> = sets.filter(|(_, id)| *id != 0).collect();
        for some in sets.chunks(AT_ONCE) {
            let some = some.iter().map(|(key, id)| Ok((*key, Map::from_id(*id)?)));
            let some = some.collect::<Result<Vec<_>>>()?;
            to.set_inners(some.iter().map(|(key, map)| (*key, map)))?;
        }
    }
    let mut copied = Vec::new();
    for name in ["traffic", "reasons"] {
        if let (Some(from), Some(to)) = (other.maps.get(name), maps.get(name)) {
            copied.push((name, copy_map(from, to, |_| true)?));
        }
    }
    Ok(copied)
}

/// Copies entries with those fields of their values that are wanted; what was copied.
fn copy_map(from: &Map, to: &Map, wanted: impl Fn(&str) -> bool) -> Result<Entries> {
    let (Some((from_key, mut from_value)), Some((to_key, to_value))) =
        (from.shapes()?, to.shapes()?)
    else {
        return Ok(Vec::new());
    };
    from_value.places.retain(|name, _| wanted(name));
    let keys = Reshape::new(&from_key, &to_key);
    let values = Reshape::new(&from_value, &to_value);
    let mut entries = from.entries()?;
    // Places of arrays that nobody uses are as they are in a new one.
    entries.retain(|(_, value)| !from.info().kind.is_array() || value.iter().any(|b| *b != 0));
    for (key, value) in &entries {
        let value = match from.info().kind.per_cpu() {
            true => on_each_cpu(from, to, &values, value),
            false => values.apply(value),
        };
        if let (Some(key), Some(value)) = (keys.apply(key), value) {
            match to.update(&key, &value, 0) {
                // A place that only the other has.
                Err(Error::Full { .. }) => {}
                done => done?,
            }
        }
    }
    Ok(entries)
}

/// The values of all processors in their new shape.
fn on_each_cpu(from: &Map, to: &Map, reshape: &Reshape, value: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::with_capacity(to.stride());
    for value in from.per_cpu(value) {
        all.extend(reshape.apply(value)?);
        all.resize(all.len().next_multiple_of(8), 0);
    }
    Some(all)
}

/// What services make of packets in mid-stream: this, or what they make of them with the others.
fn midstream(other: &Tables, maps: &BTreeMap<String, Map>, meanwhile: Option<u64>) -> Result<()> {
    let (Some(from), Some(to)) = (other.maps.get("services"), maps.get("services")) else {
        return Ok(());
    };
    let place = |shapes: Option<(Shape, Shape)>| -> Option<Place> {
        shapes?.1.places.get("midstream").copied()
    };
    let (Some(was), Some(is)) = (place(from.shapes()?), place(to.shapes()?)) else {
        return Ok(());
    };
    for (key, value) in from.entries()? {
        if value.iter().all(|byte| *byte == 0) {
            continue;
        }
        let wanted = meanwhile
            .or_else(|| read(&value, was, 0))
            .unwrap_or_default();
        if let Some(mut value) = to.lookup(&key)?
            && write(&mut value, is, 0, wanted).is_some()
        {
            to.update(&key, &value, 0)?;
        }
    }
    Ok(())
}

/// The programs' configuration: as the others have it, but for what follows from sizes.
fn configure(other: &Tables, maps: &BTreeMap<String, Map>, version: u32, hz: u32) -> Result<()> {
    let (Some(from), Some(to)) = (other.maps.get("config"), maps.get("config")) else {
        return Ok(());
    };
    copy_map(from, to, |_| true)?;
    let zero = 0_u32.to_ne_bytes();
    let (Some(mut value), Some((_, shape))) = (to.lookup(&zero)?, to.shapes()?) else {
        return Ok(());
    };
    let buckets = |name| maps.get(name).map_or(1, |map: &Map| map.info().max_entries);
    let (four, six) = (buckets("flows4"), buckets("flows6"));
    let numbers = [
        ("layout", version),
        ("hz", hz),
        ("buckets4", four - 1),
        ("buckets6", six - 1),
        ("sweep4", open::sweep(four, hz)),
        ("sweep6", open::sweep(six, hz)),
    ];
    let numbers = numbers.map(|(name, number)| (name, u64::from(number)));
    set(&mut value, &shape, &BTreeMap::from(numbers));
    to.update(&zero, &value, 0)
}
