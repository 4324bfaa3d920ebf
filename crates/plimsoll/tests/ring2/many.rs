//! Fifteen thousand connections that are held open, while others go on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use plimsoll_testkit::{Client, ClientPlan, Place, Raw, Reuse, list};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::config;
use crate::lab::{HTTP, Lab, Lb, SOON, TCP};

/// Idle connections over HTTP that have each done a request.
const OVER_HTTP: usize = 14_000;

/// Connections over TCP that have each done an exchange.
const OVER_TCP: usize = 1_000;

/// Opened side by side.
const TASKS: usize = 50;

/// Descriptors that the daemon needs for them, and an eighth that it leaves to backends.
const FILES: u64 = 20_000;

/// What one may cost in the daemon's memory, in KiB: the project promises 12 for an idle HTTP
/// connection, and this is a build without optimisation.
const EACH: u64 = 16;

/// Allows this process, and the daemon that it starts, as many descriptors.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= FILES);
    let raised = Rlimit {
        current: Some(FILES),
        maximum: if enough(limit.maximum) {
            limit.maximum
        } else {
            Some(FILES)
        },
    };
    if !enough(limit.current) {
        setrlimit(Resource::Nofile, raised).unwrap();
    }
}

/// One of the many: it has been served once.
async fn open(place: &Place, address: SocketAddr) -> Raw {
    let mut raw = Raw::connect_from(place, address).await.unwrap();
    again(&mut raw, address.port()).await;
    raw
}

/// It is served once more.
async fn again(raw: &mut Raw, port: u16) {
    if port == HTTP {
        let answer = raw.get("web.example", "/", SOON).await.unwrap();
        assert_eq!(answer.status, 200);
    } else {
        raw.send("some-id 3\nabc").await.unwrap();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.extend(raw.read_exact(1, SOON).await.unwrap());
        }
        assert_eq!(raw.read_exact(3, SOON).await.unwrap(), b"abc");
    }
}

/// So many, opened by several tasks.
async fn open_all(place: &Place, address: SocketAddr, count: usize) -> Vec<Raw> {
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let place = place.clone();
        tasks.spawn(async move {
            let mut opened = Vec::new();
            for _ in 0..count / TASKS {
                opened.push(open(&place, address).await);
            }
            opened
        });
    }
    let mut all = Vec::new();
    while let Some(opened) = tasks.join_next().await {
        all.extend(opened.unwrap());
    }
    all
}

/// Connections on all listens.
async fn connections(lb: &Lb) -> u64 {
    let status = lb.status().await;
    let services = list(&status["services"]).iter();
    let listens = services.flat_map(|service| list(&service["listens"]));
    listens.map(|l| l["connections"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifteen_thousand_connections_are_held_while_others_go_on() {
    let test = "fifteen_thousand_connections_are_held_while_others_go_on";
    let Some(lab) = Lab::new(test, &["servers"]) else {
        return;
    };
    raise_limit();
    let web = [8001, 8002].map(|port| lab.http("servers", port));
    let tcp = [9001, 9002].map(|port| lab.tcp("servers", port));
    let web = web.each_ref().map(|server| server.address());
    let tcp = tcp.each_ref().map(|server| server.address());
    let patient = "timeouts = { keepalive = \"10m\" }";
    let text = [
        config::web(lab.at("lb", HTTP), &web).with(patient).text(),
        config::tcp(lab.at("lb", TCP), &tcp).text(),
    ];
    let lb = lab.start(&text.concat()).await;
    let few = |plan: ClientPlan| ClientPlan {
        tasks: 2,
        pause: Duration::from_millis(5),
        ..plan
    };
    let plans = [
        lab.requests("web.example"),
        few(ClientPlan {
            reuse: Reuse::Never,
            post_every: 2,
            ..lab.requests("web.example")
        }),
        few(ClientPlan {
            reuse: Reuse::Never,
            ..lab.exchanges()
        }),
    ];
    let clients = plans.map(Client::start);
    for client in &clients {
        assert!(client.more(100, SOON).await);
    }
    let quiet = lb.memory();
    let place = lab.place("client");
    let started = Instant::now();
    let mut over_http = open_all(&place, lab.at("lb", HTTP), OVER_HTTP).await;
    let between = lb.memory();
    let mut over_tcp = open_all(&place, lab.at("lb", TCP), OVER_TCP).await;
    let (took, full) = (started.elapsed(), lb.memory());
    assert_eq!((over_http.len(), over_tcp.len()), (OVER_HTTP, OVER_TCP));
    assert!(connections(&lb).await >= (OVER_HTTP + OVER_TCP) as u64);
    let each = |from: u64, to: u64, count: usize| to.saturating_sub(from) as f64 / count as f64;
    eprintln!(
        "{OVER_HTTP} over HTTP and {OVER_TCP} over TCP in {took:?}: {:.1} and {:.1} KiB each",
        each(quiet, between, OVER_HTTP),
        each(between, full, OVER_TCP)
    );
    assert!(
        full - quiet < EACH * (OVER_HTTP + OVER_TCP) as u64,
        "{full}"
    );

    // Each worker has about its half.
    let status = lb.status().await;
    let workers = list(&status["planes"][0]["workers"]).iter();
    let workers: Vec<u64> = workers.map(|open| open.as_u64().unwrap()).collect();
    assert!(
        workers.len() == 2 && workers.iter().all(|open| *open > 6_000),
        "{workers:?}"
    );

    // Others are served, and those who were quiet are, too.
    for client in &clients {
        assert!(client.more(500, 2 * SOON).await);
        assert_eq!(client.failed(), 0);
    }
    for raw in over_http.iter_mut().step_by(20) {
        again(raw, HTTP).await;
    }
    for raw in over_tcp.iter_mut().step_by(20) {
        again(raw, TCP).await;
    }
    assert!(
        connections(&lb).await >= (OVER_HTTP + OVER_TCP) as u64,
        "none was closed"
    );
    drop((over_http, over_tcp));
    lb.until("they are gone", async || connections(&lb).await < 50)
        .await;
    for client in clients {
        let report = client.stop().await;
        report.assert_clean();
        eprintln!("beside them: {report}");
    }
    lb.until_idle().await;
    lab.close(lb);
}
