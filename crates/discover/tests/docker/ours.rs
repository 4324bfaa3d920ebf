//! Where we run, and whom we reach from there.

use plimsoll_discover::Item;
use plimsoll_discover::docker::view::Whereabouts;
use plimsoll_discover::docker::wire::Network;
use plimsoll_testkit::FakeContainer;

use crate::sim::Sim;

fn web() -> FakeContainer {
    FakeContainer::web("web", "web.example")
}

const READY: Option<&str> = Some("ready");

#[test]
fn our_own_networks_decide_whom_we_reach() {
    let mut sim = Sim::new();
    let ours = sim
        .world
        .run(FakeContainer::web("lb", "lb.example").network("front"));
    sim.world.run(web().network("back"));
    sim.begin_as(Some(&ours));
    // It is not among its own backends, label or not.
    assert_eq!(sim.backend("lb"), None);
    assert_eq!(sim.backend("web"), None);
    let reason = sim.said.values().find_map(|item| match item {
        Item::Invalid { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    assert!(reason.unwrap().contains("docker network connect back lb"));
    let before = sim.inspections;
    sim.world.connect(&ours, "back");
    sim.tell();
    assert_eq!(sim.backend("web").as_deref(), READY);
    assert_eq!(sim.inspections, before + 1);
    sim.world.disconnect(&ours, "back");
    sim.tell();
    assert_eq!(sim.backend("web"), None);
}

#[test]
fn whose_network_we_use_is_whose_networks_count() {
    let mut sim = Sim::new();
    let owner = sim.world.run(FakeContainer::new("pause").network("front"));
    let lb = FakeContainer::new("lb").mode(&format!("container:{owner}"));
    let ours = sim.world.run(lb);
    sim.world.run(web().network("front"));
    sim.begin_as(Some(&ours));
    assert_eq!(sim.backend("web").as_deref(), READY);
    sim.world.disconnect(&owner, "front");
    sim.tell();
    assert_eq!(sim.backend("web"), None);
}

#[test]
fn in_the_network_of_the_host_we_are_on_the_host() {
    let mut sim = Sim::new();
    let ours = sim.world.run(FakeContainer::new("lb").mode("host"));
    sim.world.run(web().network("back"));
    sim.begin_as(Some(&ours));
    assert_eq!(sim.backend("web").as_deref(), READY);
    // Made anew with a network of its own, it is another container.
    sim.world.remove(&ours);
    let ours = sim.world.run(FakeContainer::new("lb").network("front"));
    sim.begin_as(Some(&ours));
    assert_eq!(sim.backend("web"), None);
}

/// It may be at the end of a tunnel that has that address here.
#[test]
fn the_address_of_a_container_says_nothing_about_the_engine() {
    let mut sim = Sim::new();
    let tunnel = sim.world.run(FakeContainer::new("tunnel"));
    sim.world.run(web());
    let inspect = sim.world.inspect(&tunnel).unwrap();
    let address = inspect.pointer("/NetworkSettings/Networks/bridge/IPAddress");
    let host = address.unwrap().as_str().unwrap().parse().unwrap();
    sim.events();
    sim.watch
        .begin(None, Whereabouts::Remote { host }, None, sim.now);
    sim.list();
    sim.settle();
    assert_eq!(sim.backend("web"), None);
}

#[test]
fn networks_are_asked_for_one_at_a_time_and_again() {
    let mut sim = Sim::new();
    sim.events();
    sim.watch.begin(None, Whereabouts::Host, None, sim.now);
    assert!(sim.watch.take_networks_due());
    let old: Vec<Network> = serde_json::from_value(sim.world.networks()).unwrap();
    sim.world.network("front");
    sim.world.run(web().network("front"));
    sim.list();
    for id in sim.watch.take_wanted(16) {
        let answer = sim.inspection(&id);
        sim.watch.inspected(&id, Ok(answer), sim.now);
    }
    // The network is new, but of two answers the older one could come last.
    assert!(!sim.watch.take_networks_due());
    assert!(!sim.watch.is_listed() && !sim.watch.is_settled());
    sim.watch.networks(old.clone(), sim.now);
    assert!(sim.watch.take_networks_due());
    assert!(!sim.watch.is_settled());
    // An answer without it leads to no other question,
    sim.watch.networks(old, sim.now);
    assert!(!sim.watch.take_networks_due());
    assert!(sim.watch.is_settled());
    assert_eq!(sim.backend("web"), None);
    // but the next list does.
    sim.list();
    sim.settle();
    assert_eq!(sim.backend("web").as_deref(), READY);
    sim.list();
    assert!(!sim.watch.take_networks_due());
}
