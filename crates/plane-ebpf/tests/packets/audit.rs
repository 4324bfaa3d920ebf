//! What others do to the maps is seen, and mended by what is desired anyway.

use plimsoll_model::Forward;
use plimsoll_plane_ebpf::layout::{Addr, Backend, Listen, Service, Vip};

use crate::bench::{Bench, both, service};
use crate::build::{ACK, Packet, SYN};

#[test]
fn audit() {
    both(
        "audit",
        &[("altered_behind_our_back", altered_behind_our_back)],
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
        &|bench| zero(bench, "services", id, size_of::<Service>()),
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
