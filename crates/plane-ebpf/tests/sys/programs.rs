//! Objects that are loaded, and programs that run.

use std::collections::BTreeMap;

use plimsoll_plane_ebpf::sys::hooks::{XdpMode, attach_xdp};
use plimsoll_plane_ebpf::sys::host::{Task, check_kernel, check_privileges};
use plimsoll_plane_ebpf::sys::{
    Error, Globals, Map, MapKind, MapSpec, Netlink, Object, Program, ProgramKind, TestContext,
};

use crate::lab::{
    Cable, INTERFACE, REFUSED, SMALL, SUM, Small, TC_RUNS, XDP_RUNS, eth0, frame, inside, run,
};

/// `XDP_DROP`, `XDP_PASS`, `XDP_TX`, `TC_ACT_UNSPEC`.
const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;
const UNSPEC: u32 = u32::MAX;

#[test]
fn a_program_runs_on_a_packet() {
    inside("a_program_runs_on_a_packet", || {
        let small = Small::load();
        let program = small.program("plimsoll_t_xdp");
        assert_eq!(program.kind(), ProgramKind::Xdp);
        let packet = frame(100);
        let run = program
            .test_run(&packet, 1, &TestContext::default())
            .unwrap();
        assert_eq!((run.retval, &run.data_out), (PASS, &packet));
        let run = program
            .test_run(&packet, 9, &TestContext::default())
            .unwrap();
        assert_eq!(run.retval, PASS);
        assert_eq!((small.count(XDP_RUNS), small.count(TC_RUNS)), (10, 0));
        // What it noted: so many packets of this length.
        let noted = small.maps["lengths"]
            .lookup(&100_u32.to_ne_bytes())
            .unwrap()
            .unwrap();
        assert_eq!(noted[..8], 10_u64.to_ne_bytes());
        let by_cpu = small.maps["cpus"].lookup_per_cpu(&1_u32.to_ne_bytes());
        let sum: u32 = by_cpu
            .unwrap()
            .unwrap()
            .into_iter()
            .map(|value| u32::from_ne_bytes(value.try_into().unwrap()))
            .sum();
        assert_eq!(sum, 10);

        let short = program.test_run(&frame(14)[..10], 1, &TestContext::default());
        let text = short.unwrap_err().to_string();
        assert!(text.contains("running program plimsoll_t_xdp"), "{text}");
    });
}

#[test]
fn constants_are_set_before_it_is_loaded() {
    inside("constants_are_set_before_it_is_loaded", || {
        for verdict in [DROP, TX] {
            let value = verdict.to_ne_bytes();
            let small = Small::load_with(&Globals::from([("verdict", &value[..])]));
            let packet = frame(60);
            let run = small
                .program("plimsoll_t_xdp")
                .test_run(&packet, 1, &TestContext::default());
            let run = run.unwrap();
            assert_eq!(run.retval, verdict);
            let mut wanted = packet.clone();
            if verdict == TX {
                wanted[0] ^= 2;
            }
            assert_eq!(run.data_out, wanted);
        }
        let mut object = Object::parse(SMALL).unwrap();
        let maps = object.create_maps(&BTreeMap::new()).unwrap();
        let unknown = object.load(&maps, &Globals::from([("verdicts", &[0; 4][..])]));
        assert!(unknown.unwrap_err().to_string().contains("verdicts"));
        let long = object.load(&maps, &Globals::from([("verdict", &[0; 8][..])]));
        assert!(long.unwrap_err().to_string().contains("verdict"));
    });
}

#[test]
fn functions_callbacks_and_inner_maps_work() {
    inside("functions_callbacks_and_inner_maps_work", || {
        let count = 3_u32.to_ne_bytes();
        let small = Small::load_with(&Globals::from([("summands", &count[..])]));
        let program = small.program("plimsoll_t_xdp");
        let packet = frame(60);
        let set = |numbers: &[u64]| {
            let entries = u32::try_from(numbers.len()).unwrap();
            let spec = MapSpec::new(MapKind::Array, "numbers", 4, 8, entries);
            let set = Map::create(&spec.flags(Map::INNER_MAP)).unwrap();
            let keys: Vec<u8> = (0..entries).flat_map(u32::to_ne_bytes).collect();
            let values: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
            set.update_many(&keys, &values).unwrap();
            small.maps["sets"].set_inner(&[0; 4], &set).unwrap();
            program
                .test_run(&packet, 1, &TestContext::default())
                .unwrap();
            small.count(SUM)
        };
        // The callback is called three times, and stops where there is no more.
        assert_eq!(set(&[1, 20, 300, 4000]), 321);
        assert_eq!(set(&[5, 6]), 11);
    });
}

#[test]
fn a_program_for_tc_sees_what_it_is_told() {
    inside("a_program_for_tc_sees_what_it_is_told", || {
        let small = Small::load();
        let program = small.program("plimsoll_t_tc");
        assert_eq!(program.kind(), ProgramKind::Tc);
        let context = TestContext {
            ingress_ifindex: 77,
            ifindex: 1,
            mark: 5,
            cb: [1, 2, 3, 4, 5],
            ..TestContext::default()
        };
        let packet = frame(1000);
        let run = program.test_run(&packet, 1, &context).unwrap();
        assert_eq!((run.retval, &run.data_out), (UNSPEC, &packet));
        assert_eq!((small.count(TC_RUNS), small.count(INTERFACE)), (1, 77));
        program
            .test_run(&packet, 1, &TestContext::default())
            .unwrap();
        assert_eq!((small.count(TC_RUNS), small.count(INTERFACE)), (2, 0));
    });
}

#[test]
fn a_program_for_xdp_sees_where_a_packet_came_in() {
    let Some(cable) = Cable::new("a_program_for_xdp_sees_where_a_packet_came_in") else {
        return;
    };
    run(&cable.left, || {
        let mut netlink = Netlink::open().unwrap();
        let index = eth0(&mut netlink);
        let small = Small::load();
        let program = small.program("plimsoll_t_xdp");
        // Only then a veth has queues for XDP.
        attach_xdp(&mut netlink, index, program, XdpMode::Native).unwrap();
        let context = TestContext {
            ingress_ifindex: index,
            ..TestContext::default()
        };
        let run = program.test_run(&frame(77), 1, &context).unwrap();
        assert_eq!(run.retval, PASS);
        let noted = small.maps["lengths"].lookup(&77_u32.to_ne_bytes());
        assert_eq!(noted.unwrap().unwrap()[12..], index.to_ne_bytes());
    });
}

#[test]
fn single_runs_are_measured() {
    inside("single_runs_are_measured", || {
        let verdict = TX.to_ne_bytes();
        let small = Small::load_with(&Globals::from([("verdict", &verdict[..])]));
        let program = small.program("plimsoll_t_xdp");
        let mean = program
            .mean_run(&frame(60), 500, &TestContext::default())
            .unwrap();
        assert_eq!(mean.retvals, BTreeMap::from([(TX, 500)]));
        assert!(mean.mean_ns > 0.0);
        assert_eq!(small.count(XDP_RUNS), 500);
    });
}

#[test]
fn a_program_is_found_by_its_id_with_its_maps() {
    inside("a_program_is_found_by_its_id_with_its_maps", || {
        let small = Small::load();
        let program = small.program("plimsoll_t_xdp");
        let info = program.info().unwrap();
        assert_eq!(info.name, "plimsoll_t_xdp");
        assert!(info.is_ours());
        assert!(info.verified > 0);
        assert!(!small.program("guest_xdp").info().unwrap().is_ours());
        let again = Program::from_id(info.id).unwrap();
        assert_eq!(again.info().unwrap(), info);
        let mut names: Vec<String> = again
            .maps()
            .unwrap()
            .iter()
            .map(|map| map.name().to_owned())
            .collect();
        names.sort();
        assert_eq!(names, [".rodata", "counts", "cpus", "lengths", "sets"]);

        let extra = Map::create(&MapSpec::new(MapKind::Array, "extra", 4, 4, 1)).unwrap();
        again.bind_map(&extra).unwrap();
        again.bind_map(&extra).unwrap();
        let id = extra.id();
        drop(extra);
        assert!(program.info().unwrap().map_ids.contains(&id));
        assert_eq!(Map::from_id(id).unwrap().name(), "extra");
    });
}

#[test]
fn what_the_verifier_says_is_kept() {
    inside("what_the_verifier_says_is_kept", || {
        let mut object = Object::parse(REFUSED).unwrap();
        let error = object.load(&BTreeMap::new(), &Globals::new()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("refused program plimsoll_t_bad"), "{text}");
        assert!(text.contains("invalid access to packet"), "{text}");
        let Error::Verifier { log, .. } = error else {
            panic!("{error:?}");
        };
        assert!(log.lines().count() >= text.lines().count() - 1);
    });
}

#[test]
fn maps_of_another_shape_are_refused() {
    inside("maps_of_another_shape_are_refused", || {
        let mut object = Object::parse(SMALL).unwrap();
        let mut maps = object.create_maps(&BTreeMap::new()).unwrap();
        let other = Map::create(&MapSpec::new(MapKind::Hash, "lengths", 4, 24, 8)).unwrap();
        maps.insert("lengths".to_owned(), other);
        let error = object.load(&maps, &Globals::new()).unwrap_err().to_string();
        assert!(
            error.contains("map lengths should be Hash with 4 + 16 bytes"),
            "{error}"
        );
        maps.remove("lengths");
        let error = object.load(&maps, &Globals::new()).unwrap_err().to_string();
        assert!(error.contains("map lengths is not given"), "{error}");
    });
}

#[test]
fn root_lacks_nothing_here() {
    inside("root_lacks_nothing_here", || {
        check_kernel().unwrap();
        for task in [Task::Load, Task::TakeOver] {
            check_privileges(task).unwrap();
        }
    });
}

#[test]
fn what_is_no_object_is_refused() {
    for bytes in [&b""[..], b"\x7fELF", &SMALL[..SMALL.len() / 2]] {
        assert!(matches!(Object::parse(bytes), Err(Error::Object(_))));
    }
}
