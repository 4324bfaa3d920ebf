//! Transparent proxying with the very commands that docs/configuration.md has.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use plimsoll_testkit::{HttpBackend, Raw};

use crate::config::Service;
use crate::lab::{Lab, SOON, ended};

const MANUAL: &str = include_str!("../../../../docs/configuration.md");

/// Where backends of the examples listen, and plimsoll does.
const PORT: u16 = 8080;

const LB_V6: &str = "fd77::2";

/// The blocks of commands about transparent proxying, in their order: answers of backends, and what is
/// on its way to other hosts.
fn blocks() -> Vec<&'static str> {
    let (_, section) = MANUAL.split_once("#### Transparent proxying").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    let begun = section.split("```sh\n").skip(1);
    begun
        .map(|block| block.split_once("```").unwrap().0)
        .collect()
}

/// The command for who has no nftables, as the text has it.
fn plain_rule() -> &'static str {
    let (_, begun) = MANUAL
        .split_once("a rule for all that comes from the backends does as well: `")
        .unwrap();
    begun.split_once('`').unwrap().0
}

/// Runs commands in a namespace, by a shell that ends at the first that fails.
fn sh(lab: &Lab, label: &str, commands: &str) {
    let mut command = lab.net().namespace(label).unwrap().command("sh");
    command.args(["-e", "-c", commands]);
    let ended = ended(command);
    assert_eq!(ended.code, Some(0), "{commands}: {}", ended.err);
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Three hosts of both families: who is not on this link is reached by way of `lb`, which is no router
/// for anything that it does not take itself.
fn lab(test: &str) -> Option<Lab> {
    let lab = Lab::new(test, &["server"])?;
    for (label, own) in [("client", "fd77::1"), ("lb", LB_V6), ("server", "fd77::3")] {
        sh(
            &lab,
            label,
            &format!("ip address add {own}/64 dev eth0 nodad"),
        );
    }
    Some(lab)
}

/// The server's way to the client leads by the load balancer, as if it were its default route.
fn lead_answers(lab: &Lab) {
    let (client, lb) = (lab.at("client", 0).ip(), lab.at("lb", 0).ip());
    sh(lab, "server", &format!("ip route add {client}/32 via {lb}"));
    sh(
        lab,
        "server",
        &format!("ip -6 route add fd77::1/128 via {LB_V6}"),
    );
}

/// The status of a GET from the client.
async fn get(lab: &Lab, at: SocketAddr) -> u16 {
    let mut raw = Raw::connect_from(&lab.place("client"), at).await.unwrap();
    raw.get("web.example", "/", SOON).await.unwrap().status
}

fn datagrams(lab: &Lab, label: &str, at: SocketAddr) -> UdpSocket {
    let namespace = lab.net().namespace(label).unwrap();
    let socket = namespace.run(move || UdpSocket::bind(at)).unwrap().unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// Sends a question from the client by way of `lb`, and has the server answer. Who asked it.
fn exchange(client: &UdpSocket, lb: SocketAddr, server: &UdpSocket) -> SocketAddr {
    tokio::task::block_in_place(|| {
        // Connected: it takes no answer from elsewhere.
        client.connect(lb).unwrap();
        client.send(b"question").unwrap();
        let mut bytes = [0; 100];
        let (n, asker) = server.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..n], b"question");
        server.send_to(b"answer", asker).unwrap();
        let n = client.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..n], b"answer");
        asker
    })
}

fn service(name: &str, listen: &str, to: SocketAddr, more: &str) -> String {
    Service::new(name, Some(listen.to_owned()), [to])
        .with(more)
        .text()
}

/// Both families: the client, the load balancer, and the server with its port.
fn ways(lab: &Lab, port: u16, server: u16) -> [(IpAddr, SocketAddr, SocketAddr); 2] {
    let v4 = (
        lab.at("client", 0).ip(),
        lab.at("lb", port),
        lab.at("server", server),
    );
    let v6 = (
        ip("fd77::1"),
        (ip(LB_V6), port).into(),
        (ip("fd77::3"), server).into(),
    );
    [v4, v6]
}

/// Clients of both families get answers to requests and datagrams, and their backends see them.
async fn backends_see_their_clients(lab: Lab, with_datagrams: bool) {
    let (http, udp) = (ways(&lab, 80, PORT), ways(&lab, 5353, 5300));
    let mut text = String::new();
    for (at, family) in ["four", "six"].into_iter().enumerate() {
        for (port, client) in [(80, "client"), (81, "client:port")] {
            let to = format!("to-backends = {{ source = \"{client}\" }}");
            let listen = SocketAddr::new(http[at].1.ip(), port);
            let name = format!("web-{family}-{port}");
            text += &service(&name, &format!("{listen}/http"), http[at].2, &to);
        }
        for (port, client) in [(5353, "client"), (5354, "client:port")] {
            let to = format!("to-backends = {{ source = \"{client}\" }}");
            let listen = SocketAddr::new(udp[at].1.ip(), port);
            let name = format!("udp-{family}-{port}");
            text += &service(&name, &format!("{listen}/udp"), udp[at].2, &to);
        }
    }
    let place = lab.place("server");
    let servers = http.map(|(_, _, at)| HttpBackend::start_at("server", &place, at).unwrap());
    let echoes = udp.map(|(_, _, at)| datagrams(&lab, "server", at));
    let running = lab.start(&text).await;
    for (at, server) in servers.iter().enumerate() {
        let (client, lb, _) = http[at];
        for port in [80, 81] {
            for _ in 0..3 {
                assert_eq!(get(&lab, SocketAddr::new(lb.ip(), port)).await, 200);
            }
        }
        assert_eq!(server.seen().len(), 6);
        assert!(server.seen().iter().all(|seen| seen.peer.ip() == client));
    }
    if with_datagrams {
        for (at, echo) in echoes.iter().enumerate() {
            let (own, lb, _) = udp[at];
            for port in [5353, 5354] {
                let client = datagrams(&lab, "client", (own, 0).into());
                let asker = exchange(&client, SocketAddr::new(lb.ip(), port), echo);
                assert_eq!(asker.ip(), own);
                let same = asker.port() == client.local_addr().unwrap().port();
                assert!(same || port == 5353, "{asker}");
            }
        }
    }
    drop((servers, echoes));
    lab.close(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_see_their_clients_with_the_rules_of_the_manual() {
    let Some(lab) = lab("backends_see_their_clients_with_the_rules_of_the_manual") else {
        return;
    };
    lead_answers(&lab);
    sh(&lab, "lb", blocks()[0]);
    backends_see_their_clients(lab, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_see_their_clients_without_nftables() {
    let Some(lab) = lab("backends_see_their_clients_without_nftables") else {
        return;
    };
    lead_answers(&lab);
    let routes = blocks()[0]
        .lines()
        .filter(|line| line.contains("route add"));
    routes.for_each(|line| sh(&lab, "lb", line));
    let rule = plain_rule();
    sh(&lab, "lb", rule);
    sh(&lab, "lb", &rule.replacen("ip ", "ip -6 ", 1));
    backends_see_their_clients(lab, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_taken_with_the_rules_of_the_manual() {
    let Some(lab) = lab("what_passes_is_taken_with_the_rules_of_the_manual") else {
        return;
    };
    let (lb, there) = (lab.at("lb", 0).ip(), lab.at("server", 0).ip());
    for net in ["203.0.113.0/24", "198.51.100.0/24"] {
        sh(&lab, "client", &format!("ip route add {net} via {lb}"));
    }
    sh(
        &lab,
        "client",
        &format!("ip -6 route add 2001:db8::/32 via {LB_V6}"),
    );
    for block in blocks() {
        sh(&lab, "lb", block);
    }
    // What is not taken goes on: to the server, which has that address.
    sh(&lab, "lb", "echo 1 >/proc/sys/net/ipv4/ip_forward");
    sh(
        &lab,
        "lb",
        &format!("ip route add 198.51.100.7/32 via {there}"),
    );
    sh(&lab, "server", "ip address add 198.51.100.7/32 dev lo");
    sh(
        &lab,
        "server",
        &format!("ip route add {}/32 via {lb}", lab.at("client", 0).ip()),
    );
    let place = lab.place("server");
    let behind = HttpBackend::start_at("behind", &place, lab.at("server", 8001)).unwrap();
    let passed =
        HttpBackend::start_at("passed", &place, (ip("198.51.100.7"), PORT).into()).unwrap();
    let echo = datagrams(&lab, "server", lab.at("server", 5300));
    let transparent = "listen-options = { transparent = true }";
    let text = [
        service("web", "*:8080/http", behind.address(), transparent),
        service("one", "203.0.113.9:8443/tcp", behind.address(), transparent),
        service("dns", "*:53/udp", lab.at("server", 5300), transparent),
    ];
    let running = lab.start(&text.concat()).await;
    for at in ["203.0.113.7:80", "[2001:db8::7]:80", "203.0.113.9:8443"] {
        for _ in 0..3 {
            assert_eq!(get(&lab, at.parse().unwrap()).await, 200, "{at}");
        }
    }
    assert_eq!(behind.seen().len(), 9);
    let client = datagrams(&lab, "client", lab.at("client", 0));
    let asker = exchange(&client, "203.0.113.7:53".parse().unwrap(), &echo);
    assert_eq!(asker.ip(), lb);
    // The same port, but nothing that the rules name.
    assert_eq!(get(&lab, passed.address()).await, 200);
    assert_eq!((behind.seen().len(), passed.seen().len()), (9, 1));
    drop((behind, passed, client, echo));
    lab.close(running);
}
