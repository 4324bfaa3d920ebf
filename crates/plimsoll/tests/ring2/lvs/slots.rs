//! Backends come and go, and their places in the tables are given to others: no flow gets to anybody
//! who is not of its service, and none from one server to another while it lasts.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::site::{Family, Hook, Leg, Rule, SERVERS, Site};
use super::talk::{Proto, Servers, Talk};

const STEPS: usize = 40;
/// Connections that stay open for so many steps.
const KEPT: usize = 5;
const INSIDE: u16 = 9000;

/// The services; in each step each has another server, and no two have the same.
const WAYS: [&str; 3] = ["dr", "nat", "tunnel"];

fn vip(way: usize) -> SocketAddr {
    (Family::V4.vip(), 8000 + way as u16).into()
}

/// The server that a service has in a step; some steps leave one without.
fn server_of(step: usize, way: usize) -> Option<usize> {
    let empty = step % 4 == 3 && way == step / 4 % 3;
    (!empty).then_some((step * 2 + way) % 3)
}

fn rules(site: &Site, step: usize) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (way, forward) in WAYS.into_iter().enumerate() {
        let backend = server_of(step, way).map(|server| {
            let ip = site.at(SERVERS[server], Leg::Back, Family::V4);
            let inside = SocketAddr::new(ip, INSIDE).to_string();
            if forward == "nat" {
                inside
            } else {
                ip.to_string()
            }
        });
        for proto in [Proto::Tcp, Proto::Udp] {
            let name = format!("{forward}-{}", proto.name());
            let backends = backend.clone();
            let mut rule = Rule::new(&name, vip(way), proto.name(), forward, backends);
            rule.more.push_str("timeouts = { drain = \"0\" }\n");
            rules.push(rule);
        }
    }
    rules
}

#[tokio::test(flavor = "multi_thread")]
async fn no_flow_gets_to_a_wrong_server() {
    let Some(site) = Site::new("no_flow_gets_to_a_wrong_server", Hook::Tc) else {
        return;
    };
    let mut servers = Servers::default();
    for (number, label) in (0..).zip(SERVERS) {
        let own = site.at(label, Leg::Back, Family::V4);
        servers.start(&site, label, number, (own, INSIDE).into());
        for (way, forward) in WAYS.into_iter().enumerate() {
            if forward != "nat" {
                servers.start(&site, label, number, vip(way));
            }
        }
    }
    let lb = site.start(&rules(&site, 0)).await;
    let mut kept: VecDeque<(usize, usize, u8, Talk)> = VecDeque::new();
    for step in 1..STEPS {
        lb.0.replace_config(&site.config(&rules(&site, step)))
            .unwrap();
        lb.until("the step is taken", async || {
            let status = lb.status().await;
            let services = plimsoll_testkit::list(&status["services"]).iter();
            let ready = services.filter(|s| {
                let forward = s["name"].as_str().unwrap().split('-').next().unwrap();
                let way = WAYS.iter().position(|other| *other == forward).unwrap();
                let backends = plimsoll_testkit::list(&s["backends"]).iter();
                let mut ready = backends.filter(|b| b["state"] == "ready");
                match server_of(step, way) {
                    Some(server) => {
                        let ip = site.at(SERVERS[server], Leg::Back, Family::V4).to_string();
                        ready
                            .next()
                            .is_some_and(|b| b["addr"].as_str().unwrap().starts_with(&ip))
                            && ready.next().is_none()
                    }
                    None => ready.next().is_none(),
                }
            });
            ready.count() == 2 * WAYS.len()
        })
        .await;
        for (since, way, number, talk) in &mut kept {
            let (now, _) = talk
                .exchange(step as u64, 1000)
                .await
                .unwrap_or_else(|error| {
                    panic!("step {step}: {} since {since}: {error}", WAYS[*way])
                });
            assert_eq!(now, *number, "step {step}: {} since {since}", WAYS[*way]);
        }
        for (way, forward) in WAYS.into_iter().enumerate() {
            let Some(server) = server_of(step, way) else {
                continue;
            };
            for proto in [Proto::Tcp, Proto::Udp] {
                let mut talk = Talk::open(&site, proto, vip(way)).await.unwrap();
                let (number, _) = talk.exchange(step as u64, 500).await.unwrap();
                assert_eq!(
                    usize::from(number),
                    server,
                    "step {step}: {forward} {proto:?}"
                );
                if proto == Proto::Tcp {
                    kept.push_back((step, way, number, talk));
                }
            }
        }
        while kept.front().is_some_and(|(since, ..)| since + KEPT < step) {
            kept.pop_front();
        }
    }
    site.close(lb);
}
