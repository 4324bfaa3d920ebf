//! Namespaces: real traffic between them, and nothing left afterwards. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::fs;
use std::process::Command;
use std::time::Duration;

use plimsoll_testkit::{
    Client, ClientPlan, HttpBackend, Namespace, Net, TunnelPlan, Tunnels, root_or_skip, wait_until,
};

fn links() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn traffic_flows_between_namespaces() {
    if !root_or_skip("traffic_flows_between_namespaces") {
        return;
    }
    let before = links();
    let net = Net::new(&["client", "server"]).unwrap();
    let address = net.address("server", 8080).unwrap();
    assert_eq!(address.to_string(), "10.77.0.2:8080");
    let backend = HttpBackend::start_at("b1", &net.place("server").unwrap(), address).unwrap();
    let client = ClientPlan {
        place: net.place("client").unwrap(),
        ..ClientPlan::http(address, "a")
    };
    let report = Client::run(client.clone(), 200).await;
    report.assert_clean();
    assert_eq!(report.of("b1"), 200);
    let peers: Vec<String> = backend
        .seen()
        .iter()
        .map(|seen| seen.peer.ip().to_string())
        .collect();
    assert!(peers.iter().all(|peer| peer == "10.77.0.1"), "{peers:?}");
    let tunnels = Tunnels::open(TunnelPlan {
        place: net.place("client").unwrap(),
        ..TunnelPlan::http(address, "a", 2)
    });
    let tunnels = tunnels.await.unwrap();
    assert!(tunnels.more(4, Duration::from_secs(10)).await);
    tunnels.stop().await.assert_clean();

    // What is refused and opened again stays in its namespace.
    backend.refuse().await;
    backend.listen_again().unwrap();
    Client::run(client, 10).await.assert_clean();
    assert!(net.place("nobody").is_err());

    drop(backend);
    net.close().unwrap();
    assert_eq!(links(), before);
}

#[test]
fn work_and_processes_run_inside() {
    if !root_or_skip("work_and_processes_run_inside") {
        return;
    }
    let outside = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let namespace = Namespace::new("one").unwrap();
    let inside = namespace
        .run(|| fs::read_link("/proc/thread-self/ns/net").unwrap())
        .unwrap();
    assert_ne!(inside, outside);
    let output = namespace
        .command("readlink")
        .arg("/proc/self/ns/net")
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim(),
        inside.to_str().unwrap()
    );
    assert!(
        namespace
            .ip(&["link", "show", "lo"])
            .unwrap()
            .contains("UP")
    );
    assert!(
        namespace
            .ip(&["link", "show", "nothing"])
            .unwrap_err()
            .to_string()
            .contains("nothing")
    );
    assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), outside);
}

#[test]
fn a_panic_leaves_nothing() {
    if !root_or_skip("a_panic_leaves_nothing") {
        return;
    }
    let (sender, name) = std::sync::mpsc::channel();
    let failed = std::thread::spawn(move || {
        let net = Net::new(&["a"]).unwrap();
        sender
            .send(net.namespace("a").unwrap().name().to_owned())
            .unwrap();
        panic!("as a failing test does");
    });
    assert!(failed.join().is_err());
    let name = name.recv().unwrap();
    assert!(!fs::exists(format!("/run/netns/{name}")).unwrap());
}

#[test]
fn what_killed_tests_left_is_swept_away() {
    if !root_or_skip("what_killed_tests_left_is_swept_away") {
        return;
    }
    // The id of a process that is no more.
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let left = format!("plimsoll-{}-left-1", child.id());
    // The sweep of a test beside this one may come in between.
    let add = || {
        Command::new("ip")
            .args(["netns", "add", &left])
            .status()
            .unwrap()
            .success()
    };
    assert!(wait_until(Duration::from_secs(10), add));
    let _namespace = Namespace::new("two").unwrap();
    assert!(!fs::exists(format!("/run/netns/{left}")).unwrap());
}
