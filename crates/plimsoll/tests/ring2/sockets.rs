//! Sockets with options between namespaces: clients whose own address backends see, addresses that
//! are led to the load balancer, marks, devices, and data along with first packets.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use plimsoll_testkit::{HttpBackend, Raw, wait_until};

use crate::config::{DAEMON, Service};
use crate::lab::{HTTP, Lab, SOON, TCP, backend};

/// Where servers listen, and where the load balancer does for datagrams.
const SERVER: u16 = 8001;
const UDP: u16 = 5353;

/// Finds out soon.
const CHECK: &str = "check = { kind = \"tcp\", interval = \"200ms\", fall = 2 }";

const CLIENT_V6: &str = "fd77::1";
const LB_V6: &str = "fd77::2";
const SERVER_V6: &str = "fd77::3";

/// Every address of IPv4.
fn any(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Runs `ip` with these words, parted by spaces, in a namespace.
fn set(lab: &Lab, label: &str, words: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    lab.net().namespace(label).unwrap().ip(&words).unwrap();
}

/// An HTTP server there.
fn server(lab: &Lab, label: &str, at: SocketAddr) -> HttpBackend {
    HttpBackend::start_at(label, &lab.place(label), at).unwrap()
}

fn service(name: &str, listen: SocketAddr, proto: &str, to: SocketAddr, more: &str) -> String {
    Service::new(name, Some(format!("{listen}/{proto}")), [to])
        .with(more)
        .text()
}

/// The status of a GET from this namespace.
async fn get(lab: &Lab, from: &str, at: SocketAddr) -> u16 {
    let mut raw = Raw::connect_from(&lab.place(from), at).await.unwrap();
    raw.get("web.example", "/", SOON).await.unwrap().status
}

/// Who has asked a server.
fn askers(server: &HttpBackend) -> BTreeSet<IpAddr> {
    let seen = server.seen();
    seen.iter().map(|seen| seen.peer.ip()).collect()
}

/// A UDP socket there that waits for so long at most.
fn datagrams(lab: &Lab, label: &str, at: SocketAddr) -> UdpSocket {
    let namespace = lab.net().namespace(label).unwrap();
    let socket = namespace.run(move || UdpSocket::bind(at)).unwrap().unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// Has a datagram go to and fro between the client, by way of `lb`, and a server; who asked it.
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

/// What the server sends to the client comes to the load balancer, which keeps it.
fn lead_answers(lab: &Lab) {
    set(
        lab,
        "client",
        &format!("address add {CLIENT_V6}/64 dev eth0 nodad"),
    );
    set(lab, "lb", &format!("address add {LB_V6}/64 dev eth0 nodad"));
    set(
        lab,
        "server",
        &format!("address add {SERVER_V6}/64 dev eth0 nodad"),
    );
    let (client, lb) = (lab.at("client", 0).ip(), lab.at("lb", 0).ip());
    set(lab, "server", &format!("route add {client}/32 via {lb}"));
    set(
        lab,
        "server",
        &format!("-6 route add {CLIENT_V6}/128 via {LB_V6}"),
    );
    set(
        lab,
        "lb",
        &format!("rule add iif eth0 to {client} lookup 100"),
    );
    set(lab, "lb", "route add local default dev lo table 100");
    set(
        lab,
        "lb",
        &format!("-6 rule add iif eth0 to {CLIENT_V6} from {SERVER_V6} lookup 100"),
    );
    set(lab, "lb", "-6 route add local default dev lo table 100");
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_see_the_addresses_of_clients() {
    let Some(lab) = Lab::new("backends_see_the_addresses_of_clients", &["server"]) else {
        return;
    };
    lead_answers(&lab);
    let (server_v4, server_v6) = (lab.at("server", SERVER), (ip(SERVER_V6), SERVER).into());
    let servers = [server_v4, server_v6].map(|at| server(&lab, "server", at));
    let lb = |port| [lab.at("lb", port), (ip(LB_V6), port).into()];
    let names = ["four", "six"];
    let to = format!("to-backends = {{ source = \"client\" }}\n{CHECK}");
    let mut text = String::new();
    for (at, name) in names.iter().enumerate() {
        let to_server = [server_v4, server_v6][at];
        text += &service(&format!("web-{name}"), lb(HTTP)[at], "http", to_server, &to);
        let to = to.replace("client", "client:port");
        text += &service(&format!("tcp-{name}"), lb(TCP)[at], "tcp", to_server, &to);
    }
    let echo = datagrams(&lab, "server", lab.at("server", UDP));
    let to = "to-backends = { source = \"client:port\" }";
    text += &service("udp", lab.at("lb", UDP), "udp", lab.at("server", UDP), to);
    let running = lab.start(&text).await;
    let clients = [lab.at("client", 0).ip(), ip(CLIENT_V6)];
    for (at, server) in servers.iter().enumerate() {
        running
            .until("the check passes", async || {
                let status = running.status().await;
                let name = format!("web-{}", names[at]);
                backend(&status, &name, server.address())["state"] == "ready"
            })
            .await;
        for port in [HTTP, TCP] {
            for _ in 0..5 {
                assert_eq!(get(&lab, "client", lb(port)[at]).await, 200);
            }
        }
        assert_eq!(askers(server), [clients[at]].into());
        assert_eq!(server.seen().len(), 10);
    }
    let client = datagrams(&lab, "client", lab.at("client", 0));
    let asker = exchange(&client, lab.at("lb", UDP), &echo);
    assert_eq!(asker, client.local_addr().unwrap());
    drop((servers, client, echo));
    lab.close(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_led_here_is_taken_and_may_go_on() {
    let Some(lab) = Lab::new("what_is_led_here_is_taken_and_may_go_on", &["server"]) else {
        return;
    };
    // Addresses of the server that its clients reach by way of the load balancer alone.
    let (lb, there) = (lab.at("lb", 0).ip(), lab.at("server", 0).ip());
    set(&lab, "server", "address add 203.0.113.9/32 dev lo");
    set(
        &lab,
        "client",
        &format!("route add 203.0.113.0/24 via {lb}"),
    );
    set(&lab, "lb", &format!("route add 203.0.113.9/32 via {there}"));
    set(&lab, "lb", "rule add iif eth0 to 203.0.113.0/24 lookup 100");
    set(&lab, "lb", "route add local default dev lo table 100");
    let meant: SocketAddr = "203.0.113.9:8001".parse().unwrap();
    let behind = server(&lab, "server", meant);
    let echo = datagrams(&lab, "server", "203.0.113.9:5353".parse().unwrap());
    let transparent = "listen-options = { transparent = true }";
    let text = [
        // The very address that it listens on is where the server is.
        service("one", meant, "http", meant, transparent),
        service("all", any(8002), "tcp", meant, transparent),
        service(
            "udp",
            any(UDP),
            "udp",
            "203.0.113.9:5353".parse().unwrap(),
            transparent,
        ),
    ];
    let running = lab.start(&text.concat()).await;
    for at in ["203.0.113.9:8001", "203.0.113.9:8002", "203.0.113.200:8002"] {
        for _ in 0..3 {
            assert_eq!(get(&lab, "client", at.parse().unwrap()).await, 200, "{at}");
        }
    }
    assert_eq!(askers(&behind), [lb].into());
    let client = datagrams(&lab, "client", lab.at("client", 0));
    let asker = exchange(&client, "203.0.113.77:5353".parse().unwrap(), &echo);
    assert_eq!(asker.ip(), lb);
    drop((behind, client, echo));
    lab.close(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_decides_where_it_goes() {
    let Some(lab) = Lab::new("a_mark_decides_where_it_goes", &["a", "b"]) else {
        return;
    };
    // Both have the address of the backend.
    let both: SocketAddr = "10.99.0.1:8001".parse().unwrap();
    let servers = ["a", "b"].map(|label| {
        set(&lab, label, "address add 10.99.0.1/32 dev lo");
        server(&lab, label, both)
    });
    let [a, b] = ["a", "b"].map(|label| lab.at(label, 0).ip());
    set(&lab, "lb", &format!("route add 10.99.0.1/32 via {a}"));
    set(
        &lab,
        "lb",
        &format!("route add 10.99.0.1/32 via {b} table 107"),
    );
    set(&lab, "lb", "rule add fwmark 7 lookup 107");
    let own = lab.at("lb", 0).ip();
    set(&lab, "lb", "address add 10.77.0.250/24 dev eth0");
    let mark = "to-backends = { mark = 7, source = \"10.77.0.250\" }";
    let text = [
        service("plain", lab.at("lb", HTTP), "http", both, CHECK),
        service(
            "marked",
            lab.at("lb", TCP),
            "tcp",
            both,
            &format!("{mark}\n{CHECK}"),
        ),
    ];
    let running = lab.start(&text.concat()).await;
    let until = async |name: &str, state: &str| {
        running
            .until("the check says so", async || {
                backend(&running.status().await, name, both)["state"] == state
            })
            .await;
    };
    for name in ["plain", "marked"] {
        until(name, "ready").await;
    }
    for _ in 0..3 {
        assert_eq!(get(&lab, "client", lab.at("lb", HTTP)).await, 200);
        assert_eq!(get(&lab, "client", lab.at("lb", TCP)).await, 200);
    }
    assert_eq!(askers(&servers[0]), [own].into());
    assert_eq!(askers(&servers[1]), [ip("10.77.0.250")].into());
    assert_eq!((servers[0].seen().len(), servers[1].seen().len()), (3, 3));
    // Checks go the same way: only the one that is led to `b` fails without it.
    servers[1].refuse().await;
    until("marked", "down").await;
    until("plain", "ready").await;
    // And so do knocks and traffic after it is back.
    servers[1].listen_again().unwrap();
    until("marked", "ready").await;
    assert_eq!(get(&lab, "client", lab.at("lb", TCP)).await, 200);
    drop(servers);
    lab.close(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_kept_to() {
    let Some(lab) = Lab::new("a_device_is_kept_to", &["server"]) else {
        return;
    };
    let behind: SocketAddr = "10.99.0.1:8001".parse().unwrap();
    set(&lab, "server", "address add 10.99.0.1/32 dev lo");
    let server = server(&lab, "server", behind);
    let there = lab.at("server", 0).ip();
    // The first route leads nowhere.
    set(&lab, "lb", "link add nowhere0 type veth peer name nowhere1");
    set(&lab, "lb", "link set nowhere0 up");
    set(&lab, "lb", "link set nowhere1 up");
    set(&lab, "lb", "route add 10.99.0.1/32 dev nowhere0 metric 1");
    set(
        &lab,
        "lb",
        &format!("route add 10.99.0.1/32 via {there} dev eth0 metric 100"),
    );
    let [outside, inside] = [HTTP, TCP].map(|port| {
        // What a host sends to itself comes in by the device that has the address.
        [lab.at("lb", port), (Ipv4Addr::LOCALHOST, port).into()]
    });
    let options = |device: &str| {
        format!(
            "listen-options = {{ interface = \"{device}\" }}\nto-backends = {{ interface = \"eth0\" }}"
        )
    };
    let lost = lab.at("lb", 8090);
    let text = [
        service("outside", any(HTTP), "http", behind, &options("eth0")),
        service("inside", any(TCP), "http", behind, &options("lo")),
        service(
            "lost",
            lost,
            "http",
            behind,
            "timeouts = { connect = \"200ms\" }\nretries = 0",
        ),
    ];
    let running = lab.start(&text.concat()).await;
    assert_eq!(get(&lab, "client", outside[0]).await, 200);
    assert_eq!(get(&lab, "lb", inside[1]).await, 200);
    for (from, at) in [("client", inside[0]), ("lb", outside[1])] {
        let error = lab.place(from).connect(at).await.unwrap_err();
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionRefused,
            "{from}"
        );
    }
    assert_eq!(get(&lab, "client", lost).await, 504);
    drop(server);
    lab.close(running);
}

/// A counter of the namespace's TCP (proc_pid_net(5), `/proc/net/netstat`).
fn counter(lab: &Lab, label: &str, name: &str) -> u64 {
    let read = || std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let text = lab.net().namespace(label).unwrap().run(read).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let names = lines.next().unwrap().split_whitespace();
    let values = lines.next().unwrap().split_whitespace();
    let mut both = names.zip(values);
    let (_, value) = both.find(|(found, _)| *found == name).unwrap();
    value.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn data_go_along_with_the_first_packet() {
    let Some(lab) = Lab::new("data_go_along_with_the_first_packet", &["server"]) else {
        return;
    };
    // Clients and listens that ask for it; at the server all listens.
    for (label, allowed) in [("client", "1"), ("lb", "3"), ("server", "1027")] {
        let allow = move || std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", allowed);
        let namespace = lab.net().namespace(label).unwrap();
        namespace.run(allow).unwrap().unwrap();
    }
    let behind = lab.http("server", SERVER);
    let listen = lab.at("lb", TCP);
    let text = service(
        "web",
        listen,
        "tcp",
        behind.address(),
        "listen-options = { tcp-fast-open = 16 }\nto-backends = { tcp-fast-open = true }",
    );
    let running = lab.start(&text).await;
    let url = format!("http://{listen}/");
    let mut requests = 0;
    // The first connections fetch the cookies.
    let went = wait_until(2 * SOON, || {
        let ended = lab.run(
            "curl",
            &["--silent", "--show-error", "--tcp-fastopen", &url],
        );
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        requests += 1;
        counter(&lab, "lb", "TCPFastOpenPassive") > 1
            && counter(&lab, "lb", "TCPFastOpenActive") > 1
            && counter(&lab, "server", "TCPFastOpenPassive") > 1
    });
    assert!(went, "after {requests} requests");
    assert_eq!(behind.seen().len(), requests, "each arrives once");
    drop(behind);
    lab.close(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_options_is_taken_up_under_load() {
    let test = "a_change_of_options_is_taken_up_under_load";
    let Some(lab) = Lab::new(test, &["server"]) else {
        return;
    };
    let behind = lab.http("server", SERVER);
    let text = |more: &str| {
        let service = service("web", any(HTTP), "http", behind.address(), more);
        format!("{DAEMON}{service}")
    };
    let running = lab.start(&text("")).await;
    let client = plimsoll_testkit::Client::start(lab.requests("web.example"));
    let options = "listen-options = { tcp-fast-open = 16, interface = \"eth0\" }";
    let inside = (Ipv4Addr::LOCALHOST, HTTP).into();
    for (more, bound) in [(options, true), ("", false), (options, true)] {
        running.0.replace_config(&text(more)).unwrap();
        let taken_up = async || lab.place("lb").connect(inside).await.is_err() == bound;
        running.until("it is taken up", taken_up).await;
        assert!(client.more(50, SOON).await);
    }
    client.stop().await.assert_clean();
    drop(behind);
    lab.close(running);
}
