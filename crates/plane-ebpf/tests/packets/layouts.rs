//! The process's picture of the maps' values is the programs' own.

use std::collections::BTreeMap;
use std::mem::{offset_of, size_of};

use plimsoll_plane_ebpf::layout::{
    Backend, Bucket4, Bucket6, Config, Flow4, Flow6, Listen, Live, NextHop, Note, NoteKey, Range,
    Ranges, Service, Traffic, Vip,
};

const OBJECTS: [&[u8]; 2] = [
    include_bytes!("../../objects/director-tc.o"),
    include_bytes!("../../objects/director-xdp.o"),
];

/// A structure: its bytes, and its fields with their places in it.
type Struct = (usize, Vec<(String, usize)>);

/// All structures of an object, read from its types (the kernel's `Documentation/bpf/btf.rst`).
fn structs(object: &[u8]) -> BTreeMap<String, Struct> {
    let btf = section(object, ".BTF");
    let word = |at: usize| u32::from_le_bytes(btf[at..at + 4].try_into().unwrap());
    assert_eq!(word(0) & 0xffff, 0xeb9f);
    let header = word(4) as usize;
    let (types, len, strings) = (word(8) as usize, word(12) as usize, word(16) as usize);
    let text = |at: u32| {
        let from = header + strings + at as usize;
        let len = btf[from..].iter().position(|b| *b == 0).unwrap();
        String::from_utf8(btf[from..from + len].to_vec()).unwrap()
    };
    let mut found = BTreeMap::new();
    let mut at = header + types;
    while at < header + types + len {
        let (name, info, size) = (word(at), word(at + 4), word(at + 8));
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        at += 12;
        let entry = match kind {
            1 | 14 | 17 => 4,
            3 => 12,
            4 | 5 | 15 | 19 => 12 * count,
            6 | 13 => 8 * count,
            _ => 0,
        };
        if kind == 4 {
            let fields = (0..count).map(|i| at + i * 12);
            let fields = fields.map(|f| (text(word(f)), word(f + 8) as usize / 8));
            found.insert(text(name), (size as usize, fields.collect()));
        }
        at += entry;
    }
    found
}

/// A section of a 64-bit little-endian ELF file.
fn section<'a>(elf: &'a [u8], name: &str) -> &'a [u8] {
    let long = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap()) as usize;
    let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap()) as usize;
    let short = |at: usize| usize::from(u16::from_le_bytes([elf[at], elf[at + 1]]));
    let (headers, size, count, names) = (long(40), short(58), short(60), short(62));
    let names = long(headers + names * size + 24);
    for header in (0..count).map(|i| headers + i * size) {
        let from = names + word(header);
        if elf[from..].starts_with(name.as_bytes()) && elf[from + name.len()] == 0 {
            return &elf[long(header + 24)..][..long(header + 32)];
        }
    }
    panic!("no section {name}");
}

macro_rules! fields {
    ($type:ident: $($field:ident)*) => {
        (size_of::<$type>(), vec![$((stringify!($field).to_owned(), offset_of!($type, $field)),)*])
    };
}

#[test]
fn sizes_and_places_are_the_same() {
    let ours: BTreeMap<&str, Struct> = BTreeMap::from([
        (
            "config",
            fields!(Config: layout hz buckets4 buckets6 seed flags sweep4 sweep6 tunnel4
                    host4 pad tunnel6),
        ),
        ("vip", fields!(Vip: id flags)),
        ("listen", fields!(Listen: vip port proto pad)),
        ("range", fields!(Range: first last service)),
        ("ranges", fields!(Ranges: count range)),
        (
            "service",
            fields!(Service: flags sched key midstream seed timeouts mss pad turn pad2),
        ),
        (
            "nexthop",
            fields!(NextHop: dst src ifindex mtu flags result),
        ),
        (
            "backend",
            fields!(Backend: flags generation method family pad service port pad1 addr until weight
                    upper lower outer),
        ),
        (
            "live",
            fields!(Live: refresh nexthop hops path_mtu path_until pad active inactive overloaded pad1),
        ),
        (
            "flow4",
            fields!(Flow4: src dst sport dport word slot seen other),
        ),
        (
            "flow6",
            fields!(Flow6: src dst sport dport word slot seen other pad),
        ),
        (
            "bucket4",
            fields!(Bucket4: lock tags pad spilled pad1 flows),
        ),
        (
            "bucket6",
            fields!(Bucket6: lock tags pad spilled pad1 flows),
        ),
        (
            "traffic",
            fields!(Traffic: packets_in bytes_in packets_out bytes_out flows resets),
        ),
        ("note_key", fields!(NoteKey: kind id piece)),
        ("note", fields!(Note: len text)),
    ]);
    for object in OBJECTS {
        let theirs = structs(object);
        for (name, ours) in &ours {
            let Some((size, fields)) = theirs.get(*name) else {
                panic!("no struct {name} in the object's types");
            };
            // The union there is two fields here.
            let fields: Vec<(String, usize)> = (fields.iter())
                .map(|(field, at)| match field.as_str() {
                    "where" => ("slot".to_owned(), *at),
                    _ => (field.clone(), *at),
                })
                .collect();
            assert_eq!((size, &fields), (&ours.0, &ours.1), "{name}");
        }
    }
    assert_eq!(offset_of!(Flow4, check), offset_of!(Flow4, slot) + 4);
    assert_eq!(offset_of!(Flow6, check), offset_of!(Flow6, slot) + 4);
}
