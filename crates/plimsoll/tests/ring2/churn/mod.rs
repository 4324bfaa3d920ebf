//! Load goes on while backends join, leave, drain and change weight, and routes change: not one
//! request is lost, and every change comes into force.

mod world;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use plimsoll_testkit::{Client, ClientPlan, Report, Reuse, TunnelPlan, TunnelReport, Tunnels};

use crate::lab::{HTTP, Lab, SOON, TCP};
use world::{Change, World};

/// Changes of backends, and of routes.
const CHANGES: usize = 100;
const ROUTES: usize = 20;

/// All that goes on meanwhile.
struct Load {
    clients: Vec<Client>,
    tunnels: Vec<Tunnels>,
}

impl Load {
    async fn start(lab: &Lab) -> Self {
        let kept = ClientPlan {
            want: vec![200, 5_000, 70_000],
            post_every: 3,
            ..lab.requests("web.example")
        };
        let fresh = ClientPlan {
            reuse: Reuse::Never,
            tasks: 2,
            post_every: 4,
            post_bytes: 30_000,
            chunked: true,
            ..lab.requests("web.example")
        };
        let routed = ClientPlan {
            reuse: Reuse::Times(20),
            tasks: 2,
            ..lab.requests("r.example")
        };
        let colour = |host: &str| ClientPlan {
            tasks: 1,
            ..lab.requests(host)
        };
        let tcp_fresh = ClientPlan {
            reuse: Reuse::Never,
            tasks: 2,
            want: vec![100, 100_000],
            ..lab.exchanges()
        };
        let tcp_kept = ClientPlan {
            tasks: 2,
            ..lab.exchanges()
        };
        let tcp_tunnels = TunnelPlan {
            place: lab.place("client"),
            ..TunnelPlan::tcp(lab.at("lb", TCP), 2)
        };
        let mut tunnels = Vec::new();
        for plan in [
            lab.tunnels("web.example", 4),
            lab.tunnels("ws.example", 2),
            tcp_tunnels,
        ] {
            tunnels.push(Tunnels::open(plan).await.unwrap());
        }
        let (blue, green) = (colour("blue.example"), colour("green.example"));
        let clients = [kept, fresh, routed, blue, green, tcp_fresh, tcp_kept];
        Self {
            clients: clients.map(Client::start).into(),
            tunnels,
        }
    }

    /// Ends it all: what the clients and the tunnels have seen.
    async fn stop(self) -> (Report, TunnelReport) {
        let (mut all, mut through) = (Report::default(), TunnelReport::default());
        for client in self.clients {
            all = all.merge(client.stop().await);
        }
        for tunnels in self.tunnels {
            through.tunnels.extend(tunnels.stop().await.tunnels);
        }
        (all, through)
    }

    /// Fails the test as soon as something is lost, so that what happened is still in the log.
    fn assert_whole(&self, after: &str) {
        let failed: u64 = self.clients.iter().map(Client::failed).sum();
        let broken: u64 = self.tunnels.iter().map(Tunnels::broken).sum();
        assert_eq!((failed, broken), (0, 0), "lost after: {after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_change() {
    let Some(lab) = Lab::new("nothing_is_lost_on_change", &["one", "two"]) else {
        return;
    };
    let mut world = World::new(&lab).await;
    let load = Load::start(&lab).await;
    let started = Instant::now();
    let mut seen = BTreeSet::new();
    for turn in 0..CHANGES {
        let change = world.change().await;
        load.assert_whole(&format!("change {turn}, {change:?}"));
        seen.insert(change);
        if turn % (CHANGES / ROUTES) == 0 {
            let change = world.change_routes().await;
            load.assert_whole(&format!("routes, {change}"));
        }
        // Something happens between any two changes.
        assert!(load.clients[0].more(5, SOON).await, "no answers any more");
    }
    let time = started.elapsed();
    assert_eq!((world.changes, world.route_changes), (CHANGES, ROUTES));
    assert_eq!(seen.len(), Change::ALL.len(), "only these: {seen:?}");

    let (report, tunnels) = load.stop().await;
    report.assert_clean();
    tunnels.assert_clean();
    assert_eq!(tunnels.tunnels.len(), 8);
    for id in world.ever_members() {
        assert!(report.of(&id) > 0, "{id} got nothing: {report}");
    }
    // 0.3 s of load for each change at least would be nothing to speak of.
    assert!(report.answered > 5_000, "{report}");
    eprintln!(
        "{CHANGES} changes of backends, {ROUTES} of routes in {time:?}: {report}; {} messages \
         through tunnels",
        tunnels.tunnels.iter().map(|t| t.exchanged).sum::<u64>()
    );
    world.lb.until_idle().await;
    let log = world.lb.0.log();
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
    let World { lb, .. } = world;
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_and_its_listen_come_and_go() {
    let Some(lab) = Lab::new("a_service_and_its_listen_come_and_go", &["one"]) else {
        return;
    };
    let (stays, comes) = (lab.http("one", 8001), lab.http("one", 8002));
    let base = crate::config::web(lab.at("lb", HTTP), &[stays.address()]).text();
    let lb = lab.start(&base).await;
    let client = Client::start(lab.requests("web.example"));
    let address = lab.at("lb", 8081);
    let other = crate::config::web(address, &[comes.address()]);
    let other = other.text().replace("\"web\"", "\"other\"");
    for _ in 0..5 {
        lb.0.replace_config(&format!("{base}{other}")).unwrap();
        lb.0.hup().unwrap();
        lb.until("the new listen is served", async || {
            lab.place("client").connect(address).await.is_ok()
        })
        .await;
        let plan = ClientPlan {
            target: address,
            ..lab.requests("other.example")
        };
        // Its clients hold their connections while the listen goes away: what was begun is finished.
        let tunnels = TunnelPlan {
            target: address,
            ..lab.tunnels("other.example", 2)
        };
        let tunnels = Tunnels::open(tunnels).await.unwrap();
        Client::run(plan, 20).await.assert_clean();
        lb.0.replace_config(&base).unwrap();
        lb.0.hup().unwrap();
        lb.until("the listen is closed", async || {
            lab.place("client").connect(address).await.is_err()
        })
        .await;
        let before = tunnels.exchanged();
        assert!(tunnels.more(before + 4, SOON).await);
        tunnels.stop().await.assert_clean();
    }
    assert!(client.more(100, Duration::from_secs(5)).await);
    client.stop().await.assert_clean();
    lb.until_idle().await;
    lab.close(lb);
}
