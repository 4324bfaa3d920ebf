//! What others do to the maps is seen, and mended by what is desired anyway.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_model::{Forward, Origin, Service};
use plimsoll_plane::{Event, Plane};
use plimsoll_plane_ebpf::layout::{self, Addr, Backend, Config, Listen, Range, Ranges, Vip};
use plimsoll_plane_ebpf::sys::{Map, MapKind, MapSpec, hooks};

use crate::bench::{Bench, Hook, both, service};
use crate::build::{ACK, Packet, SYN};

#[test]
fn audit() {
    both(
        "audit",
        &[
            ("altered_behind_our_back", altered_behind_our_back),
            (
                "what_is_no_services_is_mended",
                what_is_no_services_is_mended,
            ),
            (
                "an_altered_text_is_written_again",
                an_altered_text_is_written_again,
            ),
            (
                "a_process_may_die_over_a_text",
                a_process_may_die_over_a_text,
            ),
        ],
    );
}

fn altered_behind_our_back(bench: &mut Bench) {
    let listens = ["10.0.200.1:80/tcp"];
    let backends = ["10.0.1.1:9000", "10.0.1.2:9000"];
    let web = service("web", &listens, Forward::Nat, &backends);
    bench.bring([web.clone()]);
    let client = |flags| Packet::tcp("192.0.2.7:4711", "10.0.200.1:80", flags);
    let first = bench.send(&client(SYN)).sent().ip.ends().1;
    bench.send(&client(ACK)).sent();
    let slot = bench.slot(&first.ip().to_string());
    let generation = bench.get::<Backend>("backends", &slot).unwrap().generation;
    let vip_key = Addr::from("10.0.200.1".parse::<std::net::IpAddr>().unwrap()).words[0];
    let vip: Vip = bench.get("vips4", &vip_key).unwrap();
    let listen = Listen {
        vip: vip.id,
        port: 80_u16.to_be_bytes(),
        proto: 6,
        pad: 0,
    };
    let id: u32 = bench.get("listens", &listen).unwrap();
    let zero = |bench: &Bench, map: &str, key: u32, len: usize| {
        bench
            .map(map)
            .update(&key.to_ne_bytes(), &vec![0; len], 0)
            .unwrap();
    };
    let damage: [&dyn Fn(&Bench); 6] = [
        &|bench| zero(bench, "backends", slot, size_of::<Backend>()),
        &|bench| zero(bench, "services", id, size_of::<layout::Service>()),
        &|bench| zero(bench, "vip_addrs", vip.id, size_of::<Addr>()),
        &|bench| {
            bench.map("vips4").delete(&vip_key.to_ne_bytes()).unwrap();
        },
        &|bench| {
            let key = zerocopy::IntoBytes::as_bytes(&listen);
            bench.map("listens").delete(key).unwrap();
        },
        &|bench| bench.put("listens", &listen, &(id + 7)),
    ];
    for (number, damage) in damage.into_iter().enumerate() {
        damage(bench);
        bench.bring([web.clone()]);
        // The flow is where it was, both ways.
        assert_eq!(
            bench.send(&client(ACK)).sent().ip.ends().1,
            first,
            "{number}"
        );
        let reply = bench.send(&client(ACK).reply(first, ACK)).sent();
        assert_eq!(
            reply.ip.ends(),
            (client(ACK).dst, client(ACK).src),
            "{number}"
        );
        let now: Backend = bench.get("backends", &slot).unwrap();
        assert_eq!(now.generation, generation, "{number}");
    }
}

/// What is told when it is mended, and what does it.
type Damage<'a> = (&'static str, &'a dyn Fn(&Bench));

/// What others do to what belongs to no service that is held.
fn what_is_no_services_is_mended(bench: &mut Bench) {
    let mut events = bench.plane().events().unwrap();
    let mut told = || -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let Event::Repaired { plane, what } = event {
                assert_eq!(plane, "ebpf");
                told.push(what);
            }
        }
        told
    };
    let listens = ["10.0.200.1:80/tcp", "10.0.200.1:100-200/tcp"];
    let two = service("web", &listens, Forward::Dr, &["10.0.1.1", "10.0.1.2"]);
    bench.bring([two]);
    let flow = |flags| Packet::tcp("192.0.2.7:4711", "10.0.200.1:80", flags);
    let first = bench.chosen(&flow(SYN));
    bench.chosen(&flow(ACK));
    let left = bench.slot(&format!("10.0.1.{first}"));
    let stays = format!("10.0.1.{}", 3 - first);
    let web = service("web", &listens, Forward::Dr, &[&stays]);
    bench.bring([web.clone()]);
    assert_eq!(told(), Vec::<String>::new());

    let number = |ip: &str| Addr::from(ip.parse::<std::net::IpAddr>().unwrap());
    let (vip, strange) = (number("10.0.200.1").words[0], number("10.0.200.7"));
    let known: Vip = bench.get("vips4", &vip).unwrap();
    let listen = |vip: u32, port: u16| Listen {
        vip,
        port: port.to_be_bytes(),
        proto: 6,
        pad: 0,
    };
    let config: Config = bench.get("config", &0u32).unwrap();
    let range = Range {
        first: 1,
        last: 9,
        service: 0,
    };
    let ranges: Ranges = bench.get("ranges", &listen(known.id, 0)).unwrap();
    let mut more = ranges;
    (more.range[1], more.count) = (range, 2);
    let foreign = Vip { id: 50, flags: 7 };
    let slot: Backend = bench.get("backends", &left).unwrap();
    let damage: [Damage<'_>; 9] = [
        ("configuration", &|bench| {
            let config = Config {
                seed: config.seed + 1,
                ..config
            };
            bench.put("config", &0u32, &config);
        }),
        ("leaving", &|bench| {
            bench.put("backends", &left, &Backend::default());
        }),
        ("listens that no", &|bench| {
            bench.put("vips4", &strange.words[0], &foreign);
        }),
        ("listens that no", &|bench| {
            bench.put("vips6", &number("fd00::7"), &foreign);
        }),
        ("listens that no", &|bench| {
            bench.put("listens", &listen(50, 80), &0u32);
        }),
        ("listens that no", &|bench| {
            bench.put("ranges", &listen(known.id, 0), &more);
        }),
        ("listens that no", &|bench| {
            bench.put("ranges", &listen(51, 0), &more);
        }),
        ("nobody wants", &|bench| {
            let service = layout::Service {
                flags: 1,
                ..layout::Service::default()
            };
            bench.put("services", &33u32, &service);
        }),
        ("nobody wants", &|bench| {
            let stranger = Backend {
                flags: 1,
                ..Backend::default()
            };
            bench.put("backends", &77u32, &stranger);
        }),
    ];
    for (what, damage) in damage {
        damage(bench);
        bench.bring([web.clone()]);
        let told = told();
        assert!(
            told.len() == 1 && told[0].contains(what),
            "{what}: {told:?}"
        );
        assert_eq!(bench.chosen(&flow(ACK)), first, "{what}");
        assert_eq!(bench.get("config", &0u32), Some(config));
        assert_eq!(bench.get("backends", &left), Some(slot));
        assert_eq!(bench.get("ranges", &listen(known.id, 0)), Some(ranges));
        assert_eq!(bench.get::<Ranges>("ranges", &listen(51, 0)), None);
        assert_eq!(bench.get::<u32>("listens", &listen(50, 80)), None);
        assert_eq!(bench.get::<Vip>("vips4", &strange.words[0]), None);
        assert_eq!(bench.get::<Vip>("vips6", &number("fd00::7")), None);
        assert_eq!(
            bench.get("services", &33u32),
            Some(layout::Service::default())
        );
        assert_eq!(bench.get::<Backend>("backends", &77u32).unwrap().flags, 0);
    }

    // Texts and sets are a service's, which is written anew as a whole.
    let notes = bench.map("notes");
    for (key, _) in notes.entries().unwrap() {
        notes.delete(&key).unwrap();
    }
    let spec = MapSpec::new(MapKind::Array, "empty", 4, 4, 2).flags(Map::INNER_MAP);
    let id: u32 = bench.get("listens", &listen(known.id, 80)).unwrap();
    let empty = Map::create(&spec).unwrap();
    bench
        .map("sets")
        .set_inner(&id.to_ne_bytes(), &empty)
        .unwrap();
    let held = bench.plane().read().unwrap();
    assert!(held.services.is_empty(), "control hears of it");
    bench.bring([web.clone()]);
    assert!(!bench.map("notes").entries().unwrap().is_empty());
    bench
        .send(&Packet::tcp("192.0.2.7:4712", "10.0.200.1:80", SYN))
        .sent();

    // A program is taken off its hook.
    let link = bench.netlink().link_named("eth0").unwrap().index;
    let was = bench.attached();
    match bench.hook {
        Hook::Tc => drop(hooks::detach_tc(bench.netlink(), link, "plimsoll").unwrap()),
        Hook::Xdp => drop(hooks::detach_xdp(bench.netlink(), link).unwrap()),
    }
    assert_eq!(bench.attached(), [] as [u32; 0]);
    bench.bring([web.clone()]);
    assert_eq!(bench.attached(), was);
    let told = told();
    assert!(told.len() == 1 && told[0].contains("of eth0"), "{told:?}");
}

/// A service and its backend with texts of several pieces, by an origin that takes this much.
fn wordy(origin: &str) -> Service {
    let name = "w".repeat(200);
    let mut wordy = service(&name, &["10.0.200.1:80/tcp"], Forward::Dr, &["10.0.1.1"]);
    let origin = Origin::new("test", origin.repeat(30));
    Arc::make_mut(&mut wordy.spec).origin = origin.clone();
    for backend in wordy.backends.values_mut() {
        Arc::make_mut(backend).origin = origin.clone();
    }
    wordy
}

type Pieces = BTreeMap<Vec<u8>, Vec<u8>>;

fn pieces(bench: &Bench) -> Pieces {
    bench.map("notes").entries().unwrap().into_iter().collect()
}

fn an_altered_text_is_written_again(bench: &mut Bench) {
    let wordy = wordy("one entry");
    bench.bring([wordy.clone()]);
    let written = pieces(bench);
    assert!(written.len() > 4, "{}", written.len());
    for (key, value) in written.iter().step_by(4) {
        // Gone; another letter; one more piece, far behind.
        let mut other = value.clone();
        other[4] ^= 1;
        let mut beyond = key.clone();
        beyond[8] = 77;
        let notes = |bench: &Bench, key: &[u8], value: &[u8]| {
            bench.map("notes").update(key, value, 0).unwrap();
        };
        let damage: [&dyn Fn(&Bench); 3] = [
            &|bench| assert!(bench.map("notes").delete(key).unwrap()),
            &|bench| notes(bench, key, &other),
            &|bench| notes(bench, &beyond, value),
        ];
        for damage in damage {
            damage(bench);
            assert!(bench.plane().read().unwrap().services.is_empty());
            bench.bring([wordy.clone()]);
            let now = pieces(bench);
            assert!(now.values().eq(written.values()), "all of it, and no more");
        }
    }
}

/// What it was about to replace is there until what comes in its place is.
fn a_process_may_die_over_a_text(bench: &mut Bench) {
    let [one, other] = [wordy("one entry"), wordy("another entry")];
    bench.bring([one.clone()]);
    let old = pieces(bench);
    let flow = |flags| Packet::tcp("192.0.2.7:4711", "10.0.200.1:80", flags);
    bench.chosen(&flow(SYN));
    bench.chosen(&flow(ACK));
    let slot = bench.slot("10.0.1.1");
    bench.bring([other.clone()]);
    let new = pieces(bench);
    assert!(!new.keys().any(|key| old.contains_key(key)));
    // How much of the new texts is there beside the old ones, then how much of these still is.
    let half = |all: &Pieces| -> Pieces {
        let first = |key: &[u8]| key[8] < 2;
        let some = all.iter().filter(|(key, _)| first(key));
        some.map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let states = [(&old, half(&new)), (&old, new.clone()), (&new, half(&old))];
    for (whole, rest) in states {
        bench.restart(|bench| {
            bench.find_program();
            let notes = bench.map("notes");
            for key in pieces(bench).keys() {
                notes.delete(key).unwrap();
            }
            for (key, value) in whole.iter().chain(&rest) {
                notes.update(key, value, 0).unwrap();
            }
        });
        let held = &bench.plane().held().services;
        let held = held.get(one.name()).expect("its name is known");
        assert!(held.backends.keys().eq(one.backends.keys()));
        bench.bring([other.clone()]);
        assert_eq!(bench.slot("10.0.1.1"), slot);
        assert_eq!(bench.chosen(&flow(ACK)), 1);
        assert_eq!(pieces(bench).len(), new.len());
    }
}
