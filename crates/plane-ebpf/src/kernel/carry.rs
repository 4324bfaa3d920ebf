//! Brings flows from the tables of another layout into ours, while packets go on in both.

use std::collections::BTreeSet;

use zerocopy::{Immutable, IntoBytes};

use super::reshape::read;
use crate::layout::FLOW_REPLY;
use crate::sys::{Map, Place, Program, Result, Shape, TestContext};

/// A flow, as the program takes it that enters it; the same in `bpf/carry.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
struct Carried {
    src: [u32; 4],
    dst: [u32; 4],
    ports: u32,
    word: u32,
    slot: u32,
    seen: u32,
    other: u32,
    family: u32,
}

impl Carried {
    /// Whether it is the same flow with the same backend.
    fn is(&self, other: &Self) -> bool {
        let key = |flow: &Self| (flow.src, flow.dst, flow.ports, flow.word & 0xff, flow.slot);
        key(self) == key(other)
    }
}

/// What the program says of a flow for which it found no room, or no bucket that nobody was writing to.
const FULL: u32 = 4;
/// How often such a flow is tried in one pass.
const TRIES: u32 = 4;

/// Which flows a pass brings over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// All but those of TCP.
    Datagrams,
    /// All.
    All,
    /// All, and no program writes to the table any more.
    Settled,
}

/// IPPROTO_TCP.
const TCP: u32 = 6;

/// What a pass over a table did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pass {
    /// Flows that were new, or had changed.
    pub(super) news: u64,
    /// Buckets that the next pass must look at again: they were written to, or had flows with no room.
    pub(super) left: u64,
}

/// The fields of a flow in a bucket.
pub(super) const FIELDS: [&str; 8] = [
    "src",
    "dst",
    "sport",
    "dport",
    "word",
    "where.slot",
    "seen",
    "other",
];

/// One family's table of another layout.
#[derive(Debug)]
pub(super) struct Table<'a> {
    map: &'a Map,
    family: u32,
    ways: Vec<[Place; 8]>,
    /// All buckets as they were when they were last read.
    before: Vec<u8>,
}

impl<'a> Table<'a> {
    pub(super) fn new(map: &'a Map, family: u32, shape: &Shape) -> Self {
        let way = |i: usize| {
            let mut places = [Place {
                offset: 0,
                size: 0,
                count: 0,
            }; 8];
            for (place, field) in places.iter_mut().zip(FIELDS) {
                *place = *shape.places.get(&format!("flows[{i}].{field}"))?;
            }
            Some(places)
        };
        Self {
            map,
            family,
            ways: (0..).map_while(way).collect(),
            before: Vec::new(),
        }
    }

    /// Entries in a bucket.
    pub(super) fn ways(&self) -> usize {
        self.ways.len()
    }

    /// Enters all flows that are new or changed since the last time. What is being written while it is read
    /// is left for the next time, unless the table is [`What::Settled`]. So is what
    /// has no room.
    pub(super) fn carry(&mut self, program: &Program, what: What) -> Result<Pass> {
        let stride = self.map.stride();
        let len = stride.saturating_mul(self.map.info().max_entries as usize);
        self.before.resize(len, 0);
        let before = &mut self.before;
        let mut changed = Vec::new();
        self.map.for_each(|key, value| {
            let index = key.first_chunk().map_or(0, |key| u32::from_ne_bytes(*key));
            let from = index as usize * stride;
            if let Some(old) = before.get_mut(from..from + stride)
                && old != value
            {
                changed.push((index, old.to_vec()));
                old.copy_from_slice(value);
            }
        })?;
        // Replies after the flows that they belong to: without those they would be forgotten.
        let (mut flows, mut replies) = (Vec::new(), Vec::new());
        let mut again_at = BTreeSet::new();
        for (index, old) in changed {
            let from = index as usize * stride;
            let Some(new) = self.before.get(from..from + stride) else {
                continue;
            };
            let again = match what {
                What::Settled => None,
                What::All | What::Datagrams => self.map.lookup(&index.to_ne_bytes())?,
            };
            let mut torn = false;
            for way in &self.ways {
                let Some(flow) = flow(new, way, self.family) else {
                    continue;
                };
                let is_tcp = flow.word & 0xff == TCP;
                if flow_is(&old, way, &flow, self.family) || (is_tcp && what == What::Datagrams) {
                    continue;
                }
                let now = again
                    .as_deref()
                    .map(|again| self::flow(again, way, self.family));
                if now.is_some_and(|now| now.is_none_or(|now| !now.is(&flow))) {
                    torn = true;
                } else if flow.word & FLOW_REPLY != 0 {
                    replies.push((index, flow));
                } else {
                    flows.push((index, flow));
                }
            }
            if torn {
                again_at.insert(index);
            }
        }
        for (index, flow) in flows.iter().chain(&replies) {
            // What has no backend any more is as good as evicted.
            let mut entered = false;
            for _ in 0..TRIES {
                let run = program.test_run(flow.as_bytes(), 1, &TestContext::default())?;
                entered = run.retval != FULL;
                if entered {
                    break;
                }
            }
            if !entered {
                again_at.insert(*index);
            }
        }
        for index in &again_at {
            let from = *index as usize * stride;
            if let Some(bucket) = self.before.get_mut(from..from + stride) {
                bucket.fill(0);
            }
        }
        Ok(Pass {
            news: (flows.len() + replies.len()) as u64,
            left: again_at.len() as u64,
        })
    }
}

fn flow_is(bucket: &[u8], way: &[Place; 8], flow: &Carried, family: u32) -> bool {
    self::flow(bucket, way, family).is_some_and(|old| old == *flow)
}

/// The flow in an entry; none if it is free. An entry in use has a protocol.
fn flow(bucket: &[u8], way: &[Place; 8], family: u32) -> Option<Carried> {
    let [src, dst, sport, dport, word, slot, seen, other] = way;
    let number = |place: &Place| read(bucket, *place, 0).map(|number| number as u32);
    let addr = |place: &Place| {
        let mut words = [0; 4];
        for (i, word) in words.iter_mut().enumerate().take(place.count) {
            *word = read(bucket, *place, i)? as u32;
        }
        Some(words)
    };
    let flow = Carried {
        src: addr(src)?,
        dst: addr(dst)?,
        ports: number(sport)? | number(dport)? << 16,
        word: number(word)?,
        slot: number(slot)?,
        seen: number(seen)?,
        other: number(other)?,
        family,
    };
    (flow.word & 0xff != 0).then_some(flow)
}
