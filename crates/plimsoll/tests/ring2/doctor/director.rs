//! Directors.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use plimsoll_testkit::{HttpBackend, TempDir};

use super::ward::{Ward, reaches, set, shell};
use crate::config::DAEMON;
use crate::lab::{Lab, Lb};

const VIP: &str = "10.77.0.200";
/// What hangs is waited for so long.
const HANGS: Duration = Duration::from_secs(3);
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
    let mut named = Vec::new();
    let alone = plimsoll_testkit::wait_until(4 * crate::lab::SOON, || {
        named = ward.wrong();
        !named.is_empty() && named.iter().all(|finding| finding["check"] == "neighbour")
    });
    assert!(alone, "{named:#?}");
    server.ip(&["link", "set", "eth0", "up"]).unwrap();
    let remedy = format!("ip neigh replace {backend} dev eth0 managed");
    let hints = |found: &[serde_json::Value]| -> Vec<String> {
        let remedies = found.iter().flat_map(|f| f["remedy"].as_array().unwrap());
        remedies.map(|r| r.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(hints(&named), [remedy.as_str()]);
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
    let server = HttpBackend::start_at("s1", &lab.place("s1"), vip()).unwrap();
    let node = lab.net().namespace("s1").unwrap();
    let state = TempDir::new().unwrap();
    // A node as `plimsoll node` makes it; the address is there already.
    shell(node, &format!("ip address del {VIP}/32 dev lo"));
    shell(node, &on_node(&state, &["--once", "--vip", VIP]));
    let client = lab.net().namespace("client").unwrap();
    // A firewall that takes "too big" away.
    shell(client, "iptables -A INPUT -p icmp -j DROP");
    let lb = lab.start(&service(&backend, "tunnel")).await;
    let ward = ward(&lab, &lb, true);
    let wrong = ward.wrong();
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    assert_eq!(wrong[0]["check"], "mtu");
    let reached = plimsoll_testkit::wait_until(2 * crate::lab::SOON, || reaches(client, vip()));
    assert!(reached, "small packets do not come through");
    assert_eq!(upload(client), None);
    let remedy = wrong[0]["remedy"][0].as_str().unwrap();
    let words = remedy.strip_prefix("plimsoll node ").unwrap();
    let (words, place) = words.split_once("    # on ").unwrap();
    assert_eq!(place, backend);
    let words: Vec<&str> = words.split(' ').collect();
    assert_eq!(words, ["--once", "--vip", VIP, "--mss", "1440"]);
    shell(node, &on_node(&state, &words));
    assert_eq!(upload(client), Some(200));
    drop((ward, server));
    lab.close(lb);
}

/// A line of a shell that makes a node.
fn on_node(state: &TempDir, words: &[&str]) -> String {
    let folder = state.path().display();
    format!(
        "{} node --interface eth0 --state {folder} {}",
        crate::lab::BINARY,
        words.join(" ")
    )
}

/// The status of a request with a body of many full packets; none if it hangs.
fn upload(client: &plimsoll_testkit::Namespace) -> Option<u16> {
    let asked = client.run(|| {
        let mut stream = TcpStream::connect_timeout(&vip(), HANGS).ok()?;
        stream.set_read_timeout(Some(HANGS)).unwrap();
        let body = vec![b'x'; 100_000];
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(&body).ok()?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).ok()?;
        std::str::from_utf8(&answer[9..]).unwrap().parse().ok()
    });
    asked.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_on_lo_makes_no_node() {
    let Some(lab) = Lab::new("an_address_on_lo_makes_no_node", &["s1"]) else {
        return;
    };
    let lb = lab
        .start(&format!(
            "{DAEMON}[[service]]\nname = \"web\"\nlisten = \"{VIP}:8080/tcp\"\n\
             vip = {{ address = \"{VIP}/32\", interface = \"lo\" }}\nbackends = [\"{}\"]\n",
            lab.at("s1", 8080)
        ))
        .await;
    let ward = ward(&lab, &lb, false);
    ward.is_well();
    let services = ward.ask(&["--all"]).out;
    assert!(
        services.contains("the packet plane has no service"),
        "{services}"
    );
    // A router's own address, say: whether it is a VIP of a node nobody knows.
    shell(ward.patient, "ip address add 10.77.0.210/32 dev lo");
    let wrong = ward.wrong();
    let checks: Vec<&str> = (wrong.iter())
        .map(|f| f["check"].as_str().unwrap())
        .collect();
    assert!(checks.contains(&"arp-ignore"), "{wrong:#?}");
    assert!(wrong.iter().all(|f| f["level"] == "warning"), "{wrong:#?}");
    assert_eq!(ward.ask(&[]).code, Some(0));
    assert_eq!(ward.ask(&["--node"]).code, Some(1));
    drop(ward);
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_at_is_said() {
    let Some(lab) = Lab::new("what_cannot_be_looked_at_is_said", &[]) else {
        return;
    };
    let state = TempDir::new().unwrap();
    let mut command = lab.net().namespace("lb").unwrap().command("setpriv");
    command.args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]);
    command.args([crate::lab::BINARY, "doctor"]);
    command.arg("--admin").arg(state.path().join("nobody.sock"));
    command.arg("--state").arg(state.path());
    let told = crate::lab::ended(command).out;
    let why = "whether programs of the packet plane are in the kernel";
    assert!(told.contains(why), "{told}");
    assert!(!told.contains("neither a director"), "{told}");
    lab.end();
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
