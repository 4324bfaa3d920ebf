//! Directors.

use std::net::SocketAddr;

use plimsoll_testkit::{HttpBackend, TempDir};

use super::ward::{Ward, set, shell};
use crate::config::DAEMON;
use crate::lab::{Lab, Lb};

const VIP: &str = "10.77.0.200";
const OBJECT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../plane-ebpf/tests/bpf/small.o"
);

pub(super) fn service(backend: &str, forward: &str) -> String {
    format!(
        "{DAEMON}[ebpf]\nflows = 10_000\n\n[[service]]\nname = \"web\"\nlisten = \"{VIP}:8080/tcp\"\n\
         plane = \"ebpf\"\nscheduler = \"rr\"\nbackends = [{{ address = \"{backend}\", forward = \"{forward}\" }}]\n"
    )
}

pub(super) fn vip() -> SocketAddr {
    format!("{VIP}:8080").parse().unwrap()
}

/// The director and one server, both as they have to be.
fn prepare(lab: &Lab) {
    let lb = lab.net().namespace("lb").unwrap();
    for (name, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/eth0/send_redirects", "0"),
    ] {
        set(lb, name, value);
    }
    lb.ip(&["address", "add", &format!("{VIP}/32"), "dev", "eth0"])
        .unwrap();
    let node = lab.net().namespace("s1").unwrap();
    set(node, "net/ipv4/conf/all/arp_ignore", "1");
    set(node, "net/ipv4/conf/all/arp_announce", "2");
    node.ip(&["address", "add", &format!("{VIP}/32"), "dev", "lo"])
        .unwrap();
    // Who is gone is found out soon.
    set(lb, "net/ipv4/neigh/eth0/retrans_time_ms", "100");
    let client = lab.net().namespace("client").unwrap();
    set(client, "net/ipv4/neigh/eth0/retrans_time_ms", "100");
}

fn ward<'a>(lab: &'a Lab, lb: &Lb, flows: bool) -> Ward<'a> {
    let client = lab.net().namespace("client").unwrap();
    Ward {
        patient: lab.net().namespace("lb").unwrap(),
        client: flows.then_some((client, vip())),
        args: vec!["--admin".into(), lb.0.admin_path().display().to_string()],
        state: TempDir::new().unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_director_is_named_and_mended() {
    let Some(lab) = Lab::new("every_fault_of_a_director", &["s1"]) else {
        return;
    };
    prepare(&lab);
    let backend = lab.at("s1", 1).ip().to_string();
    let _server = HttpBackend::start_at("s1", &lab.place("s1"), vip()).unwrap();
    let lb = lab.start(&service(&backend, "dr")).await;
    let ward = ward(&lab, &lb, true);
    ward.is_well();
    let client = lab.net().namespace("client").unwrap();
    let server = lab.net().namespace("s1").unwrap();

    ward.breaks("sysctl -w net.ipv4.ip_forward=0", "forwarding", true);
    // It sets all that follows from it, too.
    for place in ["all", "eth0"] {
        set(
            ward.patient,
            &format!("net/ipv4/conf/{place}/send_redirects"),
            "0",
        );
    }
    ward.breaks(
        "sysctl -w net.ipv4.conf.eth0.forwarding=0",
        "forwarding",
        true,
    );
    ward.breaks(
        "sysctl -w net.ipv4.conf.eth0.send_redirects=1",
        "redirects",
        false,
    );
    client.ip(&["neigh", "flush", "dev", "eth0"]).unwrap();
    shell(ward.patient, &format!("ip address del {VIP}/32 dev eth0"));
    client.ip(&["neigh", "flush", "dev", "eth0"]).unwrap();
    ward.is_broken("no VIP", "vip", true);
    ward.breaks(
        &format!("ip route add unreachable {backend}"),
        "route",
        true,
    );
    ward.breaks(
        &format!("ip link set dev eth0 xdp object {OBJECT} program guest_xdp"),
        "other-programs",
        false,
    );
    ward.breaks(
        &format!("ip link set dev eth0 xdpgeneric object {OBJECT} program guest_xdp"),
        "other-programs",
        false,
    );

    server.ip(&["link", "set", "eth0", "down"]).unwrap();
    let ask = format!("ip neigh flush dev eth0; ip neigh replace {backend} dev eth0 managed");
    shell(ward.patient, &ask);
    let named = plimsoll_testkit::wait_until(4 * crate::lab::SOON, || {
        let wrong = ward.wrong();
        !wrong.is_empty() && wrong.iter().all(|finding| finding["check"] == "neighbour")
    });
    assert!(named, "{:#?}", ward.wrong());
    server.ip(&["link", "set", "eth0", "up"]).unwrap();
    let remedy = format!("ip neigh replace {backend} dev eth0 managed");
    assert!(ward.ask(&[]).out.contains(&remedy) || ward.wrong().is_empty());
    shell(ward.patient, &remedy);
    ward.is_well();

    // Both say that clients on the director itself are not served.
    assert!(ward.ask(&[]).out.contains("local-clients"));
    let told = lb.tell(&["explain", "10.77.0.2:40000", &format!("{VIP}:8080")]);
    assert!(told.contains("is an address of this host"), "{told}");
    assert!(told.contains("goes nowhere"), "{told}");
    let told = lb.tell(&["explain", "10.77.0.1:40000", &format!("{VIP}:8080")]);
    assert!(told.contains("by direct routing: next hop"), "{told}");
    assert!(told.contains("by eth0, "), "{told}");
    drop(ward);
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_needs_room() {
    let Some(lab) = Lab::new("a_tunnel_needs_room", &["s1"]) else {
        return;
    };
    prepare(&lab);
    let backend = lab.at("s1", 1).ip().to_string();
    let lb = lab.start(&service(&backend, "tunnel")).await;
    let ward = ward(&lab, &lb, false);
    ward.is_broken("MTU 1500", "mtu", false);
    let mtu = ward.patient.ip(&["link", "show", "eth0"]).unwrap();
    assert!(mtu.contains("mtu 1520"), "{mtu}");
    drop(ward);
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_the_kernel_says_what_it_goes_by() {
    let Some(lab) = Lab::new("without_a_daemon", &["s1"]) else {
        return;
    };
    prepare(&lab);
    let backend = lab.at("s1", 1).ip().to_string();
    let _server = HttpBackend::start_at("s1", &lab.place("s1"), vip()).unwrap();
    let mut lb = lab.start(&service(&backend, "dr")).await;
    let ward = ward(&lab, &lb, true);
    ward.is_well();
    lb.0.kill().unwrap();
    lb.0.wait(crate::lab::SOON).await.unwrap();
    ward.is_well();
    let shown = ward.ask(&[]).out;
    assert!(
        shown.contains("its programs in the kernel go on"),
        "{shown}"
    );
    ward.breaks(
        "sysctl -w net.ipv4.conf.eth0.forwarding=0",
        "forwarding",
        true,
    );
    let mut command = ward.patient.command(crate::lab::BINARY);
    command.args(["explain", "10.77.0.1:40000", &format!("{VIP}:8080")]);
    command.arg("--admin").arg(lb.0.admin_path());
    let told = crate::lab::ended(command);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(told.out.contains("no daemon runs"), "{}", told.out);
    assert!(told.out.contains(&backend), "{}", told.out);
    drop(ward);
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_looked_at_before_a_daemon_runs() {
    let Some(lab) = Lab::new("a_file_is_looked_at", &["s1"]) else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("doctor.toml");
    std::fs::write(&file, service("10.99.0.1", "dr")).unwrap();
    let nobody = folder.path().join("nobody.sock").display().to_string();
    let ward = Ward {
        patient: lab.net().namespace("lb").unwrap(),
        client: None,
        args: vec![
            "--admin".into(),
            nobody,
            "--config".into(),
            file.display().to_string(),
        ],
        state: TempDir::new().unwrap(),
    };
    let wrong = ward.wrong();
    let checks: Vec<&str> = (wrong.iter())
        .map(|f| f["check"].as_str().unwrap())
        .collect();
    assert_eq!(checks, ["vip", "forwarding", "route"], "{wrong:#?}");
    let router = format!("ip route add 10.99.0.1 via {}", lab.at("s1", 1).ip());
    assert!(
        ward.ask(&[])
            .out
            .contains("ip route add 10.99.0.1 via ROUTER")
    );
    // Behind a router there is no link that direct routing could use.
    shell(ward.patient, &router);
    let wrong = ward.wrong();
    let route = wrong.iter().find(|finding| finding["check"] == "route");
    let what = route.map_or("", |finding| finding["what"].as_str().unwrap());
    assert!(what.contains("is behind router"), "{wrong:#?}");
    drop(ward);
    lab.end();
}
