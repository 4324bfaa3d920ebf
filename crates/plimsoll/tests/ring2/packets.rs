//! The packet plane through the binary: direct routing to servers that have the VIP, under load, while the
//! daemon is killed, started again, and told of other backends.

use std::net::SocketAddr;
use std::path::Path;

use plimsoll_testkit::{Client, ClientPlan, Daemon, DaemonPlan, HttpBackend, Reuse, TempDir, list};

use crate::config::DAEMON;
use crate::lab::{Lab, Lb, SOON};

pub(crate) const VIP: &str = "10.77.0.200";
const SERVERS: [&str; 3] = ["s1", "s2", "s3"];

pub(crate) fn vip() -> SocketAddr {
    format!("{VIP}:8080").parse().unwrap()
}

/// The director forwards and has the VIP; the servers have it too and keep quiet about it.
pub(crate) fn prepare(lab: &Lab) {
    let set = |label: &str, keys: &[(&str, u8)]| {
        let namespace = lab.net().namespace(label).unwrap();
        for (key, value) in keys {
            let path = format!("/proc/sys/net/ipv4/{key}");
            let value = value.to_string();
            namespace
                .run(move || std::fs::write(path, value).unwrap())
                .unwrap();
        }
    };
    let redirects = ("conf/all/send_redirects", 0);
    set(
        "lb",
        &[
            ("ip_forward", 1),
            redirects,
            ("conf/eth0/send_redirects", 0),
        ],
    );
    let lb = lab.net().namespace("lb").unwrap();
    lb.ip(&["address", "add", &format!("{VIP}/32"), "dev", "eth0"])
        .unwrap();
    for label in SERVERS {
        set(
            label,
            &[("conf/all/arp_ignore", 1), ("conf/all/arp_announce", 2)],
        );
        let server = lab.net().namespace(label).unwrap();
        server
            .ip(&["address", "add", &format!("{VIP}/32"), "dev", "lo"])
            .unwrap();
    }
}

pub(crate) fn config(lab: &Lab, servers: &[&str]) -> String {
    let backends = servers.iter().map(|label| {
        let ip = lab.at(label, 1).ip();
        format!("  {{ address = \"{ip}\", name = \"{label}\", forward = \"dr\" }},\n")
    });
    format!(
        "{DAEMON}[ebpf]\nflows = 10_000\n\n[[service]]\nname = \"web\"\nlisten = \"{VIP}:8080/tcp\"\n\
         plane = \"ebpf\"\nscheduler = \"rr\"\nbackends = [\n{}]\n",
        backends.collect::<String>()
    )
}

/// A daemon whose configuration is in a file that stays when it ends.
async fn start(lab: &Lab, file: &Path, servers: &[&str]) -> Lb {
    run(lab, file, &config(lab, servers)).await
}

/// The same with this configuration.
pub(crate) async fn run(lab: &Lab, file: &Path, config: &str) -> Lb {
    std::fs::write(file, config).unwrap();
    let args = [
        "run",
        "--config",
        &file.display().to_string(),
        "--admin",
        "{admin}",
    ];
    let plan = DaemonPlan {
        args: args.map(str::to_owned).into(),
        ..lab.plan("")
    };
    let lb = Lb(Daemon::start(plan).await.unwrap());
    lb.until_ready().await;
    lb
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_go_on_without_the_daemon() {
    let Some(lab) = Lab::new("packets_go_on_without_the_daemon", &SERVERS) else {
        return;
    };
    prepare(&lab);
    let servers: Vec<HttpBackend> = (SERVERS.iter())
        .map(|label| HttpBackend::start_at(label, &lab.place(label), vip()).unwrap())
        .collect();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("packets.toml");
    let mut lb = start(&lab, &file, &SERVERS).await;
    let status = lb.status().await;
    assert_eq!(status["services"][0]["plane"], "ebpf", "{status:#}");
    let plan = ClientPlan {
        reuse: Reuse::Never,
        ..ClientPlan {
            place: lab.place("client"),
            tasks: 4,
            pause: std::time::Duration::from_millis(2),
            ..ClientPlan::http(vip(), "web.example")
        }
    };
    let fresh = Client::start(plan.clone());
    let kept = Client::start(ClientPlan {
        reuse: Reuse::Keep,
        ..plan
    });
    assert!(fresh.more(60, SOON).await && kept.more(60, SOON).await);
    for server in &servers {
        assert!(server.seen().len() >= 10, "every server has its share");
    }
    let told = lb.tell(&["explain", "10.77.0.1:40000", &format!("{VIP}:8080")]);
    assert!(told.contains("web"), "{told}");
    let flows = lb.tell(&["flows"]);
    assert!(flows.contains("established"), "{flows}");
    let counted = lb.status().await;
    let backends = list(&counted["services"][0]["backends"]);
    let connections = |b: &serde_json::Value| b["counters"]["connections"].as_u64().unwrap();
    assert!(backends.iter().all(|b| connections(b) > 0), "{counted:#}");
    let packets = |status: &serde_json::Value| {
        let planes = list(&status["planes"]);
        planes.iter().find(|plane| plane["name"] == "ebpf").unwrap()["packets"].clone()
    };
    assert!(
        packets(&counted)["flows"].as_u64() >= Some(4),
        "{counted:#}"
    );
    assert!(packets(&counted)["room_v4"].as_u64() >= Some(10_000));
    // A port that nobody listens on.
    let nobody = SocketAddr::new(vip().ip(), 9);
    let strayed = ClientPlan {
        reuse: Reuse::Never,
        place: lab.place("client"),
        ..ClientPlan::tcp(nobody)
    };
    let _ = Client::run(strayed, 1).await;
    lb.until("it is counted", async || {
        let noted = packets(&lb.status().await)["noted"].clone();
        let all = list(&noted);
        all.iter()
            .any(|pair| pair[0] == "no-service" && pair[1].as_u64() >= Some(1))
    })
    .await;
    let metrics = lb.0.admin_get("/metrics").await.unwrap().text();
    let counted = "plimsoll_packets_noted_total{plane=\"ebpf\",reason=\"no-service\"} ";
    assert!(metrics.contains(counted), "{metrics}");
    // Killed: packets go on, also those of connections that are new.
    lb.0.kill().unwrap();
    lb.0.wait(SOON).await.unwrap();
    assert!(fresh.more(60, SOON).await && kept.more(60, SOON).await);
    // The next one takes over, with other backends.
    drop(lb);
    let lb = start(&lab, &file, &SERVERS[..2]).await;
    assert!(fresh.more(60, SOON).await && kept.more(60, SOON).await);
    let status = lb.status().await;
    assert_eq!(list(&status["services"][0]["backends"]).len(), 2);
    kept.stop().await.assert_clean();
    let gone = servers[2].seen().len();
    assert!(fresh.more(60, SOON).await);
    assert_eq!(
        servers[2].seen().len(),
        gone,
        "who has left gets nothing new"
    );
    fresh.stop().await.assert_clean();
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_packets_cannot_have_is_put_aside_with_a_way_out() {
    let Some(lab) = Lab::new("what_packets_cannot_have", &["s1"]) else {
        return;
    };
    let ip = lab.at("s1", 1).ip();
    let service = format!(
        "[[service]]\nname = \"sticky\"\nplane = \"ebpf\"\nlisten = \"{VIP}:8081/tcp\"\npersistence = {{ timeout = \"1h\" }}\n\
         backends = [{{ address = \"{ip}\", forward = \"dr\" }}]\n"
    );
    let lb = lab
        .start(&format!("{}\n{service}", config(&lab, &["s1"])))
        .await;
    let status = lb.tell(&["status"]);
    assert!(status.contains("persistence by source"), "{status}");
    assert!(status.contains("mh"), "{status}");
    lab.close(lb);
}
