//! More clients than the daemon may open files for.

use std::time::{Duration, Instant};

use plimsoll_testkit::{Client, ClientPlan, Daemon, DaemonPlan, HttpBehaviour, Raw, Reuse};

use crate::config::{self, DAEMON};
use crate::lab::{BINARY, HTTP, Lab, Lb, SOON};

/// Files that the daemon may have open.
const LIMIT: usize = 128;

#[tokio::test(flavor = "multi_thread")]
async fn out_of_descriptors_new_clients_wait_and_others_go_on() {
    let test = "out_of_descriptors_new_clients_wait_and_others_go_on";
    let Some(lab) = Lab::new(test, &["servers"]) else {
        return;
    };
    let servers = [8001, 8002].map(|port| lab.http("servers", port));
    let all = servers.each_ref().map(|server| server.address());
    let web = config::web(lab.at("lb", HTTP), &all);
    let plan = lab.plan(&format!("{DAEMON}{}", web.text()));
    let mut args = vec![format!("--nofile={LIMIT}:{LIMIT}"), BINARY.to_owned()];
    args.extend(plan.args.clone());
    let plan = DaemonPlan {
        program: "prlimit".into(),
        args,
        ..plan
    };
    let lb = Lb(Daemon::start(plan).await.unwrap());
    lb.until("it is ready", async || lb.status().await["ready"] == true)
        .await;
    let client = Client::start(lab.requests("web.example"));
    assert!(client.more(200, SOON).await);

    // Three times as many as there is room for: the kernel keeps them waiting.
    let (place, address) = (lab.place("client"), lab.at("lb", HTTP));
    let mut idle = Vec::new();
    for _ in 0..3 * LIMIT {
        idle.push(Raw::connect_from(&place, address).await.unwrap());
    }
    let full = async || lb.descriptors() >= LIMIT - LIMIT / 8;
    lb.until("it has as many open as it may", full).await;
    let (cpu, time) = (lb.cpu(), Instant::now());
    assert!(client.more(1000, SOON).await);
    let (cpu, time) = (lb.cpu() - cpu, time.elapsed());
    eprintln!("full for {time:?}, {cpu:?} of processor time");
    // The requests cost something; to ask again and again without a pause would take both cores.
    assert!(
        cpu < time / 2 + Duration::from_millis(200),
        "{cpu:?} of {time:?}"
    );
    client.stop().await.assert_clean();
    lb.until("it has as many open as it may", full).await;
    let shown = lb.tell(&["status"]);
    assert!(shown.contains("ready"), "{shown}");
    let log = lb.0.log();
    assert!(log.contains("few file descriptors are left"), "{log}");
    assert!(log.lines().count() < 20, "{log}");

    // Those who waited are served as soon as there is room.
    let (mut last, others) = (idle.pop().unwrap(), idle.len());
    drop(idle);
    let answer = last.get("web.example", "/", SOON).await.unwrap();
    assert_eq!(answer.status, 200, "after {others} others");
    drop(last);

    // A crowd that wants something of backends, too.
    for server in &servers {
        server.behave(HttpBehaviour::slow(Duration::from_millis(100)));
    }
    let crowd = ClientPlan {
        tasks: 2 * LIMIT,
        reuse: Reuse::Never,
        ..lab.requests("web.example")
    };
    let report = Client::run(crowd, 1000).await;
    report.assert_clean();
    eprintln!("a crowd of {}: {report}", 2 * LIMIT);

    // It was nobody's fault.
    for server in &servers {
        server.behave(HttpBehaviour::default());
        let backend = lb.backend("web", server.address()).await;
        let good = backend["state"] == "ready" && backend["ejections"] == 0;
        assert!(good && backend["counters"]["failures"] == 0, "{backend}");
    }
    let report = Client::run(lab.requests("web.example"), 100).await;
    report.assert_clean();
    assert_eq!(report.by_backend.len(), 2, "{report}");
    lb.until_idle().await;
    lab.close(lb);
}
