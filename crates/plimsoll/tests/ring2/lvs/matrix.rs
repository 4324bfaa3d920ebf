//! Every way to forward, for both families and protocols, by TC and by XDP: payload is the same both
//! ways, servers see the client, everybody has the same share, and the counts are right.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::site::{CLIENT, Family, Hook, Leg, Rule, SERVERS, Site, counters};
use super::talk::{Proto, Servers, Talk};
use crate::lab::{Lb, SOON};

/// Where backends listen that get their packets by NAT.
const INSIDE: u16 = 9000;

/// Connections of each cell; three for each server.
const CONNECTIONS: u64 = 9;

/// Bytes that are sent and come back on each connection. Those of TCP need the greatest segments that
/// a tunnel has room for.
const STREAM: [usize; 3] = [1, 1000, 200_000];
const DATAGRAMS: [usize; 3] = [0, 1, 1200];

#[derive(Clone, Copy)]
struct Cell {
    forward: &'static str,
    family: Family,
    /// Of the backends' addresses.
    outer: Family,
    leg: Leg,
    proto: Proto,
    port: u16,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            forward,
            family,
            outer,
            leg,
            proto,
            ..
        } = self;
        write!(f, "{forward}-{family:?}-by-{outer:?}-{leg:?}-{proto:?}")
    }
}

/// All that there is: a port of the VIP is a cell.
fn cells() -> Vec<Cell> {
    use Family::{V4, V6};
    let mut cells = Vec::new();
    let ways = [
        ("dr", V4, V4),
        ("dr", V6, V6),
        ("nat", V4, V4),
        ("nat", V6, V6),
        ("tunnel", V4, V4),
        ("tunnel", V4, V6),
        ("tunnel", V6, V4),
        ("tunnel", V6, V6),
    ];
    for (forward, family, outer) in ways {
        for leg in [Leg::Front, Leg::Back] {
            for proto in [Proto::Tcp, Proto::Udp] {
                let port = 8000 + u16::try_from(cells.len()).unwrap();
                cells.push(Cell {
                    forward,
                    family,
                    outer,
                    leg,
                    proto,
                    port,
                });
            }
        }
    }
    cells
}

impl Cell {
    fn vip(&self) -> SocketAddr {
        (self.family.vip(), self.port).into()
    }

    fn rule(&self, site: &Site) -> Rule {
        let address = |label: &&str| {
            let ip = site.at(label, self.leg, self.outer);
            match self.forward {
                "nat" => SocketAddr::new(ip, INSIDE).to_string(),
                _ => ip.to_string(),
            }
        };
        let backends = SERVERS.iter().map(address);
        let name = self.to_string().to_lowercase();
        Rule::new(&name, self.vip(), self.proto.name(), self.forward, backends)
    }

    /// Talks to the service; what is not as it should be.
    async fn check(&self, site: &Site, lb: &Lb) -> Result<(), String> {
        let mut servers = Servers::default();
        for (number, label) in (0..).zip(SERVERS) {
            let at = match self.forward {
                "nat" => (site.at(label, self.leg, self.family), INSIDE).into(),
                _ => self.vip(),
            };
            servers.start(site, label, number, at);
        }
        let checked = self.check_served(site, lb).await;
        servers.end().await;
        checked
    }

    async fn check_served(&self, site: &Site, lb: &Lb) -> Result<(), String> {
        let client = site.at(CLIENT, Leg::Front, self.family);
        let (mut shares, mut bytes) = (BTreeMap::new(), 0);
        for seed in 0..CONNECTIONS {
            let talk = self.talk(site, seed, client).await;
            let (server, sent) = talk.map_err(|error| format!("connection {seed}: {error}"))?;
            *shares.entry(server).or_insert(0) += 1;
            bytes += sent;
        }
        let share = CONNECTIONS / SERVERS.len() as u64;
        let fair = (0..).zip(SERVERS).map(|(number, _)| (number, share));
        if shares != fair.collect() {
            return Err(format!("shares: {shares:?}"));
        }
        self.check_counts(lb, share, bytes / SERVERS.len() as u64)
            .await
    }

    /// One connection; its server, and how many bytes were sent.
    async fn talk(&self, site: &Site, seed: u64, client: IpAddr) -> Result<(u8, u64), String> {
        let talk = Talk::open(site, self.proto, self.vip()).await;
        let mut talk = talk.map_err(|error| error.to_string())?;
        let sizes = match self.proto {
            Proto::Tcp => STREAM,
            Proto::Udp => DATAGRAMS,
        };
        let mut servers = Vec::new();
        for len in sizes {
            let answer = talk.exchange(seed, len).await;
            let (server, seen) = answer.map_err(|error| format!("{len} bytes: {error}"))?;
            if seen.to_canonical() != client {
                return Err(format!("the server sees {seen}"));
            }
            servers.push(server);
        }
        servers.dedup();
        match servers[..] {
            [server] => Ok((server, sizes.iter().map(|len| *len as u64).sum())),
            _ => Err(format!("went from server to server: {servers:?}")),
        }
    }

    /// Whether each backend has had this share of connections, and so many bytes.
    async fn check_counts(&self, lb: &Lb, share: u64, bytes: u64) -> Result<(), String> {
        let name = self.to_string().to_lowercase();
        let mut seen = String::new();
        let right = async {
            loop {
                let status = lb.status().await;
                let all = counters(&status, &name);
                let is = |key: &str| {
                    all.iter()
                        .map(|c| c[key].as_u64().unwrap())
                        .collect::<Vec<_>>()
                };
                let (packets, counted) = (is("packets_in"), is("bytes_in"));
                let back = is("packets_out");
                seen = format!("{all:?}");
                let right = match self.proto {
                    Proto::Udp => {
                        let sent = share * DATAGRAMS.len() as u64;
                        let headers = sent * (self.family.header() + 8);
                        let replies = if self.forward == "nat" { sent } else { 0 };
                        packets == [sent; 3]
                            && counted == [bytes + headers; 3]
                            && back == [replies; 3]
                    }
                    // How many segments there are is the kernel's affair.
                    Proto::Tcp => {
                        let most = bytes + bytes / 4 + 10_000;
                        packets.iter().all(|n| *n >= share * 6)
                            && counted.iter().all(|n| (bytes..most).contains(n))
                            && back.iter().all(|n| (*n > 0) == (self.forward == "nat"))
                    }
                };
                if right && is("connections") == [share; 3] {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(SOON, right).await;
        in_time.map_err(|_| format!("counts, of {bytes} bytes: {seen}"))
    }
}

async fn check_all(test: &str, hook: Hook) {
    let Some(site) = Site::new(test, hook) else {
        return;
    };
    let cells = cells();
    let rules: Vec<Rule> = cells.iter().map(|cell| cell.rule(&site)).collect();
    let lb = site.start(&rules).await;
    let mut wrong = Vec::new();
    for cell in &cells {
        let before = site.sent_by_xdp();
        if let Err(error) = cell.check(&site, &lb).await {
            wrong.push(format!("{cell}: {error}"));
        }
        let by_xdp = site.sent_by_xdp() - before;
        // But for the first packets, before the neighbours are known.
        let expected = hook == Hook::Xdp;
        if (by_xdp >= CONNECTIONS) != expected {
            wrong.push(format!("{cell}: {by_xdp} packets sent by XDP"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cells.len(),
        wrong.join("\n")
    );
    site.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_by_tc() {
    check_all("every_way_by_tc", Hook::Tc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_by_xdp() {
    check_all("every_way_by_xdp", Hook::Xdp).await;
}
