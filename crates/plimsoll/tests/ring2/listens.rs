//! Addresses that are in use, and IPv6.

use std::net::{Ipv6Addr, SocketAddr};

use plimsoll_testkit::{
    Client, ClientPlan, Daemon, DaemonPlan, Ending, HttpBackend, Raw, Ready, TunnelPlan, Tunnels,
    list,
};

use crate::config::{self, DAEMON, Service};
use crate::lab::{HTTP, Lab, Lb, SOON};

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_reported_and_taken_once_it_is_free() {
    let test = "an_address_in_use_is_reported_and_taken_once_it_is_free";
    let Some(lab) = Lab::new(test, &["servers"]) else {
        return;
    };
    let server = lab.http("servers", 8001);
    let (first, second) = (lab.at("lb", HTTP), lab.at("lb", 8081));
    // Somebody else is there.
    let squatter = HttpBackend::start_at("squatter", &lab.place("lb"), first).unwrap();
    let one = config::web(first, &[server.address()]).text();
    let plan = DaemonPlan {
        ready: Ready::Spawned,
        ..lab.plan(&format!("{DAEMON}{one}"))
    };
    // Alone, it is a reason to end.
    let mut alone = Daemon::start(plan).await.unwrap();
    assert_eq!(alone.wait(SOON).await.unwrap().code(), Some(1));
    let log = alone.log();
    assert!(
        log.contains("address in use") && log.contains(&first.to_string()),
        "{log}"
    );
    drop(alone);

    // With another one it is not: that is served.
    let other = config::web(second, &[server.address()]).text();
    let other = other.replace("\"web\"", "\"other\"");
    let lb = Lb(Daemon::start(lab.plan(&format!("{DAEMON}{one}{other}")))
        .await
        .unwrap());
    let place = lab.place("client");
    lb.until("the other is served", async || {
        place.connect(second).await.is_ok()
    })
    .await;
    let client = Client::start(ClientPlan {
        target: second,
        ..lab.requests("other.example")
    });
    assert!(client.more(50, SOON).await);
    let status = lb.status().await;
    assert_eq!(status["ready"], false);
    let web = list(&status["services"])
        .iter()
        .find(|s| s["name"] == "web");
    let error = web.unwrap()["listens"][0]["error"].as_str().unwrap();
    assert!(error.contains("address in use"), "{error}");
    // The one who was there first still gets its clients.
    let mut raw = Raw::connect_from(&place, first).await.unwrap();
    let answer = raw.get("web.example", "/", SOON).await.unwrap();
    assert!(answer.text().contains("squatter"), "{}", answer.text());
    drop(raw);

    squatter.kill(Ending::Close).await;
    drop(squatter);
    lb.until("it is taken", async || lb.status().await["ready"] == true)
        .await;
    Client::run(lab.requests("web.example"), 50)
        .await
        .assert_clean();
    client.stop().await.assert_clean();
    let log = lb.0.log();
    assert!(log.contains("does not fail any more"), "{log}");

    // A listen that comes later and is in use changes nothing for the others either.
    let squatter = HttpBackend::start_at("squatter", &lab.place("lb"), lab.at("lb", 8082)).unwrap();
    let third = one
        .replace("8080/http\"", "8082/http\"")
        .replace("\"web\"", "\"third\"");
    let client = Client::start(lab.requests("web.example"));
    lb.0.replace_config(&format!("{DAEMON}{one}{other}{third}"))
        .unwrap();
    lb.0.hup().unwrap();
    lb.until("it fails", async || lb.status().await["ready"] == false)
        .await;
    assert!(client.more(50, SOON).await);
    drop(squatter);
    lb.until("it is taken", async || lb.status().await["ready"] == true)
        .await;
    let plan = ClientPlan {
        target: lab.at("lb", 8082),
        ..lab.requests("third.example")
    };
    Client::run(plan, 20).await.assert_clean();
    client.stop().await.assert_clean();
    lb.until_idle().await;
    lab.close(lb);
}

/// Gives the nodes IPv6 addresses beside those they have: fd77::1 and so on.
fn with_v6(lab: &Lab, labels: &[&str]) -> Vec<Ipv6Addr> {
    let add = |(number, label): (u16, &&str)| {
        let address = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number);
        let namespace = lab.net().namespace(label).unwrap();
        let text = format!("{address}/64");
        // Without duplicate address detection it can be used at once.
        let words = ["-6", "address", "add", &text, "dev", "eth0", "nodad"];
        namespace.ip(&words).unwrap();
        address
    };
    (1..).zip(labels).map(add).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_families_are_served_and_told_apart() {
    let Some(lab) = Lab::new("both_families_are_served_and_told_apart", &["servers"]) else {
        return;
    };
    let v6 = with_v6(&lab, &["client", "lb", "servers"]);
    let (client, lb6) = (v6[0], v6[1]);
    let address = SocketAddr::from((v6[2], 8001));
    let six = HttpBackend::start_at("six", &lab.place("servers"), address).unwrap();
    let four = lab.http("servers", 8002);
    // Any address of IPv6; any of both; this one of IPv6.
    let listens = [
        "[::]:8080/http".to_owned(),
        "*:8081/http".to_owned(),
        format!("[{lb6}]:8082/http"),
    ];
    let services = listens.into_iter().enumerate().map(|(number, listen)| {
        let backends = [six.address(), four.address()];
        Service::new(&format!("web{number}"), Some(listen), backends).text()
    });
    let lb = lab.start(&services.collect::<String>()).await;
    let place = lab.place("client");
    let six_at = |port| SocketAddr::from((lb6, port));
    let reached = [six_at(8080), six_at(8081), lab.at("lb", 8081), six_at(8082)];
    for target in reached {
        let plan = ClientPlan {
            target,
            ..lab.requests("web.example")
        };
        let report = Client::run(plan, 40).await;
        report.assert_clean();
        assert_eq!(
            (report.of("six"), report.of(four.id())),
            (20, 20),
            "{target}"
        );

        // What backends are told of the client.
        let host = target.to_string();
        let (ip, element) = match target {
            SocketAddr::V4(_) => {
                let ip = lab.at("client", 0).ip().to_string();
                (ip.clone(), format!("for={ip};host=\"{host}\";proto=http"))
            }
            SocketAddr::V6(_) => {
                let element = format!("for=\"[{client}]\";host=\"{host}\";proto=http");
                (client.to_string(), element)
            }
        };
        let mut raw = Raw::connect_from(&place, target).await.unwrap();
        for _ in 0..2 {
            assert_eq!(raw.get(&host, "/", SOON).await.unwrap().status, 200);
        }
        for server in [&six, &four] {
            let seen = server.seen();
            let head = &seen.last().unwrap().head;
            assert_eq!(head.get("x-forwarded-for"), Some(&*ip));
            assert_eq!(head.get("forwarded"), Some(&*element));
            assert_eq!(head.get("x-forwarded-host"), Some(&*host));
        }
    }
    // What is said of IPv6 is not said of IPv4.
    assert!(place.connect(lab.at("lb", 8080)).await.is_err());
    let plan = TunnelPlan {
        target: six_at(8081),
        ..lab.tunnels("web.example", 4)
    };
    let tunnels = Tunnels::open(plan).await.unwrap();
    assert!(tunnels.more(20, SOON).await);
    tunnels.stop().await.assert_clean();
    lb.until_idle().await;
    lab.close(lb);
}
