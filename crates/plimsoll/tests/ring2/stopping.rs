//! SIGTERM under load: what was accepted is answered, and the next process has the port at once.

use std::time::{Duration, Instant};

use plimsoll_testkit::{
    Answer, Client, ClientPlan, HttpBehaviour, Raw, Report, Reuse, Tunnels, WANT_HEADER,
    wait_until_async,
};
use tokio::net::TcpSocket;

use crate::lab::{HTTP, Lab, SOON};
use crate::stage::Stage;

/// Failures that are no refused connection.
fn accepted_and_lost(report: &Report) -> Vec<&str> {
    let failures = report.failures.iter().map(|failure| &*failure.reason);
    failures
        .filter(|reason| !reason.starts_with("cannot connect: Connection refused"))
        .collect()
}

/// Whether another process could have the port now.
fn is_free(lab: &Lab) -> bool {
    let address = lab.at("lb", HTTP);
    let try_it = move || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        // To listen would be to take connections that are for others.
        socket.bind(address).is_ok()
    };
    lab.net().namespace("lb").unwrap().run(try_it).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_is_handed_over_and_no_accepted_request_is_lost() {
    let test = "the_port_is_handed_over_and_no_accepted_request_is_lost";
    let Some(mut stage) = Stage::new(test).await else {
        return;
    };
    let text = std::fs::read_to_string(stage.lb.0.config_path()).unwrap();
    let fresh = ClientPlan {
        reuse: Reuse::Never,
        tasks: 8,
        pause: Duration::ZERO,
        ..stage.lab.requests("web.example")
    };
    let kept = ClientPlan {
        post_every: 2,
        ..stage.lab.requests("web.example")
    };
    let clients = [fresh, kept].map(Client::start);
    let mut closed = Vec::new();
    for _ in 0..6 {
        assert!(clients[0].more(200, SOON).await && clients[1].more(50, SOON).await);
        let told = Instant::now();
        stage.lb.0.term().unwrap();
        assert!(wait_until_async(SOON, || is_free(&stage.lab)).await);
        closed.push(told.elapsed());
        // The old one has still something to do, or not: the new one does not care.
        let new = stage.lab.start(&text).await;
        let mut old = std::mem::replace(&mut stage.lb, new);
        assert!(clients[0].more(200, SOON).await && clients[1].more(50, SOON).await);
        assert_eq!(old.0.wait(SOON).await.unwrap().code(), Some(0));
        let log = old.0.log();
        assert!(log.contains("all has ended"), "{log}");
    }
    let [fresh, kept] = clients;
    for report in [fresh.stop().await, kept.stop().await] {
        assert!(accepted_and_lost(&report).is_empty(), "{report}");
        let refused = report.failures.len();
        eprintln!("{} answered, {refused} refused", report.answered);
    }
    eprintln!("the port was free after {closed:?}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_may_end_and_tunnels_last_until_the_limit() {
    let test = "what_is_under_way_may_end_and_tunnels_last_until_the_limit";
    let Some(lab) = Lab::new(test, &["servers"]) else {
        return;
    };
    let server = lab.http("servers", 8001);
    let web = crate::config::web(lab.at("lb", HTTP), &[server.address()]);
    let limit = Duration::from_secs(4);
    let settings = "[daemon]\nworkers = 2\ndrain = \"4s\"\n\n";
    let mut lb = lab.start(&format!("{settings}{}", web.text())).await;
    let tunnels = Tunnels::open(lab.tunnels("web.example", 2)).await.unwrap();
    let connect = async || {
        let place = lab.place("client");
        Raw::connect_from(&place, lab.at("lb", HTTP)).await.unwrap()
    };
    let get = "GET / HTTP/1.1\r\nHost: web.example\r\n";

    // One that waits for its answer, one in the middle of it, one in the middle of its own body.
    server.behave(HttpBehaviour::slow(Duration::from_millis(1500)));
    let mut waiting = connect().await;
    waiting.send(format!("{get}\r\n")).await.unwrap();
    assert!(wait_until_async(SOON, || server.stats().active == 3).await);
    server.behave(HttpBehaviour::answering(Answer::Slow {
        piece: 100,
        pause: Duration::from_millis(150),
    }));
    let mut reading = connect().await;
    let want = format!("{get}{WANT_HEADER}: 1000\r\n\r\n");
    reading.send(want).await.unwrap();
    let head = reading.read_head(SOON).await.unwrap();
    server.behave(HttpBehaviour::default());
    let mut sending = connect().await;
    let post = get.replace("GET", "POST");
    sending
        .send(format!("{post}Content-Length: 10\r\n\r\n12345"))
        .await
        .unwrap();
    assert!(wait_until_async(SOON, || server.stats().active == 5).await);
    let idle = connect().await;

    let told = Instant::now();
    lb.0.term().unwrap();
    assert!(wait_until_async(SOON, || is_free(&lab)).await);
    assert!(
        told.elapsed() < Duration::from_secs(1),
        "{:?}",
        told.elapsed()
    );
    sending.send("67890").await.unwrap();
    let sent = sending.read_response(SOON).await.unwrap();
    let waited = waiting.read_response(SOON).await.unwrap();
    for answer in [sent, waited] {
        assert_eq!((answer.status, answer.closes()), (200, true));
    }
    let body = reading.read_body(&head, SOON).await.unwrap();
    assert_eq!(body.bytes.len(), 1000);
    drop(idle);
    assert!(tunnels.more(20, SOON).await, "tunnels go on");
    assert_eq!(tunnels.broken(), 0);
    assert!(lb.0.ended().unwrap().is_none());

    let status = lb.0.wait(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0));
    let took = told.elapsed();
    assert!(
        took >= limit && took < limit + Duration::from_secs(3),
        "{took:?}"
    );
    assert!(wait_until_async(SOON, || tunnels.broken() == 2).await);
    let log = lb.0.log();
    assert!(log.contains("cuts what is left"), "{log}");
    lab.close(lb);
}
