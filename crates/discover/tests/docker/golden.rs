//! What Docker 20.10.24 answered, word for word but for paths.

use std::collections::BTreeMap;

use plimsoll_discover::docker::read::{Inspected, Listed, read_inspect, read_list};
use plimsoll_discover::docker::view::Whereabouts;
use plimsoll_discover::docker::wire::Inspect;

use crate::sim::{Sim, apply, backends};

const LIST: &str = include_str!("golden/list.json");
const INSPECTIONS: &str = include_str!("golden/inspections.json");
const NETWORKS: &str = include_str!("golden/networks.json");

fn inspections() -> BTreeMap<String, Inspect> {
    let all: Vec<serde_json::Value> = serde_json::from_str(INSPECTIONS).unwrap();
    let read = |one: serde_json::Value| match read_inspect(one.to_string().as_bytes()) {
        Inspected::Container(inspect) => (inspect.id.clone(), *inspect),
        other => panic!("{other:?}"),
    };
    all.into_iter().map(read).collect()
}

#[test]
fn a_real_engine_is_understood() {
    let mut sim = Sim::new();
    let inspections = inspections();
    let list = read_list(LIST.as_bytes()).unwrap();
    assert!(
        list.iter().all(|item| matches!(item, Listed::Container(_))),
        "{list:?}"
    );
    assert_eq!(list.len(), inspections.len());
    sim.watch.begin(None, Whereabouts::Host, None, sim.now);
    sim.watch
        .networks(serde_json::from_str(NETWORKS).unwrap(), sim.now);
    sim.watch.list_begins();
    sim.watch.list(list.clone(), sim.now);
    let wanted = sim.watch.take_wanted(100);
    assert_eq!(wanted.len(), list.len());
    for id in wanted {
        let inspect = Box::new(inspections[&id].clone());
        sim.watch
            .inspected(&id, Ok(Inspected::Container(inspect)), sim.now);
    }
    let reset = sim.watch.reset();
    apply(&mut sim.said, reset);
    let expected = [
        ("checked", "ready"),
        ("host", "ready"),
        ("linked", "ready"),
        ("paused", "draining: paused"),
        ("side", "ready"),
        ("two", "ready: on network front (also in bridge)"),
        ("web", "ready"),
    ];
    let found = backends(&sim.said);
    let found: Vec<_> = found
        .iter()
        .map(|(name, status)| (&**name, &**status))
        .collect();
    assert_eq!(found, expected);

    // The list and the inspections show the same: nothing is to be asked again.
    sim.watch.list_begins();
    sim.watch.list(list, sim.now);
    assert!(!sim.watch.is_wanting());
}

#[test]
fn what_newer_engines_leave_out_is_not_missed() {
    // API 1.52 has the addresses under `Networks` only; later ones may leave out anything.
    let all: Vec<serde_json::Value> = serde_json::from_str(INSPECTIONS).unwrap();
    for mut one in all {
        let before = read_inspect(one.to_string().as_bytes());
        let settings = one["NetworkSettings"].as_object_mut().unwrap();
        settings.retain(|key, _| key == "Networks" || key == "Ports");
        one.as_object_mut().unwrap().retain(|key, _| {
            matches!(
                &**key,
                "Id" | "Name" | "Created" | "State" | "Config" | "HostConfig" | "NetworkSettings"
            )
        });
        one["Something"] = serde_json::json!({"New": [1, null]});
        assert_eq!(read_inspect(one.to_string().as_bytes()), before);
    }
}
