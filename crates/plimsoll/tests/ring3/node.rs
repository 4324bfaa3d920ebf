//! A container that is made a node, by its name.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Output;

use plimsoll_testkit::{Raw, TempDir, finish};

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
