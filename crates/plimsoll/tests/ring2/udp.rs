//! UDP between namespaces: DNS with a real client and real servers, flows as QUIC has them, and
//! floods.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plimsoll_testkit::{list, wait_until};
use serde_json::Value;

use crate::config::Service;
use crate::lab::{Lab, Lb, SOON};

/// Where the load balancer listens for datagrams.
const PORT: u16 = 5353;

/// A process that does not outlive what has it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// dnsmasq, which says its label for the name `who.test`, and more than a datagram holds for
/// `long.test`.
fn dnsmasq(lab: &Lab, label: &str) -> Running {
    let address = lab.at(label, 53);
    let mut command = lab.net().namespace(label).unwrap().command("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
    ]);
    command.args([
        "--no-resolv",
        "--no-hosts",
        "--pid-file=",
        "--bind-interfaces",
    ]);
    command.arg(format!("--listen-address={}", address.ip()));
    command.arg(format!("--txt-record=who.test,{label}"));
    for number in 0..20 {
        command.arg(format!(
            "--txt-record=long.test,{label}{number}{}",
            "x".repeat(200)
        ));
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null());
    Running(child.stderr(Stdio::null()).spawn().unwrap())
}

/// What dig says of a name's text, asked at an address with one try. It takes no answer from
/// elsewhere.
fn dig(lab: &Lab, at: IpAddr, name: &str) -> String {
    let (at, port) = (format!("@{at}"), PORT.to_string());
    let args = [
        "+short", "+tries=1", "+time=5", &at, "-p", &port, name, "TXT",
    ];
    let ended = lab.run("dig", &args);
    assert_eq!(ended.code, Some(0), "{at}: {} {}", ended.out, ended.err);
    ended.out.trim().to_owned()
}

/// More addresses for the load balancer, and IPv6 ones for it and the client.
fn addresses(lab: &Lab) -> Vec<IpAddr> {
    let add = |label: &str, address: &str| {
        let words = ["address", "add", address, "dev", "eth0", "nodad"];
        let words = &words[..if address.contains(':') { 6 } else { 5 }];
        lab.net().namespace(label).unwrap().ip(words).unwrap();
    };
    add("client", "fd77::1/64");
    let vips = ["10.77.0.101", "10.77.0.102", "fd77::101", "fd77::102"];
    for vip in vips {
        add(
            "lb",
            &format!("{vip}/{}", if vip.contains(':') { 64 } else { 24 }),
        );
    }
    let own = [lab.at("lb", PORT).ip()];
    own.into_iter()
        .chain(vips.map(|vip| vip.parse().unwrap()))
        .collect()
}

/// A service of UDP, and more listens, on all addresses.
fn service(lab: &Lab, protos: &str, labels: &[&str], port: u16, more: &str) -> String {
    let backends = labels.iter().map(|label| lab.at(label, port));
    let listen = format!("*:{PORT}/{protos}");
    Service::new("dns", Some(listen), backends)
        .with(more)
        .text()
}

fn sessions(status: &Value) -> u64 {
    list(&status["services"])[0]["udp"]["sessions"]
        .as_u64()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_resolved_at_every_address_and_whichever_server_lives() {
    let test = "names_are_resolved_at_every_address_and_whichever_server_lives";
    let Some(lab) = Lab::new(test, &["a", "b"]) else {
        return;
    };
    let addresses = addresses(&lab);
    let mut servers = vec![dnsmasq(&lab, "a"), dnsmasq(&lab, "b")];
    let check = "check = { kind = \"tcp\", interval = \"200ms\", rise = 1, fall = 2 }\n\
                 sessions = { limit = 1000, responses = 1 }";
    let lb = lab
        .start(&service(&lab, "tcp+udp", &["a", "b"], 53, check))
        .await;
    let (a, b) = (lab.at("a", 53), lab.at("b", 53));
    lb.until("both serve", async || {
        let (a, b) = (lb.backend("dns", a).await, lb.backend("dns", b).await);
        a["state"] == "ready" && b["state"] == "ready"
    })
    .await;
    let mut said = BTreeSet::new();
    for address in &addresses {
        for _ in 0..4 {
            said.insert(dig(&lab, *address, "who.test"));
        }
        // Does not fit: dig goes on over TCP.
        let long = dig(&lab, *address, "long.test");
        assert_eq!(long.lines().count(), 20, "{address}: {long}");
    }
    assert_eq!(said, ["\"a\"".to_owned(), "\"b\"".to_owned()].into());
    lb.until("no session outlives its answer", async || {
        sessions(&lb.status().await) == 0
    })
    .await;
    // One dies. Once that is known, nobody asks it any more.
    drop(servers.remove(0));
    lb.until("a is out", async || {
        lb.backend("dns", a).await["state"] == "down"
    })
    .await;
    for address in &addresses {
        assert_eq!(dig(&lab, *address, "who.test"), "\"b\"");
    }
    servers.push(dnsmasq(&lab, "a"));
    lb.until("a is back", async || {
        lb.backend("dns", a).await["state"] == "ready"
    })
    .await;
    lb.tell(&["drain", "dns", &b.to_string()]);
    for address in &addresses {
        assert_eq!(dig(&lab, *address, "who.test"), "\"a\"");
    }
    drop(servers);
    lab.close(lb);
}

/// A server that sends each datagram back, with its label in the place of the first byte, until it
/// is dropped: then nobody is at its port.
struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Echo {
    fn start(lab: &Lab, label: &'static str, port: u16) -> Self {
        Self::at(lab, label, lab.at(label, port))
    }

    fn at(lab: &Lab, label: &'static str, address: SocketAddr) -> Self {
        let socket = bind(lab, label, address);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 65_535];
            while !stopped.load(Ordering::SeqCst) {
                // An error is what became of an answer, or a pause to look whether to go on.
                if let Ok((n, from)) = socket.recv_from(&mut bytes) {
                    bytes[0] = label.as_bytes()[0];
                    let _ = socket.send_to(&bytes[..n], from);
                }
            }
        });
        let thread = Some(thread);
        Self { stop, thread }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A socket in a namespace, which waits for a tenth of a second at most.
fn bind(lab: &Lab, label: &str, address: SocketAddr) -> UdpSocket {
    let namespace = lab.net().namespace(label).unwrap();
    let socket = namespace.run(move || UdpSocket::bind(address)).unwrap();
    let socket = socket.unwrap();
    let wait = Some(Duration::from_millis(100));
    socket.set_read_timeout(wait).unwrap();
    socket
}

/// A flow of datagrams of 1200 bytes, as QUIC's, from one socket: never more than 64 are on the way.
struct Flow {
    socket: UdpSocket,
    next: u64,
}

impl Flow {
    fn start(lab: &Lab, to: IpAddr) -> Self {
        let any: IpAddr = match to {
            IpAddr::V4(_) => lab.at("client", 0).ip(),
            IpAddr::V6(_) => "fd77::1".parse().unwrap(),
        };
        let socket = bind(lab, "client", (any, 0).into());
        socket.connect((to, PORT)).unwrap();
        Self { socket, next: 0 }
    }

    /// Sends a burst, and hears who answered which of them in what order; late ones are passed over.
    fn burst(&mut self) -> Vec<(char, u64)> {
        let first = self.next;
        let mut datagram = [7; 1200];
        for number in first..first + 64 {
            datagram[8..16].copy_from_slice(&number.to_be_bytes());
            // A refusal is the kernel's word on an earlier one.
            let _ = self.socket.send(&datagram);
        }
        self.next += 64;
        let mut heard = Vec::new();
        let mut bytes = [0; 2000];
        while heard.len() < 64 {
            let Ok(n) = self.socket.recv(&mut bytes) else {
                break;
            };
            let number = u64::from_be_bytes(bytes[8..16].try_into().unwrap());
            assert_eq!((n, bytes[1], bytes[1199]), (1200, 7, 7));
            if number >= first {
                heard.push((bytes[0].into(), number));
            }
        }
        heard
    }

    /// Bursts until one has come back whole. Who answered it.
    #[track_caller]
    fn whole(&mut self) -> char {
        let mut letter = None;
        let done = wait_until(SOON, || {
            let heard = self.burst();
            letter = heard.first().map(|(letter, _)| *letter);
            let same = heard.iter().all(|(other, _)| Some(*other) == letter);
            let order = heard.is_sorted_by_key(|(_, number)| *number);
            heard.len() == 64 && same && order
        });
        assert!(done, "no burst comes back whole");
        letter.unwrap()
    }
}

async fn until_both_serve(lab: &Lab, lb: &Lb) {
    lb.until("both serve", async || {
        let one = lb.backend("dns", lab.at("a", 4000)).await;
        let other = lb.backend("dns", lab.at("b", 4000)).await;
        one["state"] == "ready" && other["state"] == "ready"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_pass_whole_and_in_order_and_move_when_their_server_dies() {
    let test = "flows_pass_whole_and_in_order_and_move_when_their_server_dies";
    let Some(lab) = Lab::new(test, &["a", "b"]) else {
        return;
    };
    let addresses = addresses(&lab);
    let mut servers = vec![Echo::start(&lab, "a", 4000), Echo::start(&lab, "b", 4000)];
    let config = service(
        &lab,
        "udp",
        &["a", "b"],
        4000,
        "timeouts = { drain = \"1s\" }",
    );
    let lb = lab.start(&config).await;
    until_both_serve(&lab, &lb).await;
    let mut flows: Vec<Flow> = addresses.iter().map(|to| Flow::start(&lab, *to)).collect();
    tokio::task::block_in_place(|| {
        let mut letters = BTreeSet::new();
        for flow in &mut flows {
            let letter = flow.whole();
            letters.insert(letter);
            for _ in 0..20 {
                assert_eq!(flow.whole(), letter, "a flow stays where it is");
            }
        }
        assert_eq!(letters, ['a', 'b'].into());
        // "Port unreachable" is all that there is to hear of it.
        drop(servers.remove(0));
        for flow in &mut flows {
            assert_eq!(flow.whole(), 'b');
        }
    });
    servers.push(Echo::start(&lab, "a", 4000));
    until_both_serve(&lab, &lb).await;
    // One that drains keeps its flows for its time, and no longer.
    lb.tell(&["drain", "dns", &lab.at("b", 4000).to_string()]);
    tokio::task::block_in_place(|| {
        for flow in &mut flows {
            let mut letter = 'b';
            assert!(wait_until(SOON, || {
                letter = flow.whole();
                letter == 'a'
            }));
        }
    });
    let status = lb.status().await;
    assert_eq!(
        sessions(&status),
        flows.len() as u64,
        "they are the same sessions"
    );
    drop(servers);
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_a_link_arrives_in_parts_and_blames_nobody() {
    let test = "what_is_too_large_for_a_link_arrives_in_parts_and_blames_nobody";
    let Some(lab) = Lab::new(test, &["a", "router", "b"]) else {
        return;
    };
    let ip = |label: &str, words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        lab.net().namespace(label).unwrap().ip(&words).unwrap();
    };
    // The way to `a` is known to be narrow; that to `b` is narrow behind a router, which says so when
    // something does not fit.
    ip(
        "lb",
        &format!("route add {}/32 dev eth0 mtu 900", lab.at("a", 0).ip()),
    );
    let b = lab.net().namespace("b").unwrap().name().to_owned();
    ip(
        "router",
        &format!("link add thin type veth peer name thin netns {b}"),
    );
    for (label, own) in [("router", "10.99.0.1"), ("b", "10.99.0.2")] {
        ip(label, "link set thin mtu 900 up");
        ip(label, &format!("address add {own}/30 dev thin"));
    }
    let forward = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1");
    lab.net()
        .namespace("router")
        .unwrap()
        .run(forward)
        .unwrap()
        .unwrap();
    ip(
        "lb",
        &format!("route add 10.99.0.0/30 via {}", lab.at("router", 0).ip()),
    );
    let far: SocketAddr = "10.99.0.2:4000".parse().unwrap();
    let servers = [Echo::start(&lab, "a", 4000), Echo::at(&lab, "b", far)];
    let listen = Some(format!("*:{PORT}/udp"));
    let config = Service::new("dns", listen, [lab.at("a", 4000), far]).text();
    let lb = lab.start(&config).await;
    let to = lab.at("lb", 0).ip();
    tokio::task::block_in_place(|| {
        let mut flows = [Flow::start(&lab, to), Flow::start(&lab, to)];
        let letters = flows.each_mut().map(Flow::whole);
        assert_eq!(BTreeSet::from(letters), ['a', 'b'].into());
        for (flow, letter) in flows.iter_mut().zip(letters) {
            for _ in 0..10 {
                assert_eq!(flow.whole(), letter);
            }
        }
    });
    let status = lb.status().await;
    let service = &list(&status["services"])[0];
    assert_eq!(service["udp"]["moved"], 0, "{service}");
    for backend in list(&service["backends"]) {
        assert_eq!(backend["state"], "ready", "{service}");
        assert_eq!(backend["counters"]["connect_failures"], 0, "{service}");
    }
    let listen = &list(&service["listens"])[0];
    assert_eq!(
        (&listen["unsent"], &listen["lost"]),
        (&0.into(), &Value::Array(vec![]))
    );
    drop(servers);
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_sources_grows_nothing_and_puts_nobody_out() {
    let test = "a_flood_of_sources_grows_nothing_and_puts_nobody_out";
    let Some(lab) = Lab::new(test, &["a", "b"]) else {
        return;
    };
    let servers = [Echo::start(&lab, "a", 4000), Echo::start(&lab, "b", 4000)];
    // The client may speak from each of 65 536 addresses.
    let ip = |label: &str, words: &[&str]| lab.net().namespace(label).unwrap().ip(words).unwrap();
    ip(
        "client",
        &["route", "add", "local", "10.78.0.0/16", "dev", "lo"],
    );
    let via = lab.at("client", 0).ip().to_string();
    ip("lb", &["route", "add", "10.78.0.0/16", "via", &via]);
    let config = service(&lab, "udp", &["a", "b"], 4000, "sessions = 100");
    let lb = lab.start(&config).await;
    until_both_serve(&lab, &lb).await;
    let to = SocketAddr::new(lab.at("lb", 0).ip(), PORT);
    let mut real = Flow::start(&lab, to.ip());
    let before = lb.descriptors();
    tokio::task::block_in_place(|| {
        let letter = real.whole();
        // Only who goes on after an answer has shown to be there.
        assert_eq!(real.whole(), letter);
        for round in 0..20_u8 {
            let namespace = lab.net().namespace("client").unwrap();
            let sent = namespace.run(move || {
                (1..=200_u8).all(|host| {
                    let from = Ipv4Addr::new(10, 78, round, host);
                    let socket = UdpSocket::bind((from, 0)).unwrap();
                    socket.send_to(b"flood", to).is_ok()
                })
            });
            assert!(sent.unwrap());
            assert_eq!(real.whole(), letter, "who is really there stays");
            let now = lb.descriptors();
            assert!(
                now <= before + 120,
                "{now} descriptors, and {before} before"
            );
        }
    });
    let status = lb.status().await;
    let udp = &list(&status["services"])[0]["udp"];
    assert!(sessions(&status) <= 100, "{udp}");
    let count = |key: &str| udp[key].as_u64().unwrap();
    // Some may have been lost before they came.
    let turned = count("evicted") + count("dropped");
    assert!((1000..=4000).contains(&turned), "{udp}");
    assert_eq!(count("moved"), 0);
    drop(servers);
    lab.close(lb);
}
