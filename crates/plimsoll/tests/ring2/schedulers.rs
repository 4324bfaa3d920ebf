//! Every scheduler from the file through the binary, by what it does with real connections.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use plimsoll_testkit::{BACKEND_HEADER, Ending, HttpBackend, HttpBehaviour, Raw, TcpBackend, list};

use crate::config;
use crate::lab::{HTTP, Lab, Lb, SOON, TCP};

/// A backend: address, weight, `maxconn`.
type Member = (SocketAddr, u32, u32);

/// A scheduler, its backends, and what is at them after each of some connections.
type Case = (&'static str, Vec<Member>, Vec<[u64; 3]>);

/// A TCP service over these backends, with this key.
fn service(lab: &Lab, scheduler: &str, backends: &[Member]) -> String {
    let listen = lab.at("lb", TCP);
    let mut text = format!("{}[[service]]\nname = \"tcp\"\n", config::DAEMON);
    writeln!(text, "listen = \"{listen}/tcp\"\n{scheduler}\nbackends = [").unwrap();
    for (address, weight, maxconn) in backends {
        writeln!(
            text,
            "  {{ address = \"{address}\", weight = {weight}, maxconn = {maxconn} }},"
        )
        .unwrap();
    }
    text + "]\n"
}

/// Connections in flight at each backend of the only service, in the order of their addresses.
async fn active(lb: &Lb) -> Vec<u64> {
    let status = lb.status().await;
    let backends = list(&status["services"][0]["backends"]);
    let active = |b: &serde_json::Value| b["counters"]["active"].as_u64().unwrap();
    backends.iter().map(active).collect()
}

/// Opens so many connections one after another, and tells what was at the backends after each.
async fn opened(lab: &Lab, lb: &Lb, count: u64) -> (Vec<Raw>, Vec<Vec<u64>>) {
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    for nth in 1..=count {
        let raw = Raw::connect_from(&lab.place("client"), lab.at("lb", TCP)).await;
        open.push(raw.unwrap());
        let arrived = async || active(lb).await.iter().sum::<u64>() == nth;
        lb.until("the connection is at a backend", arrived).await;
        seen.push(active(lb).await);
    }
    (open, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_go_where_the_scheduler_of_the_file_says() {
    let test = "connections_go_where_the_scheduler_of_the_file_says";
    let Some(lab) = Lab::new(test, &["servers"]) else {
        return;
    };
    let servers: Vec<TcpBackend> = (7001..=7003).map(|n| lab.tcp("servers", n)).collect();
    let at = |weights: [u32; 3], maxconn: u32| -> Vec<Member> {
        let each = servers.iter().zip(weights);
        each.map(|(s, weight)| (s.address(), weight, maxconn))
            .collect()
    };
    let exact: [Case; 4] = [
        (
            "first",
            at([1, 1, 9], 2),
            vec![[1, 0, 0], [2, 0, 0], [2, 1, 0], [2, 2, 0], [2, 2, 1]],
        ),
        (
            "fo",
            at([1, 3, 2], 2),
            vec![[0, 1, 0], [0, 2, 0], [0, 2, 1], [0, 2, 2], [1, 2, 2]],
        ),
        (
            "ovf",
            at([1, 2, 1], 0),
            vec![[0, 1, 0], [0, 2, 0], [0, 3, 0], [1, 3, 0], [2, 3, 0]],
        ),
        (
            "sed",
            at([1, 5, 2], 0),
            vec![[0, 1, 0], [0, 2, 0], [0, 2, 1], [0, 3, 1], [0, 4, 1]],
        ),
    ];
    let lb = lab
        .start(&service(&lab, "scheduler = \"wrr\"", &exact[0].1))
        .await;
    let configure = async |scheduler: &str, backends: &[Member]| {
        lb.until_idle().await;
        let keys = match scheduler {
            // What a busy client has at most, of three alike.
            "ring" => "scheduler = { kind = \"ring\", bound = 150 }".to_owned(),
            name => format!("scheduler = \"{name}\""),
        };
        let text = service(&lab, &keys, backends);
        lb.0.replace_config(&text).unwrap();
        let weights: Vec<u64> = backends.iter().map(|b| b.1.into()).collect();
        let limits: Vec<u64> = backends.iter().map(|b| b.2.into()).collect();
        let in_force = async || {
            let status = lb.status().await;
            let service = &status["services"][0];
            let of = |key: &str| -> Vec<u64> {
                let all = list(&service["backends"]).iter();
                all.map(|b| b[key].as_u64().unwrap()).collect()
            };
            service["scheduler"] == scheduler && of("weight") == weights && of("maxconn") == limits
        };
        lb.until(scheduler, in_force).await;
    };
    for (scheduler, backends, expected) in &exact {
        configure(scheduler, backends).await;
        let (open, seen) = opened(&lab, &lb, expected.len() as u64).await;
        assert_eq!(seen, *expected, "{scheduler}");
        drop(open);
    }
    // Nobody gets a second one while another is idle, whatever it weighs.
    configure("nq", &at([1, 9, 1], 0)).await;
    let (open, seen) = opened(&lab, &lb, 4).await;
    assert_eq!(seen[2..], [[1, 1, 1], [1, 2, 1]], "nq");
    drop(open);
    // There is one destination and one client.
    for scheduler in ["dh", "sh", "mh", "lblc", "lblcr"] {
        configure(scheduler, &at([9, 9, 9], 0)).await;
        let (open, seen) = opened(&lab, &lb, 6).await;
        assert_eq!(seen[5].iter().max(), Some(&6), "{scheduler}: {seen:?}");
        drop(open);
    }
    configure("ring", &at([1, 1, 1], 0)).await;
    let (open, seen) = opened(&lab, &lb, 12).await;
    for (n, active) in (1u64..).zip(&seen) {
        // Never above 150 % of a third, rounded up; and always there, or next to it.
        let most = active.iter().max();
        assert!(most <= Some(&n.div_ceil(2)), "{seen:?}");
    }
    assert_eq!(seen[11].iter().max(), Some(&6), "{seen:?}");
    drop(open);
    lb.until_idle().await;
    lab.close(lb);
}

/// Who answers curl.
fn served_by(lab: &Lab) -> String {
    let url = format!("http://{}/", lab.at("lb", HTTP));
    let ended = lab.run("curl", &["-sS", "-i", "--max-time", "10", &url]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.out.starts_with("HTTP/1.1 200"), "{}", ended.out);
    let mut fields = ended.out.lines().filter_map(|line| line.split_once(": "));
    let field = fields.find(|(name, _)| name.eq_ignore_ascii_case(BACKEND_HEADER));
    field.unwrap().1.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn fo_goes_to_the_next_when_the_first_is_killed_and_comes_back() {
    let test = "fo_goes_to_the_next_when_the_first_is_killed_and_comes_back";
    let Some(lab) = Lab::new(test, &["servers"]) else {
        return;
    };
    let servers: Vec<HttpBackend> = (8001..=8003).map(|n| lab.http("servers", n)).collect();
    let addresses: Vec<SocketAddr> = servers.iter().map(HttpBackend::address).collect();
    let mut web = config::web(lab.at("lb", HTTP), &addresses);
    web.more = "scheduler = \"fo\"\n".into();
    for (address, weight) in addresses.iter().zip([10, 30, 20]) {
        web.backends.get_mut(address).unwrap().weight = weight;
    }
    let lb = lab.start(&web.text()).await;
    for _ in 0..5 {
        assert_eq!(served_by(&lab), servers[1].id());
    }
    servers[1].kill(Ending::Reset).await;
    for _ in 0..5 {
        assert_eq!(served_by(&lab), servers[2].id());
    }
    servers[2].kill(Ending::Reset).await;
    assert_eq!(served_by(&lab), servers[0].id());
    servers[1].listen_again().unwrap();
    let back = async || served_by(&lab) == servers[1].id();
    lb.until("the heaviest serves again", back).await;
    lb.until_idle().await;
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn ewma_gives_less_to_who_is_slow() {
    let Some(lab) = Lab::new("ewma_gives_less_to_who_is_slow", &["servers"]) else {
        return;
    };
    let servers: Vec<HttpBackend> = (8001..=8003).map(|n| lab.http("servers", n)).collect();
    let addresses: Vec<SocketAddr> = servers.iter().map(HttpBackend::address).collect();
    servers[1].behave(HttpBehaviour::slow(Duration::from_millis(2000)));
    let mut web = config::web(lab.at("lb", HTTP), &addresses);
    web.more = "scheduler = { kind = \"ewma\", decay = \"1h\" }\n".into();
    let lb = lab.start(&web.text()).await;
    let place = lab.place("client");
    for _ in 0..60 {
        let mut raw = Raw::connect_from(&place, lab.at("lb", HTTP)).await.unwrap();
        let answer = raw.get("web.example", "/", SOON).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    let slow = servers[1].stats().requests;
    // Once to learn it, and by chance, where both draws of two meet it alone: once in 243.
    assert!((1..=6).contains(&slow), "{slow}");
    lb.until_idle().await;
    lab.close(lb);
}
