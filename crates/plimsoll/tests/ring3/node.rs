//! Containers that are made nodes, by their names and by their labels.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Output, Stdio};

use plimsoll_testkit::{Raw, TempDir, finish};
use rustix::process::{Pid, Signal, kill_process};

use crate::dock::{Dock, SOON};
use crate::lb::{BINARY, text};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

#[tokio::test(flavor = "multi_thread")]
async fn a_container_serves_a_vip() {
    let Some(dock) = Dock::new("a_container_serves_a_vip") else {
        return;
    };
    dock.start("web", "", "");
    let at = dock.at("web");
    dock.listens(at).await;
    let state = TempDir::new().unwrap();
    let node = |args: &[&str]| -> Output {
        let mut command = dock.0.command(BINARY);
        command.arg("node").args(args);
        command.args(["--container", "web", "--docker", &dock.0.host()]);
        command.arg("--state").arg(state.path());
        finish(command, SOON).unwrap()
    };
    let vip = VIP.to_string();
    assert_eq!(node(&["--vip", &vip, "--check"]).status.code(), Some(1));
    let set_up = node(&["--vip", &vip, "--once"]);
    assert!(set_up.status.success(), "{}", text(&set_up.stderr));
    assert_eq!(node(&["--vip", &vip, "--check"]).status.code(), Some(0));
    // The engine's host stands for the director.
    let via = at.ip().to_string();
    let way = format!("{VIP}/32");
    dock.0
        .namespace()
        .ip(&["route", "add", &way, "via", &via])
        .unwrap();
    let served = (IpAddr::from(VIP), at.port()).into();
    let mut raw = Raw::connect_from(&dock.0.place(), served).await.unwrap();
    assert_eq!(raw.get("web.example", "/", SOON).await.unwrap().status, 200);
    let back = node(&["--undo"]);
    assert!(back.status.success(), "{}", text(&back.stderr));
    assert_eq!(node(&["--vip", &vip, "--check"]).status.code(), Some(1));
    // One that has ended is named.
    dock.docker("kill web");
    let ended = node(&["--vip", &vip]);
    assert_eq!(ended.status.code(), Some(1));
    let told = text(&ended.stderr);
    assert!(told.contains("container web: it does not run"), "{told}");
    dock.0.close().unwrap();
}

/// `plimsoll node --docker`, as the child of `nsenter`; ended with the test.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_nodes_by_their_labels() {
    let Some(dock) = Dock::new("containers_are_nodes_by_their_labels") else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let (state, told) = (folder.path().join("state"), folder.path().join("told"));
    let log = File::create(&told).unwrap();
    let mut command = dock.0.command(BINARY);
    command.args(["node", "--docker", &dock.0.host(), "--state"]);
    command.arg(&state).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let mut follower = Follower(command.spawn().unwrap());
    let says = |text: &str| {
        std::fs::read_to_string(&told)
            .unwrap()
            .matches(text)
            .count()
    };
    let recorded = || {
        let files = std::fs::read_dir(&state).into_iter().flatten();
        files
            .filter(|file| file.as_ref().unwrap().path().extension() == Some("json".as_ref()))
            .count()
    };
    let label = format!("--label plimsoll.node.vip={VIP}");
    dock.start("other", "", "");
    dock.start("typo", "--label plimsoll.node.vip=10.99.0.1:80", "");
    dock.start("web", &label, "");
    let served = format!("container web: serves {VIP}\n");
    let ends = "container web: serves nothing\n";
    dock.until("the container is a node", || says(&served) == 1)
        .await;
    let serves = async || {
        let at = dock.at("web");
        dock.listens(at).await;
        let (way, via) = (format!("{VIP}/32"), at.ip().to_string());
        let namespace = dock.0.namespace();
        namespace
            .ip(&["route", "replace", &way, "via", &via])
            .unwrap();
        let to = (IpAddr::from(VIP), at.port()).into();
        let mut raw = Raw::connect_from(&dock.0.place(), to).await.unwrap();
        assert_eq!(raw.get("web.example", "/", SOON).await.unwrap().status, 200);
    };
    serves().await;
    assert_eq!(recorded(), 1);
    dock.until("the wrong label is told", || {
        says("did you mean 10.99.0.1?") == 1
    })
    .await;
    // It ends, and is started again.
    dock.docker("kill web");
    dock.until("what was done is taken back", || {
        says(ends) == 1 && recorded() == 0
    })
    .await;
    dock.docker("start web");
    dock.until("it is a node again", || says(&served) == 2)
        .await;
    serves().await;
    // It stops, and the container, which goes on, is as it was.
    let nsenter = follower.0.id();
    let inside = std::fs::read_to_string(format!("/proc/{nsenter}/task/{nsenter}/children"));
    let id = inside.unwrap().trim().parse().ok().and_then(Pid::from_raw);
    kill_process(id.unwrap(), Signal::TERM).unwrap();
    let mut ended = None;
    dock.until("it ends", || {
        ended = follower.0.try_wait().unwrap();
        ended.is_some()
    })
    .await;
    assert!(ended.unwrap().success());
    assert_eq!((says(ends), recorded()), (2, 0));
    let mut check = dock.0.command(BINARY);
    check.args([
        "node",
        "--vip",
        &VIP.to_string(),
        "--check",
        "--container",
        "web",
    ]);
    check
        .args(["--docker", &dock.0.host(), "--state"])
        .arg(&state);
    assert_eq!(finish(check, SOON).unwrap().status.code(), Some(1));
    dock.0.close().unwrap();
}
