//! Maps of each kind.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

use plimsoll_plane_ebpf::sys::host::possible_cpus;
use plimsoll_plane_ebpf::sys::{Error, Map, MapKind, MapSpec, Object};

use crate::lab::{SMALL, Small, inside};

fn key(number: u32) -> [u8; 4] {
    number.to_ne_bytes()
}

fn numbers(map: &Map) -> BTreeMap<u32, u64> {
    let mut found = BTreeMap::new();
    map.for_each(|key, value| {
        let key = u32::from_ne_bytes(key.try_into().unwrap());
        let value = u64::from_ne_bytes(value[..8].try_into().unwrap());
        assert_eq!(found.insert(key, value), None, "{key} came twice");
    })
    .unwrap();
    found
}

/// Writes 5000 numbers in one go and reads them back, one by one and all together.
fn fill_and_read(kind: MapKind, flags: u32) {
    let spec = MapSpec::new(kind, "plimsoll_many", 4, 8, 5000).flags(flags);
    let map = Map::create(&spec).unwrap();
    let info = map.info();
    assert_eq!((info.kind, info.key_size, info.value_size), (kind, 4, 8));
    assert_eq!((info.max_entries, info.flags), (5000, flags));
    assert_eq!(info.name, "plimsoll_many");
    let keys: Vec<u8> = (0..5000).flat_map(key).collect();
    let values: Vec<u8> = (0..5000_u64)
        .flat_map(|number| (number * 3).to_ne_bytes())
        .collect();
    map.update_many(&keys, &values).unwrap();
    assert_eq!(
        map.lookup(&key(4999)).unwrap().unwrap(),
        (4999_u64 * 3).to_ne_bytes()
    );
    assert_eq!(map.lookup(&key(5000)).unwrap(), None);
    let wanted: BTreeMap<u32, u64> = (0..5000).map(|n| (n, u64::from(n) * 3)).collect();
    assert_eq!(numbers(&map), wanted);
    // Found by its id, it is the same map.
    let again = Map::from_id(info.id).unwrap();
    assert_eq!(again.info(), info);
    assert_eq!(numbers(&again), wanted);
}

#[test]
fn hash_tables_are_read_and_written() {
    inside("hash_tables_are_read_and_written", || {
        fill_and_read(MapKind::Hash, 0);
        fill_and_read(MapKind::Hash, Map::NO_PREALLOC);
        let map = Map::create(&MapSpec::new(MapKind::Hash, "few", 4, 8, 2)).unwrap();
        assert_eq!(numbers(&map), BTreeMap::new());
        for number in 0..2 {
            map.update(&key(number), &[7; 8], 1).unwrap();
        }
        let full = map.update(&key(2), &[7; 8], 0).unwrap_err();
        assert_eq!(
            full.to_string(),
            "map few is full: it has room for 2 entries"
        );
        let there = map.update(&key(1), &[8; 8], 1).unwrap_err();
        assert_eq!(there.errno(), Some(libc::EEXIST));
        let missing = map.update(&key(3), &[8; 8], 2).unwrap_err();
        assert_eq!(missing.errno(), Some(libc::ENOENT));
        assert!(map.delete(&key(1)).unwrap());
        assert!(!map.delete(&key(1)).unwrap());
        assert_eq!(
            map.entries().unwrap(),
            [(key(0).to_vec(), vec![7; 8])].to_vec()
        );
    });
}

#[test]
fn arrays_are_read_and_written() {
    inside("arrays_are_read_and_written", || {
        fill_and_read(MapKind::Array, 0);
        fill_and_read(MapKind::Array, Map::MMAPABLE);
        let map = Map::create(&MapSpec::new(MapKind::Array, "small", 4, 8, 3)).unwrap();
        assert!(map.delete(&key(0)).is_err());
        assert!(matches!(
            map.update(&key(3), &[0; 8], 0).unwrap_err(),
            Error::Full { room: 3, .. }
        ));
    });
}

#[test]
fn tables_that_forget_are_read_and_written() {
    inside("tables_that_forget_are_read_and_written", || {
        let spec = MapSpec::new(MapKind::LruHash, "lru", 4, 8, 64);
        let map = Map::create(&spec).unwrap();
        for number in 0..1000_u32 {
            map.update(&key(number), &u64::from(number).to_ne_bytes(), 0)
                .unwrap();
        }
        let left = numbers(&map);
        assert!(!left.is_empty() && left.len() <= 64, "{left:?}");
        assert!(left.iter().all(|(key, value)| u64::from(*key) == *value));
        assert!(left.contains_key(&999));
    });
}

#[test]
fn each_processor_has_its_value() {
    inside("each_processor_has_its_value", || {
        let cpus = possible_cpus().unwrap();
        for kind in [MapKind::PerCpuArray, MapKind::PerCpuHash] {
            // Four bytes that lie at multiples of eight.
            let map = Map::create(&MapSpec::new(kind, "percpu", 4, 4, 300)).unwrap();
            assert_eq!(map.stride(), 8 * cpus);
            let mut values = vec![0; map.stride()];
            for (cpu, value) in values.chunks_exact_mut(8).enumerate() {
                value[..4].copy_from_slice(&key(u32::try_from(cpu).unwrap() + 10));
            }
            for number in 0..300 {
                map.update(&key(number), &values, 0).unwrap();
            }
            let read = map.lookup_per_cpu(&key(299)).unwrap().unwrap();
            let wanted: Vec<Vec<u8>> = (0..cpus)
                .map(|cpu| key(u32::try_from(cpu).unwrap() + 10).to_vec())
                .collect();
            assert_eq!(read, wanted);
            let mut entries = 0;
            map.for_each(|_, all| {
                entries += 1;
                let read: Vec<Vec<u8>> = map.per_cpu(all).map(<[u8]>::to_vec).collect();
                assert_eq!(read, wanted);
            })
            .unwrap();
            assert_eq!(entries, 300, "{kind:?}");
        }
    });
}

#[test]
fn prefixes_are_found_by_the_longest() {
    inside("prefixes_are_found_by_the_longest", || {
        let spec = MapSpec::new(MapKind::LpmTrie, "prefixes", 8, 4, 10).flags(Map::NO_PREALLOC);
        let map = Map::create(&spec).unwrap();
        let prefix = |bits: u32, address: [u8; 4]| [key(bits), address].concat();
        map.update(&prefix(8, [10, 0, 0, 0]), &key(1), 0).unwrap();
        map.update(&prefix(16, [10, 1, 0, 0]), &key(2), 0).unwrap();
        let find = |address| map.lookup(&prefix(32, address)).unwrap();
        assert_eq!(find([10, 1, 2, 3]), Some(key(2).to_vec()));
        assert_eq!(find([10, 2, 2, 3]), Some(key(1).to_vec()));
        assert_eq!(find([11, 1, 2, 3]), None);
        assert_eq!(map.entries().unwrap().len(), 2);
    });
}

#[test]
fn maps_are_put_into_maps() {
    inside("maps_are_put_into_maps", || {
        let inner = |entries, first: u64| {
            let spec = MapSpec::new(MapKind::Array, "inner", 4, 8, entries).flags(Map::INNER_MAP);
            let map = Map::create(&spec).unwrap();
            map.update(&key(0), &first.to_ne_bytes(), 0).unwrap();
            map
        };
        let model = inner(1, 0);
        let spec = MapSpec::new(MapKind::ArrayOfMaps, "outer", 4, 4, 300).inner(&model);
        let outer = Map::create(&spec).unwrap();
        assert_eq!(outer.inner_id(&key(0)).unwrap(), None);
        let (small, large) = (inner(2, 20), inner(1000, 30));
        outer.set_inner(&key(0), &small).unwrap();
        assert_eq!(outer.inner_id(&key(0)).unwrap(), Some(small.id()));
        outer.set_inner(&key(0), &large).unwrap();
        outer.set_inner(&key(299), &small).unwrap();
        let id = large.id();
        drop(large);
        // It lives on in the other map.
        let found = Map::from_id(outer.inner_id(&key(0)).unwrap().unwrap()).unwrap();
        assert_eq!((found.id(), found.info().max_entries), (id, 1000));
        assert_eq!(
            found.lookup(&key(0)).unwrap().unwrap(),
            30_u64.to_ne_bytes()
        );
        let mut ids = BTreeMap::new();
        outer
            .for_each(|key, id| {
                ids.insert(key.to_vec(), u32::from_ne_bytes(id.try_into().unwrap()));
            })
            .unwrap();
        let wanted = [(key(0).to_vec(), id), (key(299).to_vec(), small.id())];
        let full: BTreeMap<_, _> = ids.into_iter().filter(|(_, id)| *id != 0).collect();
        assert_eq!(full, BTreeMap::from(wanted));
        assert!(outer.delete(&key(0)).unwrap());
        assert_eq!(outer.inner_id(&key(0)).unwrap(), None);
        drop(found);
        // The kernel lets it go after a while, when no program can have it in its hands any more.
        assert!(plimsoll_testkit::wait_until(crate::lab::SOON, || {
            Map::from_id(id).is_err()
        }));
    });
}

#[test]
fn arrays_are_read_through_memory() {
    inside("arrays_are_read_through_memory", || {
        let spec = MapSpec::new(MapKind::Array, "mapped", 4, 12, 1000).flags(Map::MMAPABLE);
        let map = Map::create(&spec).unwrap();
        let memory = map.memory().unwrap();
        assert_eq!((memory.stride(), memory.len()), (16, 16_000));
        let value = [
            &0x0102_0304_0506_0708_u64.to_ne_bytes()[..],
            &0x0a0b_0c0d_u32.to_ne_bytes(),
        ]
        .concat();
        for place in [0, 999] {
            map.update(&key(place), &value, 0).unwrap();
        }
        for start in [0, 15_984] {
            assert_eq!(memory.u64(start), Some(0x0102_0304_0506_0708));
            assert_eq!(memory.u32(start + 8), Some(0x0a0b_0c0d));
        }
        let mut copy = [0; 16];
        assert!(memory.copy(15_984, &mut copy));
        assert_eq!(copy[..12], value);
        for beyond in [15_996, 16_000, usize::MAX - 7, 3] {
            assert_eq!(memory.u64(beyond), None, "{beyond}");
        }
        assert_eq!(memory.u32(15_998), None);
        assert!(!memory.copy(15_992, &mut copy));
        drop(map);
        assert_eq!(memory.u64(0), Some(0x0102_0304_0506_0708));

        let plain = Map::create(&MapSpec::new(MapKind::Array, "plain", 4, 8, 1)).unwrap();
        assert!(plain.memory().is_err());
    });
}

#[test]
fn maps_that_cannot_be_read_in_batches_are_read_one_by_one() {
    let test = "maps_that_cannot_be_read_in_batches_are_read_one_by_one";
    inside(test, || {
        let small = Small::load();
        let map = Map::create(&MapSpec::new(MapKind::ProgramArray, "tails", 4, 4, 100)).unwrap();
        let keys: Vec<u8> = [3, 99].into_iter().flat_map(key).collect();
        let program = |name| small.program(name).fd().as_raw_fd().to_ne_bytes();
        let values = [program("plimsoll_t_xdp"), program("guest_xdp")].concat();
        map.update_many(&keys, &values).unwrap();
        let wanted = [(3, "plimsoll_t_xdp"), (99, "guest_xdp")]
            .map(|(place, name)| (key(place).to_vec(), key(small.program(name).id()).to_vec()));
        assert_eq!(map.entries().unwrap(), wanted);
    });
}

#[test]
fn lengths_that_are_wrong_are_refused_here() {
    inside("lengths_that_are_wrong_are_refused_here", || {
        let map = Map::create(&MapSpec::new(MapKind::Hash, "strict", 4, 8, 10)).unwrap();
        let text = |error: Error| error.to_string();
        assert_eq!(
            text(map.lookup(&[0; 3]).unwrap_err()),
            "map strict: a key has 4 bytes, not 3"
        );
        assert_eq!(
            text(map.update(&[0; 4], &[0; 9], 0).unwrap_err()),
            "map strict: a value has 8 bytes, not 9"
        );
        assert!(map.delete(&[]).is_err());
        assert!(map.update_many(&[0; 7], &[0; 8]).is_err());
        assert!(map.update_many(&[0; 8], &[0; 8]).is_err());
        map.update_many(&[], &[]).unwrap();
        assert_eq!(map.entries().unwrap(), []);
    });
}

#[test]
fn an_object_says_what_its_maps_are() {
    inside("an_object_says_what_its_maps_are", || {
        let mut object = Object::parse(SMALL).unwrap();
        let specs = object.map_specs().unwrap();
        let found: Vec<_> = specs
            .iter()
            .map(|(name, spec)| {
                let sizes = (spec.key_size, spec.value_size, spec.max_entries);
                (name.as_str(), spec.kind, sizes)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("counts", MapKind::Array, (4, 8, 4)),
                ("cpus", MapKind::PerCpuArray, (4, 4, 2)),
                ("lengths", MapKind::Hash, (4, 16, 8)),
                ("sets", MapKind::ArrayOfMaps, (4, 4, 2)),
            ]
        );
        assert_eq!(specs["counts"].flags, Map::MMAPABLE);
        let inner = object.inner_spec("sets").unwrap();
        assert_eq!((inner.kind, inner.max_entries), (MapKind::Array, 4));
        assert!(object.inner_spec("counts").is_none());
        let maps = object
            .create_maps(&BTreeMap::from([("lengths", 5000)]))
            .unwrap();
        assert_eq!(maps["lengths"].info().max_entries, 5000);
        let unknown = object.create_maps(&BTreeMap::from([("length", 1)]));
        assert!(unknown.unwrap_err().to_string().contains("no map length"));
    });
}
