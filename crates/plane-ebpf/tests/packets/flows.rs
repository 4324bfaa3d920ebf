//! What a flow goes through.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{Forward, MidStream, SchedulerKind, State, Status};
use plimsoll_plane_ebpf::layout::{BACKEND_DEADLINE, Backend, Traffic};

use crate::bench::{Bench, both, by, change, service};
use crate::build::{ACK, FIN, Packet, RST, SYN};
use crate::read::Body;
use crate::table::{age_all, hz, recount, sweep};

const TO: &str = "10.0.200.1:80";
const LISTENS: [&str; 2] = ["10.0.200.1:80/tcp", "10.0.200.1:80/udp"];
const BACKENDS: [&str; 2] = ["10.0.1.1", "10.0.1.2"];

#[test]
fn flows() {
    both(
        "flows",
        &[
            ("from_syn_to_reset", from_syn_to_reset),
            ("flows_end_after_their_time", flows_end_after_their_time),
            (
                "mid_stream_is_as_the_service_says",
                mid_stream_is_as_the_service_says,
            ),
            (
                "mid_stream_flows_by_a_hash_stay_at_their_backend",
                mid_stream_flows_by_a_hash_stay_at_their_backend,
            ),
            (
                "draining_keeps_what_stands_until_the_deadline",
                draining_keeps_what_stands_until_the_deadline,
            ),
            (
                "udp_of_a_dead_backend_moves_at_once_and_tcp_does_not",
                udp_of_a_dead_backend_moves_at_once_and_tcp_does_not,
            ),
            (
                "a_slot_used_again_inherits_no_flow",
                a_slot_used_again_inherits_no_flow,
            ),
            ("thresholds", thresholds),
            ("the_clock_may_say_anything", the_clock_may_say_anything),
        ],
    );
}

fn tcp(port: u16, flags: u8) -> Packet {
    Packet::tcp(&format!("192.0.2.7:{port}"), TO, flags)
}

fn counts(bench: &Bench) -> (u32, u32) {
    let (one, two) = (bench.counts(BACKENDS[0]), bench.counts(BACKENDS[1]));
    (one.0 + two.0, one.1 + two.1)
}

fn from_syn_to_reset(bench: &mut Bench) {
    bench.bring([service("web", &LISTENS, Forward::Dr, &BACKENDS)]);
    let first = bench.chosen(&tcp(1, SYN));
    assert_eq!(counts(bench), (0, 1));
    // What follows, a repeated SYN and late packets included, goes where the first went.
    for (flags, after) in [
        (SYN, (0, 1)),
        (ACK, (1, 0)),
        (SYN, (1, 0)),
        (ACK | FIN, (0, 1)),
        (ACK, (0, 1)),
        (RST, (0, 1)),
        // The server did not believe the reset.
        (ACK, (1, 0)),
        (RST | ACK, (0, 1)),
    ] {
        assert_eq!(bench.chosen(&tcp(1, flags)), first, "{flags}");
        assert_eq!(counts(bench), after, "{flags}");
    }
    // The same port begins anew, where it was: who forges a reset and this moves nobody's connection.
    for (flags, after) in [(SYN, (0, 1)), (ACK, (1, 0))] {
        assert_eq!(bench.chosen(&tcp(1, flags)), first);
        assert_eq!(counts(bench), after);
    }
    recount(bench);
}

/// Each state has a time, a packet before its end gives it anew, and after it the flow is forgotten.
fn flows_end_after_their_time(bench: &mut Bench) {
    let mut web = service("web", &LISTENS, Forward::Dr, &BACKENDS);
    let spec = std::sync::Arc::make_mut(&mut web.spec);
    spec.timeouts.idle = Some(Duration::from_secs(900));
    spec.timeouts.udp = Duration::from_secs(30);
    bench.bring([web]);
    let second = hz(bench);
    for (packets, seconds) in [
        (&[SYN][..], 60),
        (&[SYN, ACK], 900),
        (&[SYN, ACK, ACK | FIN], 120),
        (&[SYN, ACK, RST], 10),
        (&[], 30),
    ] {
        let send = |bench: &Bench| {
            for flags in packets {
                bench.send(&tcp(5, *flags)).sent();
            }
            if packets.is_empty() {
                bench.send(&Packet::udp("192.0.2.7:5", TO)).sent();
            }
        };
        send(bench);
        let of = |bench: &Bench| counts(bench).0 + counts(bench).1;
        age_all(bench, (seconds - 8) * second);
        sweep(bench);
        assert_eq!(of(bench), 1, "{packets:?}");
        age_all(bench, 9 * second);
        sweep(bench);
        assert_eq!(of(bench), 0, "{packets:?}");
    }
    // Seen by a core whose clock is a tick ahead: not over.
    bench.send(&tcp(6, SYN)).sent();
    age_all(bench, 0_u32.wrapping_sub(20));
    sweep(bench);
    assert_eq!(counts(bench), (0, 1));
}

fn mid_stream_is_as_the_service_says(bench: &mut Bench) {
    for kind in [SchedulerKind::Mh, SchedulerKind::Rr] {
        let otherwise = if kind == SchedulerKind::Mh {
            "REHASHED"
        } else {
            "MIDSTREAM_RESET"
        };
        for (said, reason) in [
            (None, otherwise),
            (Some(MidStream::Rehash), "REHASHED"),
            (Some(MidStream::Drop), "MIDSTREAM_DROPPED"),
            (Some(MidStream::Reset), "MIDSTREAM_RESET"),
        ] {
            let mut web = by(kind, "web", &LISTENS, Forward::Dr, &BACKENDS);
            Arc::make_mut(&mut web.spec).packets.mid_stream = said;
            bench.bring([web]);
            // A SYN begins a flow whatever is said, and its next packets belong to it.
            bench.send(&tcp(1, SYN)).sent();
            bench.send(&tcp(1, ACK)).sent();
            let became = bench.counted(reason, &tcp(2, ACK).frame());
            match reason {
                "MIDSTREAM_DROPPED" => assert!(became.is_dropped()),
                "MIDSTREAM_RESET" => {
                    let sent = became.sent();
                    let Body::Tcp(reset, _) = sent.ip.body else {
                        panic!("{sent:?}");
                    };
                    assert!(reset.rst);
                }
                _ => assert!((1..=9).contains(&became.sent().to[5])),
            }
            bench.clear();
        }
    }
}

fn mid_stream_flows_by_a_hash_stay_at_their_backend(bench: &mut Bench) {
    bench.bring([by(
        SchedulerKind::Mh,
        "web",
        &LISTENS,
        Forward::Dr,
        &BACKENDS,
    )]);
    for port in 1..20 {
        let first = bench.chosen(&tcp(port, SYN));
        bench.send(&tcp(port, ACK)).sent();
        // All is forgotten, and found again.
        age_all(bench, hz(bench) * 7441);
        sweep(bench);
        assert_eq!(counts(bench), (0, 0));
        let frame = tcp(port, ACK).frame();
        assert_eq!(bench.counted("REHASHED", &frame).sent().to[5], first);
        assert_eq!(counts(bench), (0, 1), "not believed at once");
        age_all(bench, hz(bench) * 2);
        bench.send(&tcp(port, ACK)).sent();
        assert_eq!(counts(bench), (1, 0));
        age_all(bench, hz(bench) * 7441);
        sweep(bench);
    }
}

/// One that is to take nothing new keeps what stands.
fn draining_keeps_what_stands_until_the_deadline(bench: &mut Bench) {
    let mut web = service("web", &LISTENS, Forward::Dr, &BACKENDS);
    std::sync::Arc::make_mut(&mut web.spec).timeouts.drain = Duration::from_secs(100);
    bench.bring([web.clone()]);
    let drained = bench.chosen(&tcp(1, SYN));
    bench.send(&tcp(1, ACK)).sent();
    assert_ne!(bench.chosen(&tcp(2, SYN)), drained);
    assert_eq!(bench.chosen(&tcp(3, SYN)), drained);
    let addr = format!("10.0.1.{drained}");
    change(&mut web, &addr, |b| {
        b.status = Status::new(State::Draining, "")
    });
    bench.bring([web]);
    assert_eq!(bench.chosen(&tcp(1, ACK)), drained);
    assert_eq!(
        bench.chosen(&tcp(1, SYN)),
        drained,
        "anybody may have sent it"
    );
    assert_eq!(bench.chosen(&tcp(1, ACK)), drained);
    // One that was not answered yet goes elsewhere.
    assert_ne!(bench.chosen(&tcp(3, SYN)), drained);
    for port in 4..8 {
        assert_ne!(bench.chosen(&tcp(port, SYN)), drained);
    }
    let slot = bench.slot(&addr);
    let mut backend: Backend = bench.get("backends", &slot).unwrap();
    assert_ne!(backend.flags & BACKEND_DEADLINE, 0);
    backend.until = backend.until.wrapping_sub(101 * hz(bench));
    bench.put("backends", &slot, &backend);
    let sent = bench.counted("ENDED_RESET", &tcp(1, ACK).frame()).sent();
    assert!(matches!(sent.ip.body, Body::Tcp(tcp, _) if tcp.rst));
    assert_eq!(bench.counts(&addr), (0, 0));
    assert_eq!(bench.traffic(&addr).resets, 1);
    recount(bench);
}

fn udp_of_a_dead_backend_moves_at_once_and_tcp_does_not(bench: &mut Bench) {
    let mut web = service("web", &LISTENS, Forward::Dr, &BACKENDS);
    bench.bring([web.clone()]);
    let udp = Packet::udp("192.0.2.7:9", TO);
    let dead = bench.chosen(&udp);
    bench.send(&tcp(8, SYN)).sent();
    let stays = bench.chosen(&tcp(9, SYN));
    assert_eq!(stays, dead);
    bench.send(&tcp(9, ACK)).sent();
    let addr = format!("10.0.1.{dead}");
    change(&mut web, &addr, |b| {
        b.status = Status::new(State::Down, "dead")
    });
    bench.bring([web.clone()]);
    let moved = bench.counted("MOVED", &udp.frame()).sent().to[5];
    assert_ne!(moved, dead);
    assert_eq!(bench.chosen(&udp), moved);
    assert_eq!(bench.chosen(&tcp(9, ACK)), dead, "it may come back");
    // A client that begins anew is not kept at the dead.
    assert_ne!(bench.chosen(&tcp(9, SYN)), dead);
    // The same for one that is taken away.
    let other = format!("10.0.1.{moved}");
    web.backends.remove(&other.parse().unwrap());
    change(&mut web, &addr, |b| b.status = Status::default());
    bench.bring([web]);
    assert_eq!(bench.chosen(&udp), dead);
    recount(bench);
}

/// Flows that name a slot's former backend are not brought to the one that has it now.
fn a_slot_used_again_inherits_no_flow(bench: &mut Bench) {
    let of = |backend: &str| by(SchedulerKind::Mh, "web", &LISTENS, Forward::Dr, &[backend]);
    bench.bring([of("10.0.1.1")]);
    let slot = bench.slot("10.0.1.1");
    assert_eq!(bench.chosen(&tcp(1, SYN)), 1);
    bench.send(&tcp(1, ACK)).sent();
    // The service goes, and its slots with it.
    bench.bring([]);
    bench.bring([of("10.0.1.2")]);
    assert_eq!(bench.slot("10.0.1.2"), slot);
    assert_eq!(bench.counts("10.0.1.2"), (0, 0));
    assert_eq!(bench.traffic("10.0.1.2"), Traffic::default());
    assert_eq!(bench.chosen(&tcp(1, ACK)), 2);
    assert_eq!(bench.counts("10.0.1.2"), (0, 1), "a flow of its own");
    recount(bench);
}

fn thresholds(bench: &mut Bench) {
    let mut web = service("web", &LISTENS, Forward::Dr, &BACKENDS);
    for addr in BACKENDS {
        change(&mut web, addr, |b| b.upper = 4);
    }
    bench.bring([web]);
    let places: Vec<u8> = (0..8).map(|port| bench.chosen(&tcp(port, SYN))).collect();
    assert_eq!(places, [1, 2, 1, 2, 1, 2, 1, 2]);
    assert_eq!(bench.live(BACKENDS[0]).overloaded, 1);
    let frame = tcp(100, SYN).frame();
    let sent = bench.counted("NO_BACKEND", &frame).sent();
    assert!(matches!(sent.ip.body, Body::Tcp(tcp, _) if tcp.rst));
    // Three quarters of the threshold, and below, as flows of its end: port reuse ends one.
    let end = |port| {
        bench.send(&tcp(port, ACK)).sent();
        bench.send(&tcp(port, RST)).sent();
    };
    for port in [0, 2] {
        end(port);
    }
    age_all(bench, hz(bench) * 11);
    sweep(bench);
    assert_eq!(bench.counts(BACKENDS[0]), (0, 2));
    assert_eq!(bench.live(BACKENDS[0]).overloaded, 0);
    assert_eq!(bench.live(BACKENDS[1]).overloaded, 1);
    assert_eq!(bench.chosen(&tcp(101, SYN)), 1);
    assert_eq!(bench.chosen(&tcp(102, SYN)), 1);
    bench.counted("NO_BACKEND", &tcp(103, SYN).frame()).sent();
    recount(bench);
    // Without thresholds what was met before means nothing.
    bench.bring([service("web", &LISTENS, Forward::Dr, &BACKENDS)]);
    let places: BTreeSet<u8> = (200..204)
        .map(|port| bench.chosen(&tcp(port, SYN)))
        .collect();
    assert_eq!(places.len(), 2);
}

/// The clock of the programs begins shortly before its end, and comes round every few weeks or months.
fn the_clock_may_say_anything(bench: &mut Bench) {
    bench.bring([service("web", &LISTENS, Forward::Dr, &BACKENDS[..1])]);
    for ahead in [1 << 30, 1 << 31, 3 << 30, u32::MAX] {
        bench.never_looked_up(BACKENDS[0], ahead);
        bench.send(&tcp(1, SYN)).sent();
        let live = bench.live(BACKENDS[0]);
        let second = hz(bench);
        let now = bench.now();
        assert!(live.refresh.wrapping_sub(now) <= second, "{ahead}");
    }
}
