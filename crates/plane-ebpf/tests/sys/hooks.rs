//! Programs attached to interfaces, ours and others'.

use plimsoll_plane_ebpf::sys::hooks::{
    self, Attached, Mode, Side, TcOptions, TcWay, XdpMode, attach_tc, attach_xdp, detach_tc,
    detach_xdp, tc_at,
};
use plimsoll_plane_ebpf::sys::{Error, Map, Netlink, PREFIX, Program, WriterLock};
use plimsoll_testkit::wait_until;

use crate::lab::{Cable, SOON, Small, TC_RUNS, XDP_RUNS, count, eth0, inside, run};

fn xdp_here() -> Vec<Attached> {
    let mut netlink = Netlink::open().unwrap();
    let index = eth0(&mut netlink);
    hooks::xdp(&mut netlink, index).unwrap()
}

fn tc_here() -> Vec<Attached> {
    let mut netlink = Netlink::open().unwrap();
    let index = eth0(&mut netlink);
    hooks::tc(&mut netlink, index).unwrap()
}

/// Names and modes, in short.
fn short(attached: &[Attached]) -> Vec<(String, String)> {
    attached
        .iter()
        .map(|one| (one.name.clone(), one.mode.to_string()))
        .collect()
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    wanted
        .iter()
        .map(|(name, mode)| ((*name).to_owned(), (*mode).to_owned()))
        .collect()
}

/// Sends until the program that is attached has counted a packet more.
fn counts_packets(cable: &Cable, map: u32, place: usize) {
    let counts = Map::from_id(map).unwrap();
    let before = count(&counts, place);
    let more = wait_until(SOON, || {
        cable.send();
        count(&counts, place) > before
    });
    assert!(more, "no packet was counted");
}

/// The map of this name that a program uses.
fn map_of(program: u32, name: &str) -> u32 {
    let maps = Program::from_id(program).unwrap().maps().unwrap();
    maps.iter().find(|map| map.name() == name).unwrap().id()
}

#[test]
fn xdp_is_attached_replaced_and_detached() {
    let Some(cable) = Cable::new("xdp_is_attached_replaced_and_detached") else {
        return;
    };
    // Attached, and everything that this process holds of it let go.
    let first = run(&cable.left, || {
        let mut netlink = Netlink::open().unwrap();
        let index = eth0(&mut netlink);
        assert_eq!(hooks::xdp(&mut netlink, index).unwrap(), []);
        assert!(!detach_xdp(&mut netlink, index).unwrap());
        let small = Small::load();
        let program = small.program("plimsoll_t_xdp");
        attach_xdp(&mut netlink, index, program, XdpMode::Native).unwrap();
        program.id()
    });
    // Found again, with its maps, which it writes to.
    let attached = run(&cable.left, xdp_here);
    assert_eq!(short(&attached), pairs(&[("plimsoll_t_xdp", "native")]));
    assert_eq!((attached[0].id, attached[0].link), (first, None));
    assert!(attached[0].is_ours());
    counts_packets(&cable, map_of(first, "counts"), XDP_RUNS);

    // Another takes its place and its maps.
    let second = run(&cable.left, move || {
        let mut netlink = Netlink::open().unwrap();
        let index = eth0(&mut netlink);
        let small = Small::load();
        let program = small.program("plimsoll_t_xdp");
        attach_xdp(&mut netlink, index, program, XdpMode::Native).unwrap();
        // Once more changes nothing.
        attach_xdp(&mut netlink, index, program, XdpMode::Native).unwrap();
        program.id()
    });
    assert_ne!(first, second);
    assert_eq!(run(&cable.left, xdp_here)[0].id, second);
    counts_packets(&cable, map_of(second, "counts"), XDP_RUNS);
    assert!(wait_until(SOON, || Program::from_id(first).is_err()));

    // In another mode: the kernel has one or the other.
    run(&cable.left, || {
        let mut netlink = Netlink::open().unwrap();
        let index = eth0(&mut netlink);
        let small = Small::load();
        let program = small.program("plimsoll_t_xdp");
        attach_xdp(&mut netlink, index, program, XdpMode::Generic).unwrap();
        assert_eq!(
            short(&hooks::xdp(&mut netlink, index).unwrap()),
            pairs(&[("plimsoll_t_xdp", "generic")])
        );
        assert!(detach_xdp(&mut netlink, index).unwrap());
        assert_eq!(hooks::xdp(&mut netlink, index).unwrap(), []);
    });
    assert!(wait_until(SOON, || Program::from_id(second).is_err()));
}

#[test]
fn a_foreign_xdp_program_is_named_and_left_alone() {
    let Some(cable) = Cable::new("a_foreign_xdp_program_is_named_and_left_alone") else {
        return;
    };
    let object = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bpf/small.o");
    for (word, mode) in [("xdp", "native"), ("xdpgeneric", "generic")] {
        cable
            .left
            .ip(&[
                "link",
                "set",
                "dev",
                "eth0",
                word,
                "object",
                object,
                "program",
                "guest_xdp",
            ])
            .unwrap();
        run(&cable.left, move || {
            let mut netlink = Netlink::open().unwrap();
            let index = eth0(&mut netlink);
            let there = hooks::xdp(&mut netlink, index).unwrap();
            assert_eq!(short(&there), pairs(&[("guest_xdp", mode)]));
            assert!(!there[0].is_ours());
            let small = Small::load();
            let program = small.program("plimsoll_t_xdp");
            let error = attach_xdp(&mut netlink, index, program, XdpMode::Native).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "XDP of eth0 is taken by program {} \"guest_xdp\" ({mode}), which is not plimsoll's: \
                     detach it with `ip link set dev eth0 {} off`, or let plimsoll use TC on this interface",
                    there[0].id,
                    if mode == "native" {
                        "xdp"
                    } else {
                        "xdpgeneric"
                    }
                )
            );
            assert!(matches!(error, Error::Foreign { .. }));
            assert!(!detach_xdp(&mut netlink, index).unwrap());
            assert_eq!(hooks::xdp(&mut netlink, index).unwrap(), there);
        });
        cable
            .left
            .ip(&["link", "set", "dev", "eth0", word, "off"])
            .unwrap();
    }
}

/// Attaches the small program for TC as the options say and lets go of it; its id.
fn put(cable: &Cable, program: &'static str, options: TcOptions) -> (u32, TcWay) {
    run(&cable.left, move || {
        let mut netlink = Netlink::open().unwrap();
        let index = eth0(&mut netlink);
        let small = Small::load();
        let program = small.program(program);
        let way = attach_tc(&mut netlink, index, program, options).unwrap();
        (program.id(), way)
    })
}

fn detach(cable: &Cable) -> bool {
    run(&cable.left, || {
        let mut netlink = Netlink::open().unwrap();
        let index = eth0(&mut netlink);
        detach_tc(&mut netlink, index, PREFIX).unwrap()
    })
}

fn disciplines(cable: &Cable) -> String {
    let output = cable.left.command("tc").args(["qdisc", "show"]).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

#[test]
fn tc_programs_are_attached_replaced_and_detached() {
    let Some(cable) = Cable::new("tc_programs_are_attached_replaced_and_detached") else {
        return;
    };
    let sides = [Side::Ingress, Side::Egress];
    for (filter, side) in [false, true]
        .into_iter()
        .flat_map(|f| sides.map(|s| (f, s)))
    {
        let here = move || {
            let mut netlink = Netlink::open().unwrap();
            let index = eth0(&mut netlink);
            tc_at(&mut netlink, index, side).unwrap()
        };
        let options = TcOptions {
            filter,
            side,
            ..TcOptions::default()
        };
        let (mode, way) = if filter {
            ("bpf filter, priority 50000, handle 0x1", TcWay::Filter)
        } else {
            ("tcx", TcWay::Tcx)
        };
        let (first, attached) = put(&cable, "plimsoll_t_tc", options);
        // A kernel before 6.6 has filters only.
        let chains = attached == TcWay::Tcx;
        if !filter && !chains {
            continue;
        }
        assert_eq!(attached, way);
        let there = run(&cable.left, here);
        assert_eq!(short(&there), pairs(&[("plimsoll_t_tc", mode)]));
        assert!(there[0].is_ours());
        assert_eq!(there[0].id, first);
        // Nothing is sent the other way.
        let counts = |id| match side {
            Side::Ingress => counts_packets(&cable, map_of(id, "counts"), TC_RUNS),
            Side::Egress => assert_eq!(run(&cable.left, tc_here), []),
        };
        counts(first);
        let (second, _) = put(&cable, "plimsoll_t_tc", options);
        let there = run(&cable.left, here);
        assert_eq!(short(&there), pairs(&[("plimsoll_t_tc", mode)]));
        assert_eq!(there[0].id, second);
        counts(second);
        assert!(wait_until(SOON, || Program::from_id(first).is_err()));
        assert_eq!(disciplines(&cable).contains("clsact"), filter);
        assert!(detach(&cable));
        assert!(!detach(&cable));
        assert_eq!(run(&cable.left, here), []);
        assert!(!disciplines(&cable).contains("clsact"));
        assert!(wait_until(SOON, || Program::from_id(second).is_err()));
    }
}

#[test]
fn a_program_moves_from_chain_to_filter() {
    let Some(cable) = Cable::new("a_program_moves_from_chain_to_filter") else {
        return;
    };
    put(&cable, "plimsoll_t_tc", TcOptions::default());
    let filter = TcOptions {
        filter: true,
        ..TcOptions::default()
    };
    let (id, way) = put(&cable, "plimsoll_t_tc", filter);
    assert_eq!(way, TcWay::Filter);
    let there = run(&cable.left, tc_here);
    assert_eq!((there.len(), there[0].id), (1, id));
    // It stays where it is unless told otherwise.
    let (_, way) = put(&cable, "plimsoll_t_tc", TcOptions::default());
    assert_eq!(way, TcWay::Filter);
    assert!(detach(&cable));
}

#[test]
fn filters_of_others_stay_before_ours_and_keep_what_they_hang_on() {
    let Some(cable) = Cable::new("filters_of_others_stay_before_ours_and_keep_what_they_hang_on")
    else {
        return;
    };
    let tc = |args: &[&str]| {
        let status = cable.left.command("tc").args(args).status().unwrap();
        assert!(status.success(), "{args:?}");
    };
    tc(&["qdisc", "add", "dev", "eth0", "clsact"]);
    let object = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bpf/small.o");
    for priority in ["7", "40000"] {
        tc(&[
            "filter", "add", "dev", "eth0", "ingress", "pref", priority, "bpf", "da", "object",
            object, "program", "guest_tc",
        ]);
    }
    let (id, way) = put(&cable, "plimsoll_t_tc", TcOptions::default());
    assert_eq!(way, TcWay::Filter);
    let there = run(&cable.left, tc_here);
    assert_eq!(there.len(), 3);
    let last = there.last().unwrap();
    assert_eq!((last.name.as_str(), last.id), ("plimsoll_t_tc", id));
    let priorities: Vec<u16> = there
        .iter()
        .map(|one| match &one.mode {
            Mode::Filter(filter) => filter.priority,
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(priorities, [7, 40_000, 50_000]);
    counts_packets(&cable, map_of(id, "counts"), TC_RUNS);
    assert!(detach(&cable));
    assert_eq!(run(&cable.left, tc_here).len(), 2);
    assert!(disciplines(&cable).contains("clsact"));
}

#[test]
fn others_in_the_chain_stay_first_unless_asked() {
    let Some(cable) = Cable::new("others_in_the_chain_stay_first_unless_asked") else {
        return;
    };
    let names = || -> Vec<String> {
        let there = run(&cable.left, tc_here);
        there.into_iter().map(|one| one.name).collect()
    };
    let (_, way) = put(&cable, "guest_tc", TcOptions::default());
    if way == TcWay::Filter {
        // Linux before 6.6 has no chain.
        return;
    }
    put(&cable, "plimsoll_t_tc", TcOptions::default());
    assert_eq!(names(), ["guest_tc", "plimsoll_t_tc"]);
    assert!(detach(&cable));
    let first = TcOptions {
        first: true,
        ..TcOptions::default()
    };
    put(&cable, "plimsoll_t_tc", first);
    assert_eq!(names(), ["plimsoll_t_tc", "guest_tc"]);
    // Replaced where it is.
    put(&cable, "plimsoll_t_tc", TcOptions::default());
    assert_eq!(names(), ["plimsoll_t_tc", "guest_tc"]);
    assert!(detach(&cable));
    assert_eq!(names(), ["guest_tc"]);
}

#[test]
fn what_is_ours_is_found_on_all_interfaces_and_goes_with_them() {
    let test = "what_is_ours_is_found_on_all_interfaces_and_goes_with_them";
    let Some(cable) = Cable::new(test) else {
        return;
    };
    let (xdp, counts) = run(&cable.left, || {
        let mut netlink = Netlink::open().unwrap();
        let index = eth0(&mut netlink);
        let small = Small::load();
        let xdp = small.program("plimsoll_t_xdp");
        attach_xdp(&mut netlink, index, xdp, XdpMode::Native).unwrap();
        let tc = small.program("plimsoll_t_tc");
        attach_tc(&mut netlink, index, tc, TcOptions::default()).unwrap();
        let lo = netlink.link_named("lo").unwrap().index;
        attach_tc(&mut netlink, lo, tc, TcOptions::default()).unwrap();
        (xdp.id(), small.maps["counts"].id())
    });
    let ours = run(&cable.left, || {
        hooks::ours(&mut Netlink::open().unwrap()).unwrap()
    });
    let mut found: Vec<(String, String)> = ours
        .iter()
        .map(|(link, one)| (link.name.clone(), one.name.clone()))
        .collect();
    found.sort();
    let wanted = [
        ("eth0", "plimsoll_t_tc"),
        ("eth0", "plimsoll_t_xdp"),
        ("lo", "plimsoll_t_tc"),
    ];
    assert_eq!(found, pairs(&wanted));
    let right = run(&cable.right, || {
        hooks::ours(&mut Netlink::open().unwrap()).unwrap()
    });
    assert_eq!(right, []);
    // Both programs share the map.
    assert_eq!(map_of(xdp, "counts"), counts);
    drop(cable);
    assert!(
        wait_until(SOON, || {
            Program::from_id(xdp).is_err() && Map::from_id(counts).is_err()
        }),
        "programs and maps go with the namespace"
    );
}

#[test]
fn interfaces_that_are_not_there_are_named() {
    inside("interfaces_that_are_not_there_are_named", || {
        let mut netlink = Netlink::open().unwrap();
        let error = hooks::xdp(&mut netlink, 4242).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no interface 4242 in this network namespace"
        );
    });
}

#[test]
fn a_namespace_has_one_writer() {
    let Some(cable) = Cable::new("a_namespace_has_one_writer") else {
        return;
    };
    let lock = run(&cable.left, || WriterLock::take().unwrap());
    let error = run(&cable.left, || WriterLock::take().unwrap_err());
    let process = std::process::id();
    assert!(matches!(error, Error::Locked(Some(id)) if id == process));
    assert!(error.to_string().contains(&process.to_string()), "{error}");
    // Another namespace has a writer of its own.
    let other = run(&cable.right, || WriterLock::take().unwrap());
    drop(lock);
    let _again = run(&cable.left, || WriterLock::take().unwrap());
    drop(other);
}
