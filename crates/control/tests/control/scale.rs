//! One change among many costs one step.

use std::time::Instant;

use plimsoll_model::{Backend, Op, Origin, Service, ServiceSpec, Update};

use crate::world::{World, docker, entry, name};

const SERVICES: u32 = 10_000;
const BACKENDS: u32 = 10;

fn nth_service(n: u32, backends: u32) -> Service {
    let text = format!("service-{n:05}");
    let origin = Origin::new("test", text.as_str());
    let [_, a, b, c] = n.to_be_bytes();
    let listen = format!("127.{a}.{b}.{c}:80/tcp").parse().unwrap();
    let spec = ServiceSpec::new(name(&text), origin.clone(), vec![listen]);
    let backend = |port| {
        let addr = format!("10.{a}.{b}.{c}:{}", 8000 + port).parse().unwrap();
        Backend::new(addr, origin.clone())
    };
    Service::new(spec, (0..backends).map(backend))
}

#[allow(clippy::print_stdout, reason = "a test's output")]
fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    println!("{what}: {:.1?}", start.elapsed());
    result
}

#[test]
fn one_change_among_many_is_one_step() {
    let mut world = World::new();
    let key = |n: u32| format!("service {n}");
    let all = (0..SERVICES).map(|n| entry(&key(n), nth_service(n, BACKENDS)));
    let all: Vec<_> = all.collect();
    timed("first list, 10 000 services of 10 backends", || {
        world.say(&docker(), Update::Reset(all.clone()));
        world.step()
    });
    assert_eq!(world.plane.take_applied().len(), SERVICES as usize);
    let step = timed("the same list again", || {
        world.say(&docker(), Update::Reset(all));
        world.step()
    });
    assert_eq!(step.planes, []);

    timed("one backend more", || {
        world.put(&docker(), &key(5000), nth_service(5000, BACKENDS + 1));
        world.step()
    });
    let applied = world.plane.take_applied();
    assert!(
        matches!(applied.as_slice(), [Op::AddBackend(..)]),
        "{applied:?}"
    );

    timed("one service less", || {
        world.remove(&docker(), &key(77));
        world.step()
    });
    let applied = world.plane.take_applied();
    assert!(
        matches!(applied.as_slice(), [Op::RemoveService(..)]),
        "{applied:?}"
    );

    world.now += std::time::Duration::from_secs(5);
    let step = timed("audit", || world.step());
    assert_eq!(step.planes, []);
    assert!(world.plane.take_applied().is_empty());
    let status = timed("status", || world.control.status(world.now));
    assert_eq!(status.services.len(), SERVICES as usize - 1);
}
