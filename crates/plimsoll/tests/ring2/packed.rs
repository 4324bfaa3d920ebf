//! Clients that ask for what takes the most memory to compress, and read nothing of it: together they
//! hold no more than they may, and the others are served.

use plimsoll_testkit::{Answer, HttpBehaviour, Raw, list};
use serde_json::Value;

use crate::config::{self, Service};
use crate::lab::{HTTP, Lab, Lb, SOON};

/// Where the service listens that compresses.
const PACKED: u16 = 8081;

/// Attackers.
const CROWD: u64 = 60;

/// For less than half of them, in bytes.
const BUDGET: u64 = 64 << 20;

/// What an attacker may hold beside its encoder, in KiB. All encoders without a budget would hold 6 times as much as with it.
const ELSE: u64 = 1024;

/// Bytes of an answer: more than all buffers on the way hold of one that is not read.
const MUCH: usize = 2 << 20;

/// An answer that says it is text, and that no encoder makes shorter than a part of it. The server says
/// nothing more on its connection.
fn noise() -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\
         Content-Length: {MUCH}\r\n\r\n"
    )
    .into_bytes();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    // Xorshift, as Marsaglia has it.
    bytes.extend((0..MUCH).map(|_| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()[7]
    }));
    bytes
}

/// A request that accepts nothing but brotli.
async fn asked(lab: &Lab) -> Raw {
    let place = lab.place("client");
    let stream = place.connect(lab.at("lb", PACKED)).await.unwrap();
    // Else the kernel might take it all.
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 64 << 10).unwrap();
    let mut raw = Raw::over(stream);
    let head = "GET / HTTP/1.1\r\nHost: packed.example\r\nAccept-Encoding: br\r\n\r\n";
    raw.send(head).await.unwrap();
    raw
}

/// What is counted of the service that compresses.
fn counted(status: &Value) -> (u64, u64) {
    let services = list(&status["services"]).iter();
    let packed = services.filter(|service| service["name"] == "packed");
    let counts = packed
        .map(|service| &service["compression"])
        .next()
        .unwrap();
    let count = |name: &str| counts[name].as_u64().unwrap();
    (count("responses"), count("no_memory"))
}

/// Bytes that encoders hold.
fn held(status: &Value) -> u64 {
    let planes = list(&status["planes"]).iter();
    planes
        .map(|plane| plane["compress_memory"].as_u64().unwrap())
        .sum()
}

async fn assert_served(lab: &Lab, lb: &Lb, packed: bool) {
    let mut raw = asked(lab).await;
    let head = raw.read_head(SOON).await.unwrap();
    assert_eq!(
        head.get("content-encoding").is_some(),
        packed,
        "{}",
        lb.ask(&["status"]).out
    );
    assert_eq!(head.get("vary"), Some("Accept-Encoding"));
    if !packed {
        raw.read_exact(MUCH, SOON).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_read_nothing_of_what_is_compressed_have_a_budget() {
    let test = "those_who_read_nothing_of_what_is_compressed_have_a_budget";
    let Some(lab) = Lab::new(test, &["servers"]) else {
        return;
    };
    let (web, noisy) = (lab.http("servers", 8001), lab.http("servers", 8002));
    noisy.behave(HttpBehaviour::answering(Answer::Garbage(noise())));
    let listen = format!("{}/http", lab.at("lb", PACKED));
    let packed = Service::new("packed", Some(listen), [noisy.address()]);
    let text = [
        format!("[daemon]\nworkers = 2\ncompress-memory = {BUDGET}\n\n"),
        config::web(lab.at("lb", HTTP), &[web.address()]).text(),
        packed
            .with("compress = { level = 9 }\ntimeouts = { stall = \"20s\" }")
            .text(),
    ];
    let lb = lab.start(&text.concat()).await;
    let good = plimsoll_testkit::Client::start(lab.requests("web.example"));
    assert!(good.more(20, SOON).await);
    assert_served(&lab, &lb, true).await;
    let idle = async || held(&lb.status().await) == 0;
    lb.until("nothing is compressed", idle).await;
    let quiet = lb.memory();
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(asked(&lab).await);
    }
    let all = async || {
        let (packed, plain) = counted(&lb.status().await);
        packed + plain == 1 + CROWD
    };
    lb.until("all have the head of their answer", all).await;
    let status = lb.status().await;
    let ((packed, plain), held_now) = (counted(&status), held(&status));
    assert!(packed > 2 && plain > CROWD / 2, "{packed} {plain}");
    assert!((BUDGET / 2..=BUDGET).contains(&held_now), "{held_now}");
    // The others are served, those of the same service too.
    assert!(good.more(20, SOON).await);
    assert_served(&lab, &lb, false).await;
    let more = lb.memory().saturating_sub(quiet);
    let most = (BUDGET >> 10) + CROWD * ELSE;
    eprintln!(
        "{packed} encoders, said to hold {} KiB; {more} KiB more in all",
        held_now >> 10
    );
    assert!(more < most, "{more} KiB more, where {most} are allowed");
    drop(crowd);
    lb.until("nothing is compressed any more", idle).await;
    assert_served(&lab, &lb, true).await;
    good.stop().await.assert_clean();
    lb.until_idle().await;
    lab.close(lb);
}
