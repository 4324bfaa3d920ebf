//! Faults of the network: a link that is down swallows everything and says nothing.

use std::time::Duration;

use plimsoll_testkit::{Answer, Client, ClientPlan, HttpBehaviour, Raw, Reuse};

use crate::config;
use crate::lab::{HTTP, Lab, SOON, TCP};
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_behind_a_dead_link_is_put_out_and_comes_back() {
    let test = "a_backend_behind_a_dead_link_is_put_out_and_comes_back";
    let more = "timeouts = { connect = \"300ms\", response = \"1s\" }";
    let Some(stage) = Stage::with(test, more).await else {
        return;
    };
    // Its connections are not kept, so that each request needs a new one.
    stage.victim.behave(HttpBehaviour {
        announce_close: true,
        ..HttpBehaviour::default()
    });
    let link = |state: &str| {
        let namespace = stage.lab.net().namespace("bad").unwrap();
        namespace.ip(&["link", "set", "eth0", state]).unwrap();
    };
    let [gets, posts, fresh] = stage.plans().map(Client::start);
    assert!(gets.more(100, SOON).await && posts.more(20, SOON).await);
    for _ in 0..2 {
        let before = stage.status().await["ejections"].as_u64().unwrap();
        let lost = gets.failed() + posts.failed() + fresh.failed();
        link("down");
        stage.until("down").await;
        let again = async || stage.status().await["ejections"].as_u64().unwrap() >= before + 2;
        stage
            .lb
            .until("it is tried again, and put out again", again)
            .await;
        let status = stage.status().await;
        let reason = status["reason"].as_str().unwrap();
        assert!(
            reason.contains("no answer to a connection within 300 ms")
                || reason.contains("host unreachable"),
            "{status}"
        );
        assert!(gets.more(50, SOON).await && posts.more(20, SOON).await);
        let lost = gets.failed() + posts.failed() + fresh.failed() - lost;
        // Only what was on its way at the moment itself: one for each task at most.
        assert!(lost <= 8, "{lost} lost");
        let served = stage.victim.stats().requests;
        link("up");
        stage.until("ready").await;
        let back = async || stage.victim.stats().requests > served + 20;
        stage.lb.until("it serves again", back).await;
    }
    let mut report = gets.stop().await;
    report = report.merge(posts.stop().await).merge(fresh.stop().await);
    for failure in &report.failures {
        assert!(failure.reason.contains("status 504"), "{failure:?}");
    }
    eprintln!("{report}");
    // A connection that times out is tried elsewhere: nobody waits for longer than that and one
    // answer.
    assert!(report.slowest < Duration::from_millis(2500), "{report}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_connections_go_elsewhere_when_a_link_is_dead() {
    let Some(lab) = Lab::new(
        "tcp_connections_go_elsewhere_when_a_link_is_dead",
        &["good", "bad"],
    ) else {
        return;
    };
    let (good, victim) = (lab.tcp("good", 9001), lab.tcp("bad", 9001));
    let service = config::tcp(lab.at("lb", TCP), &[good.address(), victim.address()]);
    let service = service.with("timeouts = { connect = \"300ms\" }");
    let lb = lab.start(&service.text()).await;
    let fresh = ClientPlan {
        reuse: Reuse::Never,
        ..lab.exchanges()
    };
    let before = Client::run(fresh.clone(), 20).await;
    before.assert_clean();
    assert_eq!((before.of(good.id()), before.of(victim.id())), (10, 10));
    let bad = lab.net().namespace("bad").unwrap();
    bad.ip(&["link", "set", "eth0", "down"]).unwrap();
    let during = Client::run(fresh.clone(), 200).await;
    during.assert_clean();
    assert_eq!(during.of(good.id()), 200, "{during}");
    let status = lb.backend("tcp", victim.address()).await;
    assert_eq!(
        (&status["state"], &status["counters"]["active"]),
        (&"down".into(), &0.into())
    );
    bad.ip(&["link", "set", "eth0", "up"]).unwrap();
    let client = Client::start(fresh);
    let back = async || client.answered_by(victim.id()) > 20;
    lb.until("it serves again", back).await;
    client.stop().await.assert_clean();
    lb.until_idle().await;
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_behind_a_dead_link_is_given_up_in_the_middle() {
    let test = "whoever_is_behind_a_dead_link_is_given_up_in_the_middle";
    let Some(lab) = Lab::new(test, &["bad", "good"]) else {
        return;
    };
    let (server, echo) = (lab.http("bad", 8001), lab.tcp("good", 9001));
    server.behave(HttpBehaviour::answering(Answer::Never));
    // Nothing but the silence of the other host ends these.
    let timeouts = "timeouts = { response = \"0\", idle = \"0\", peer = \"2s\" }";
    let web = config::web(lab.at("lb", HTTP), &[server.address()]).with(timeouts);
    let tcp = config::tcp(lab.at("lb", TCP), &[echo.address()]).with(timeouts);
    let lb = lab.start(&(web.text() + &tcp.text())).await;
    let down = |label: &str| {
        let namespace = lab.net().namespace(label).unwrap();
        namespace.ip(&["link", "set", "eth0", "down"]).unwrap();
    };
    let from = lab.place("client");
    let mut asking = Raw::connect_from(&from, lab.at("lb", HTTP)).await.unwrap();
    asking
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    lb.until("it has the request", async || server.stats().active == 1)
        .await;
    down("bad");
    let answer = asking.read_response(2 * SOON).await.unwrap();
    assert_eq!(answer.status, 502, "{answer:?}");
    drop(asking);
    // A client in the middle of a connection.
    let mut client = Raw::connect_from(&from, lab.at("lb", TCP)).await.unwrap();
    lb.until("it is at its backend", async || echo.stats().open == 1)
        .await;
    down("client");
    lb.until("its backend is rid of it", async || echo.stats().open == 0)
        .await;
    lb.until_idle().await;
    client.send("nobody hears this").await.unwrap();
    drop(client);
    lab.close(lb);
}
