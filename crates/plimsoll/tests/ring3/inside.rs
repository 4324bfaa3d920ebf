//! The daemon in a container, in front of others.

use std::net::SocketAddr;

use plimsoll_testkit::{Client, Reuse, list};
use serde_json::Value;

use crate::dock::Dock;
use crate::lb::backend;

/// Where it listens, seen from the engine's host, when it is in a network of its own.
const PUBLISHED: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8000);

const SOCKET: &str = "-v /var/run/docker.sock:/var/run/docker.sock";

impl Dock {
    /// All that the daemon in the container `lb` shows.
    fn status(&self) -> Option<Value> {
        let out = self
            .0
            .try_docker(&["exec", "lb", "/plimsoll", "status", "--json"]);
        serde_json::from_str(&out.ok()?).ok()
    }

    fn has(&self, service: &str, container: &str) -> bool {
        let status = self.status().unwrap_or_default();
        let mut services = list(&status["services"]).iter();
        services
            .find(|s| s["name"] == service)
            .is_some_and(|service| backend(service, container)["state"] == "ready")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_finds_its_own_networks() {
    let Some(dock) = Dock::new("it_finds_its_own_networks") else {
        return;
    };
    dock.build_plimsoll();
    for network in ["front", "far"] {
        dock.docker(&format!("network create {network}"));
    }
    let labels = "--label plimsoll.service=web --label plimsoll.host=web.example";
    dock.start("one", &format!("{labels} --network front"), "");
    let run = format!("--network front -p 8000:80 {SOCKET}");
    dock.start_of("plimsoll", "lb", &run, "");
    dock.until("it has its backend", || dock.has("web", "one"))
        .await;
    let mut plan = dock.requests(PUBLISHED, "web.example");
    plan.reuse = Reuse::Times(5);
    Client::run(plan.clone(), 50).await.assert_clean();

    // Another one is where it is not.
    dock.start("two", &format!("{labels} --network far"), "");
    let aside = || {
        let status = dock.status().unwrap_or_default();
        let mut items = list(&status["quarantine"]).iter();
        let found = items.find(|item| item["origin"]["entry"] == "container two");
        found.map(|item| item["reason"].as_str().unwrap().to_owned())
    };
    dock.until("it is put aside", || aside().is_some()).await;
    let reason = aside().unwrap();
    let (_, command) = reason.split_once(": docker ").unwrap();
    assert_eq!(command, "network connect far lb", "{reason}");
    // Past the published port: the engine closes and opens those when networks are connected.
    let mut direct = plan.clone();
    direct.target = (dock.0.address("lb", "front"), 80).into();
    let load = Client::start(direct);
    dock.docker(command);
    dock.until("it has both backends", || dock.has("web", "two"))
        .await;
    assert_eq!(aside(), None);
    dock.until("both serve", || {
        load.answered_by("one") > 0 && load.answered_by("two") > 0
    })
    .await;
    load.stop().await.assert_clean();
    Client::run(plan.clone(), 50).await.assert_clean();

    // Recreated, it finds all again.
    dock.docker("rm -f lb");
    dock.start_of("plimsoll", "lb", &run, "");
    dock.until("it has its backend again", || dock.has("web", "one"))
        .await;
    Client::run(plan, 50).await.assert_clean();
    assert!(aside().is_some());
    dock.0.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_network_of_the_host() {
    let Some(dock) = Dock::new("in_the_network_of_the_host") else {
        return;
    };
    dock.build_plimsoll();
    dock.docker("network create front");
    let labels = "--label plimsoll.service=web --label plimsoll.host=web.example";
    dock.start("one", &format!("{labels} --network front"), "");
    dock.start("two", &format!("{labels} --network host"), "");
    let run = format!("--network host {SOCKET}");
    dock.start_of("plimsoll", "lb", &run, "run --listen 127.0.0.1:8000");
    for name in ["one", "two"] {
        dock.until("it has its backends", || dock.has("web", name))
            .await;
    }
    let report = Client::run(dock.requests(PUBLISHED, "web.example"), 50).await;
    report.assert_clean();
    assert!(report.of("one") > 0 && report.of("two") > 0, "{report}");
    dock.0.close().unwrap();
}
