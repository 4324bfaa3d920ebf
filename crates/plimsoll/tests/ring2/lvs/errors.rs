//! ICMP errors come to whom they are about: clients hear that nobody listens, and backends how large
//! packets may be on the way to a client.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use plimsoll_testkit::{Namespace, wait_until};
use tokio::net::TcpStream;

use super::site::{CLIENT, DIRECTOR, Family, Hook, Leg, Rule, SERVERS, Site};
use super::talk::{Proto, Servers, Talk};
use crate::lab::SOON;

const INSIDE: u16 = 9000;

/// Ways to forward, with the family of the VIP and of the backends.
const WAYS: [(&str, Family, Family); 8] = [
    ("dr", Family::V4, Family::V4),
    ("dr", Family::V6, Family::V6),
    ("nat", Family::V4, Family::V4),
    ("nat", Family::V6, Family::V6),
    ("tunnel", Family::V4, Family::V4),
    ("tunnel", Family::V6, Family::V6),
    ("tunnel", Family::V4, Family::V6),
    ("tunnel", Family::V6, Family::V4),
];

fn vip(way: usize) -> SocketAddr {
    (WAYS[way].1.vip(), 8000 + way as u16).into()
}

fn rules(site: &Site, proto: Proto) -> Vec<Rule> {
    let rule = |(way, (forward, _, outer)): (usize, (&str, Family, Family))| {
        let backends = SERVERS.map(|label| match site.at(label, Leg::Back, outer) {
            ip if forward == "nat" => SocketAddr::new(ip, INSIDE).to_string(),
            ip => ip.to_string(),
        });
        let name = format!("{forward}-{way}");
        Rule::new(&name, vip(way), proto.name(), forward, backends)
    };
    WAYS.into_iter().enumerate().map(rule).collect()
}

/// All servers, for the ways to forward to them.
fn serve(site: &Site) -> Servers {
    let mut servers = Servers::default();
    for (number, label) in (0..).zip(SERVERS) {
        for (way, (forward, family, _)) in WAYS.into_iter().enumerate() {
            let at = match forward {
                "nat" => (site.at(label, Leg::Back, family), INSIDE).into(),
                _ => vip(way),
            };
            servers.start(site, label, number, at);
        }
    }
    servers
}

async fn nobody_listens(test: &str, hook: Hook) {
    let Some(site) = Site::new(test, hook) else {
        return;
    };
    let lb = site.start(&rules(&site, Proto::Udp)).await;
    for (way, kind) in WAYS.iter().enumerate() {
        for seed in 0..3 {
            let mut talk = Talk::open(&site, Proto::Udp, vip(way)).await.unwrap();
            let error = talk.exchange(seed, 100).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{kind:?}");
        }
    }
    site.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_hear_that_nobody_listens() {
    nobody_listens("clients_hear_that_nobody_listens", Hook::Tc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_hear_that_nobody_listens_by_xdp() {
    nobody_listens("clients_hear_that_nobody_listens_by_xdp", Hook::Xdp).await;
}

/// A client behind a router and a narrow link, who says that it takes larger packets than fit there.
struct Far {
    client: Namespace,
    // Held for its namespace.
    _router: Namespace,
}

const NARROW: &str = "1320";

impl Far {
    fn new(site: &Site) -> Self {
        let (router, client) = (
            Namespace::new("router").unwrap(),
            Namespace::new("far").unwrap(),
        );
        let switch = site.lab.net().switch();
        let words = |port: &str, peer: &str, inside: &str| {
            format!("link add {port} type veth peer name {peer} netns {inside}")
        };
        let run = |namespace: &Namespace, line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            namespace.ip(&words).unwrap()
        };
        run(switch, &words("port99", "eth0", router.name()));
        run(switch, "link set port99 master br0 up");
        run(&router, &words("eth1", "eth0", client.name()));
        for line in [
            "address add 10.77.0.99/24 dev eth0",
            "address add fd77::99/64 dev eth0 nodad",
            "link set eth0 up",
            "address add 10.99.0.1/24 dev eth1",
            "address add fd99::1/64 dev eth1 nodad",
            "link set eth1 up",
            "route add 192.0.2.1 via 10.77.0.2",
            "route add 2001:db8::1 via fd77::2",
            &format!("link set eth1 mtu {NARROW}"),
        ] {
            run(&router, line);
        }
        for line in [
            "address add 10.99.0.2/24 dev eth0",
            "address add fd99::2/64 dev eth0 nodad",
            "link set eth0 up",
            &format!("link set eth0 mtu {NARROW}"),
            "route add default via 10.99.0.1 advmss 1460",
            "-6 route add default via fd99::1 advmss 1440",
        ] {
            run(&client, line);
        }
        let forwards = router.run(|| {
            for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{name}"), "1").unwrap();
            }
        });
        forwards.unwrap();
        for label in [DIRECTOR].into_iter().chain(SERVERS) {
            site.ip(
                label,
                &["route", "add", "10.99.0.0/24", "via", "10.77.0.99"],
            );
            site.ip(
                label,
                &["-6", "route", "add", "fd99::/64", "via", "fd77::99"],
            );
        }
        for namespace in [&router, &client] {
            let settled = || {
                !namespace
                    .ip(&["-6", "address"])
                    .unwrap()
                    .contains("tentative")
            };
            assert!(wait_until(SOON, settled));
        }
        Self {
            client,
            _router: router,
        }
    }

    async fn connect(&self, to: SocketAddr) -> Talk {
        let stream: TcpStream = self.client.place().connect(to).await.unwrap();
        Talk::Tcp(stream)
    }
}

/// The way that a server knows to an address.
fn way_to(site: &Site, label: &str, to: IpAddr, from: &str) -> String {
    site.ip(label, &["route", "get", &to.to_string(), "from", from])
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_hear_of_a_narrow_way_to_the_client() {
    let Some(site) = Site::new("servers_hear_of_a_narrow_way_to_the_client", Hook::Tc) else {
        return;
    };
    let far = Far::new(&site);
    let servers = serve(&site);
    let lb = site.start(&rules(&site, Proto::Tcp)).await;
    for (way, (forward, family, outer)) in WAYS.into_iter().enumerate() {
        let far_ip: IpAddr = match family {
            Family::V4 => "10.99.0.2".parse().unwrap(),
            Family::V6 => "fd99::2".parse().unwrap(),
        };
        for label in SERVERS {
            for v in ["-4", "-6"] {
                site.ip(label, &[v, "route", "flush", "cache"]);
            }
        }
        for _ in SERVERS {
            let mut talk = far.connect(vip(way)).await;
            let (number, seen) = talk.exchange(1, 100_000).await.unwrap();
            assert_eq!(seen.to_canonical(), far_ip);
            let label = SERVERS[usize::from(number)];
            let from = match forward {
                "nat" => site.at(label, Leg::Back, family).to_string(),
                _ => family.vip().to_string(),
            };
            let known = way_to(&site, label, far_ip, &from);
            assert!(
                known.contains(&format!("mtu {NARROW}")),
                "{forward} {family:?} by {outer:?}: {label} has heard nothing: {known}"
            );
        }
    }
    servers.end().await;
    site.close(lb);
}

/// The director tells clients what fits on its own way to a backend.
#[tokio::test(flavor = "multi_thread")]
async fn clients_hear_of_a_narrow_way_to_the_backends() {
    let Some(site) = Site::new("clients_hear_of_a_narrow_way_to_the_backends", Hook::Tc) else {
        return;
    };
    for label in SERVERS {
        for family in [Family::V4, Family::V6] {
            let to = site.at(label, Leg::Back, family).to_string();
            site.ip(
                DIRECTOR,
                &["route", "add", &to, "dev", "eth1", "mtu", "lock", NARROW],
            );
        }
    }
    // Each packet is looked at by itself.
    site.ip(CLIENT, &["link", "set", "eth0", "gso_max_segs", "1"]);
    let servers = serve(&site);
    let lb = site.start(&rules(&site, Proto::Tcp)).await;
    for way in 0..WAYS.len() {
        for _ in SERVERS {
            let mut talk = Talk::open(&site, Proto::Tcp, vip(way)).await.unwrap();
            talk.exchange(1, 100_000).await.unwrap();
        }
    }
    for (family, over) in [(Family::V4, [0, 20, 40]), (Family::V6, [0, 40, 20])] {
        let shown = site.ip(CLIENT, &["route", "get", &family.vip().to_string()]);
        let narrow: u32 = NARROW.parse().unwrap();
        let told = over
            .iter()
            .any(|over| shown.contains(&format!("mtu {}", narrow - over)));
        assert!(told, "{shown}");
    }
    servers.end().await;
    site.close(lb);
}
