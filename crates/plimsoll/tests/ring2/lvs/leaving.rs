//! Backends that are to take nothing new, leave, or die.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;

use plimsoll_testkit::until;

use super::site::{Family, Hook, Leg, Rule, SERVERS, Site};
use super::talk::{Proto, Servers, Talk};
use crate::lab::{Lb, SOON};

/// Where backends listen that get their packets by NAT.
const INSIDE: u16 = 9000;
/// Where they can be seen to live.
const CHECKED: u16 = 7000;

const WAYS: [(&str, Family); 6] = [
    ("dr", Family::V4),
    ("dr", Family::V6),
    ("nat", Family::V4),
    ("nat", Family::V6),
    ("tunnel", Family::V4),
    ("tunnel", Family::V6),
];

/// One service for each way and protocol, and what serves them.
struct Stage {
    site: Site,
    more: &'static str,
}

#[derive(Clone, Copy)]
struct Service {
    way: usize,
    proto: Proto,
}

impl Service {
    fn all() -> impl Iterator<Item = Self> {
        (0..WAYS.len()).flat_map(|way| [Proto::Tcp, Proto::Udp].map(|proto| Self { way, proto }))
    }

    fn of(proto: Proto) -> impl Iterator<Item = Self> {
        Self::all().filter(move |service| service.proto == proto)
    }

    fn name(self) -> String {
        let (forward, family) = WAYS[self.way];
        format!("{forward}-{family:?}-{:?}", self.proto).to_lowercase()
    }

    fn vip(self) -> SocketAddr {
        (WAYS[self.way].1.vip(), 8000 + self.way as u16).into()
    }

    /// A server's address as a backend, which it has in the configuration.
    fn backend(self, site: &Site, label: &str) -> String {
        let (forward, family) = WAYS[self.way];
        let ip = site.at(label, Leg::Back, family);
        match forward {
            "nat" => SocketAddr::new(ip, INSIDE).to_string(),
            _ => ip.to_string(),
        }
    }
}

impl Stage {
    fn new(test: &str, more: &'static str) -> Option<Self> {
        let site = Site::new(test, Hook::Tc)?;
        Some(Self { site, more })
    }

    /// The configuration, with these servers for every service.
    fn rules(&self, labels: &[&str]) -> Vec<Rule> {
        let rule = |service: Service| {
            let (forward, _) = WAYS[service.way];
            let backends = labels
                .iter()
                .map(|label| service.backend(&self.site, label));
            let proto = service.proto.name();
            let mut rule = Rule::new(&service.name(), service.vip(), proto, forward, backends);
            rule.more.push_str(self.more);
            rule
        };
        Service::all().map(rule).collect()
    }

    /// The server of this number, at all places.
    fn serve(&self, number: u8) -> Servers {
        let label = SERVERS[usize::from(number)];
        let mut servers = Servers::default();
        for (way, (forward, family)) in WAYS.into_iter().enumerate() {
            if forward != "nat" {
                let at = Service {
                    way,
                    proto: Proto::Tcp,
                }
                .vip();
                servers.start(&self.site, label, number, at);
            }
            let own = self.site.at(label, Leg::Back, family);
            if way < 2 {
                servers.start(&self.site, label, number, (own, INSIDE).into());
                servers.start(&self.site, label, number, (own, CHECKED).into());
            }
        }
        servers
    }

    /// Connections to a service until each of the servers has one, in their order.
    async fn one_each(&self, service: Service) -> Vec<Talk> {
        let mut talks: [Option<Talk>; 3] = Default::default();
        while talks.iter().any(Option::is_none) {
            let mut talk = Talk::open(&self.site, service.proto, service.vip())
                .await
                .unwrap();
            let (number, _) = talk.exchange(7, 100).await.unwrap();
            talks[usize::from(number)] = Some(talk);
        }
        talks.into_iter().flatten().collect()
    }

    /// Whom some new connections to a service get.
    async fn news(&self, service: Service) -> BTreeSet<u8> {
        let mut had = BTreeSet::new();
        for seed in 0..6 {
            let mut talk = Talk::open(&self.site, service.proto, service.vip())
                .await
                .unwrap();
            had.insert(talk.exchange(seed, 500).await.unwrap().0);
        }
        had
    }

    /// Brings the director to these servers.
    async fn bring(&self, lb: &Lb, labels: &[&str]) {
        lb.0.replace_config(&self.site.config(&self.rules(labels)))
            .unwrap();
        lb.until("the servers are others", async || {
            let status = lb.status().await;
            let services = plimsoll_testkit::list(&status["services"]);
            services.iter().all(|s| {
                let backends = plimsoll_testkit::list(&s["backends"]).iter();
                backends.filter(|b| b["state"] != "draining").count() == labels.len()
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weight_0_keeps_what_is_there() {
    let Some(stage) = Stage::new("weight_0_keeps_what_is_there", "") else {
        return;
    };
    let _servers = [0, 1, 2].map(|number| stage.serve(number));
    let lb = stage.site.start(&stage.rules(&SERVERS)).await;
    for service in Service::all() {
        let mut talks = stage.one_each(service).await;
        let first = service.backend(&stage.site, SERVERS[0]);
        let name = service.name();
        lb.tell(&["weight", &name, &first, "0"]);
        lb.until("it takes nothing new", async || {
            stage.news(service).await == [1, 2].into()
        })
        .await;
        for (number, talk) in (0..).zip(&mut talks) {
            assert_eq!(talk.exchange(1, 1000).await.unwrap().0, number, "{name}");
        }
        lb.tell(&["weight", &name, &first, "auto"]);
        lb.until("it has its share again", async || {
            stage.news(service).await.len() == 3
        })
        .await;
    }
    stage.site.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_has_time_to_end() {
    let test = "who_leaves_has_time_to_end";
    let Some(stage) = Stage::new(test, "timeouts = { drain = \"5s\" }\n") else {
        return;
    };
    let _servers = [0, 1, 2].map(|number| stage.serve(number));
    let lb = stage.site.start(&stage.rules(&SERVERS)).await;
    let mut talks = Vec::new();
    for service in Service::all() {
        talks.push((service, stage.one_each(service).await));
    }
    stage.bring(&lb, &SERVERS[1..]).await;
    for (service, talks) in &mut talks {
        // Those of UDP move at once, those of TCP are where they were.
        let (number, _) = talks[0].exchange(1, 1000).await.unwrap();
        let name = service.name();
        assert_eq!(number == 0, service.proto == Proto::Tcp, "{name}: {number}");
    }
    for service in Service::all() {
        assert_eq!(
            stage.news(service).await,
            [1, 2].into(),
            "{}",
            service.name()
        );
    }
    for (service, talks) in &mut talks {
        if service.proto == Proto::Tcp {
            let ended = async {
                loop {
                    match talks[0].exchange(2, 100).await {
                        Ok((0, _)) => {
                            tokio::time::sleep(std::time::Duration::from_millis(50)).await
                        }
                        other => return other,
                    }
                }
            };
            let error = tokio::time::timeout(2 * SOON, ended)
                .await
                .unwrap()
                .unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::ConnectionReset,
                "{}",
                service.name()
            );
        }
        for (number, talk) in (0..).zip(talks).skip(1) {
            assert_eq!(
                talk.exchange(3, 1000).await.unwrap().0,
                number,
                "{}",
                service.name()
            );
        }
    }
    stage.site.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_dead_one() {
    let check = "check = { kind = \"tcp\", port = 7000, interval = \"200ms\", timeout = \"1s\", fall = 1, rise = 1 }\n";
    let Some(stage) = Stage::new("nobody_gets_a_dead_one", check) else {
        return;
    };
    let _servers = [0, 1, 2].map(|number| stage.serve(number));
    let lb = stage.site.start(&stage.rules(&SERVERS)).await;
    let states = async |wanted: [&str; 3]| {
        let status = lb.status().await;
        plimsoll_testkit::list(&status["services"]).iter().all(|s| {
            let backends = plimsoll_testkit::list(&s["backends"]).iter();
            backends.map(|b| b["state"].as_str().unwrap()).eq(wanted)
        })
    };
    lb.until("all live", async || states(["ready"; 3]).await)
        .await;
    let mut talks = Vec::new();
    for service in Service::of(Proto::Udp) {
        talks.push((service, stage.one_each(service).await));
    }
    // As when the power goes.
    stage.site.ip(SERVERS[0], &["link", "set", "eth1", "down"]);
    stage.site.ip(SERVERS[0], &["link", "set", "eth0", "down"]);
    until(
        2 * SOON,
        "it is known",
        async || states(["down", "ready", "ready"]).await,
        || lb.ask(&["status"]).out,
    )
    .await;
    for (service, talks) in &mut talks {
        for (number, talk) in (0..).zip(talks) {
            let (now, _) = talk.exchange(1, 1000).await.unwrap();
            assert!(
                now == number || number == 0,
                "{}: {number}, {now}",
                service.name()
            );
        }
    }
    for service in Service::all() {
        assert_eq!(
            stage.news(service).await,
            [1, 2].into(),
            "{}",
            service.name()
        );
    }
    stage.site.close(lb);
}
