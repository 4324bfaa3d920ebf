//! The binary alone in an image, with nothing beside it.

use std::fs;

use plimsoll_testkit::{Client, Reuse};

use crate::dock::{Dock, SOON};

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_from_an_empty_image_and_stops_when_told() {
    let Some(dock) = Dock::new("it_serves_from_an_empty_image_and_stops_when_told") else {
        return;
    };
    dock.build_plimsoll();
    let backends = ["one", "two"].map(|name| {
        dock.start(name, "", "");
        dock.at(name)
    });
    let config = format!(
        "[[service]]\nname = \"web\"\nlisten = \"0.0.0.0:8080/http\"\nbackends = [\"{}\", \"{}\"]\n",
        backends[0], backends[1]
    );
    let folder = dock.0.dir().join("config");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("plimsoll.toml"), config).unwrap();
    let mount = format!("{}:/etc/plimsoll:ro", folder.display());
    let run = [
        "run",
        "-d",
        "--name",
        "lb",
        "--read-only",
        "--tmpfs",
        "/run",
    ];
    let start = [
        "-v",
        &mount,
        "plimsoll",
        "run",
        "--config",
        "/etc/plimsoll/plimsoll.toml",
    ];
    dock.0.docker(&[run.as_slice(), &start].concat());
    let address = (dock.0.address("lb", "bridge"), 8080).into();
    dock.listens(address).await;

    let mut plan = dock.requests(address, "shop.example");
    plan.reuse = Reuse::Times(10);
    let client = Client::start(plan);
    assert!(client.more(100, SOON).await);
    let report = client.stop().await;
    report.assert_clean();
    assert!(report.of("one") > 0 && report.of("two") > 0, "{report:?}");

    // What is in flight is answered before it ends.
    let mut slow = dock.requests(address, "shop.example").path("/slow?ms=1000");
    slow.requests = Some(4);
    let slow = Client::start(slow);
    let in_flight = || {
        let out = dock
            .0
            .docker(&["exec", "lb", "/plimsoll", "status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&out).unwrap();
        let backends = status["services"][0]["backends"].as_array().unwrap();
        let active = backends
            .iter()
            .map(|b| b["counters"]["active"].as_u64().unwrap());
        active.sum::<u64>() == 4
    };
    dock.until("four requests are in flight", in_flight).await;
    dock.0.docker(&["stop", "lb"]);
    slow.finished().await.assert_clean();
    let ended = dock.0.api_get("/containers/lb/json");
    assert_eq!(ended["State"]["ExitCode"], 0);
    dock.0.close().unwrap();
}
