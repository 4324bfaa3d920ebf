//! Containers whose labels have packets forwarded to them in the kernel, and a client beyond the
//! engine's host.

use std::net::SocketAddr;
use std::process::Output;

use plimsoll_testkit::{Client, ClientPlan, Namespace, Reuse, TempDir, finish, list, wait_until};

use crate::dock::{Dock, SOON};
use crate::lb::{BINARY, Lb, text};

const VIP: &str = "203.0.113.9";
/// Where the instances listen, so where packets that keep their port have to go.
const PORT: u16 = 8080;

/// A client on a cable to the engine's host, which has the VIP.
struct Outside(Namespace);

impl Outside {
    fn new(dock: &Dock) -> Self {
        let client = Namespace::new("outside").unwrap();
        let host = dock.0.namespace();
        let run = |namespace: &Namespace, line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            namespace.ip(&words).unwrap();
        };
        let cable = "link add ext0 type veth peer name eth0 netns";
        run(host, &format!("{cable} {}", client.name()));
        run(host, "address add 198.51.100.1/24 dev ext0");
        run(host, &format!("address add {VIP}/32 dev ext0"));
        run(host, "link set ext0 up");
        run(&client, "address add 198.51.100.7/24 dev eth0");
        run(&client, "link set eth0 up");
        run(&client, "route add default via 198.51.100.1");
        Self(client)
    }

    /// Requests by this client, each on a connection of its own; who answered how many.
    async fn ask(&self, port: u16, requests: u64) -> plimsoll_testkit::Report {
        let to: SocketAddr = format!("{VIP}:{port}").parse().unwrap();
        let plan = ClientPlan {
            place: self.0.place(),
            tasks: 2,
            reuse: Reuse::Never,
            want: vec![100, 100_000],
            post_every: 3,
            post_bytes: 50_000,
            ..ClientPlan::http(to, "web.example")
        };
        Client::run(plan, requests).await
    }
}

/// Waits until a service has so many backends that serve, by the packet plane.
async fn until_carried(lb: &Lb, service: &str, count: usize) {
    lb.until("the packet plane carries it", async || {
        let status = lb.service(service).await;
        let ready = list(&status["backends"]).iter();
        status["plane"] == "ebpf" && ready.filter(|b| b["state"] == "ready").count() == count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nat_leads_to_containers_by_their_labels() {
    let Some(dock) = Dock::new("nat_leads_to_containers_by_their_labels") else {
        return;
    };
    let outside = Outside::new(&dock);
    let labels = format!(
        "--label plimsoll.service=web --label plimsoll.listen={VIP}:443/tcp \
         --label plimsoll.forward=nat --label plimsoll.scheduler=rr --label plimsoll.port={PORT}"
    );
    for name in ["one", "two"] {
        dock.start(name, &labels, "");
        dock.listens(dock.at(name)).await;
    }
    let lb = dock.run().await;
    until_carried(&lb, "web", 2).await;
    let report = outside.ask(443, 40).await;
    report.assert_clean();
    assert_eq!(
        report.by_backend.values().copied().collect::<Vec<_>>(),
        [20, 20]
    );
    let status = lb.service("web").await;
    for backend in list(&status["backends"]) {
        let count = |key: &str| backend["counters"][key].as_u64().unwrap();
        assert_eq!(count("connections"), 20, "{status:#}");
        assert!(
            count("packets_out") > 20 * 3,
            "replies come by the director"
        );
    }
    // One more, and one less: nobody notices.
    dock.start("three", &labels, "");
    until_carried(&lb, "web", 3).await;
    let plan = outside.ask(443, 30);
    plan.await.assert_clean();
    dock.docker("stop one");
    until_carried(&lb, "web", 2).await;
    let report = outside.ask(443, 30).await;
    report.assert_clean();
    assert!(!report.by_backend.contains_key("one"), "{report:?}");
    dock.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_routing_leads_to_containers_that_are_nodes() {
    let Some(dock) = Dock::new("direct_routing_leads_to_containers_that_are_nodes") else {
        return;
    };
    let outside = Outside::new(&dock);
    let state = TempDir::new().unwrap();
    let labels = format!(
        "--label plimsoll.service=web --label plimsoll.listen={VIP}:{PORT}/tcp \
         --label plimsoll.forward=dr --label plimsoll.scheduler=rr"
    );
    for name in ["one", "two"] {
        dock.start(name, &labels, "");
        dock.listens(dock.at(name)).await;
        let mut command = dock.0.command(BINARY);
        command.args(["node", "--once", "--vip", VIP, "--container", name]);
        command
            .args(["--docker", &dock.0.host()])
            .arg("--state")
            .arg(state.path());
        let set_up: Output = finish(command, SOON).unwrap();
        assert!(set_up.status.success(), "{}", text(&set_up.stderr));
    }
    // Replies come from the VIP, which is the host's own address, and pass it as a router.
    let written = dock
        .0
        .namespace()
        .run(|| std::fs::write("/proc/sys/net/ipv4/conf/docker0/accept_local", "1"));
    written.unwrap().unwrap();
    let lb = dock.run().await;
    until_carried(&lb, "web", 2).await;
    let report = outside.ask(PORT, 40).await;
    report.assert_clean();
    assert_eq!(
        report.by_backend.values().copied().collect::<Vec<_>>(),
        [20, 20]
    );
    let status = lb.service("web").await;
    for backend in list(&status["backends"]) {
        let count = |key: &str| backend["counters"][key].as_u64().unwrap();
        assert_eq!(
            (count("connections"), count("packets_out")),
            (20, 0),
            "{status:#}"
        );
    }
    assert!(wait_until(SOON, || text(&lb.ask(&["flows"]).stdout)
        .contains("198.51.100.7")));
    dock.close(lb);
}
