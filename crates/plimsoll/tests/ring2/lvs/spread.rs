//! Connections that stay open are shared out as each scheduler says.

use std::net::SocketAddr;

use super::site::{Family, Hook, Leg, Rule, SERVERS, Site};
use super::talk::{Proto, Servers, Talk};

/// Connections to a service.
const CONNECTIONS: u64 = 18;

/// What each server is to have.
enum Share {
    /// These.
    Exactly([u64; 3]),
    /// One has all of them.
    OneHasAll,
    /// At least one each, of so many that it is not by chance if there is none.
    Some,
}

impl Share {
    fn connections(&self) -> u64 {
        match self {
            Self::Some => 100,
            Self::Exactly(_) | Self::OneHasAll => CONNECTIONS,
        }
    }
}

/// Schedulers with the weights of the servers.
const ROWS: [(&str, [u32; 3], Share); 14] = [
    ("rr", [1, 1, 1], Share::Exactly([6, 6, 6])),
    ("wrr", [1, 2, 3], Share::Exactly([3, 6, 9])),
    ("wrr", [1, 0, 1], Share::Exactly([9, 0, 9])),
    ("lc", [1, 2, 3], Share::Exactly([6, 6, 6])),
    ("wlc", [1, 2, 3], Share::Exactly([3, 6, 9])),
    ("sed", [1, 2, 3], Share::Exactly([3, 6, 9])),
    ("nq", [1, 1, 1], Share::Exactly([6, 6, 6])),
    ("fo", [1, 3, 2], Share::Exactly([0, 18, 0])),
    ("ovf", [1, 3, 100], Share::Exactly([0, 0, 18])),
    ("sh", [1, 1, 1], Share::OneHasAll),
    ("dh", [1, 1, 1], Share::OneHasAll),
    ("mh", [1, 1, 1], Share::OneHasAll),
    ("random", [1, 1, 1], Share::Some),
    ("twos", [1, 1, 1], Share::Some),
];

#[tokio::test(flavor = "multi_thread")]
async fn as_the_scheduler_says() {
    let Some(site) = Site::new("as_the_scheduler_says", Hook::Tc) else {
        return;
    };
    let vip = |row: usize| -> SocketAddr {
        (Family::V4.vip(), 8000 + u16::try_from(row).unwrap()).into()
    };
    let rule = |(row, (scheduler, weights, _)): (usize, &(&str, [u32; 3], Share))| {
        let name = format!("{scheduler}-{row}");
        let backends = SERVERS.map(|label| site.at(label, Leg::Back, Family::V4).to_string());
        let mut rule = Rule::new(&name, vip(row), "tcp", "dr", backends);
        rule.more = format!("scheduler = \"{scheduler}\"\n");
        for ((_, more), weight) in rule.backends.iter_mut().zip(weights) {
            more.push_str(&format!(", weight = {weight}"));
        }
        rule
    };
    let rules: Vec<Rule> = ROWS.iter().enumerate().map(rule).collect();
    let lb = site.start(&rules).await;
    for (row, (scheduler, weights, share)) in ROWS.iter().enumerate() {
        let mut servers = Servers::default();
        for (number, label) in (0..).zip(SERVERS) {
            servers.start(&site, label, number, vip(row));
        }
        let (mut open, mut had) = (Vec::new(), [0; 3]);
        for seed in 0..share.connections() {
            let mut talk = Talk::open(&site, Proto::Tcp, vip(row)).await.unwrap();
            let (server, _) = talk.exchange(seed, 100).await.unwrap();
            had[usize::from(server)] += 1;
            open.push(talk);
        }
        let right = match share {
            Share::Exactly(expected) => had == *expected,
            Share::OneHasAll => had.contains(&CONNECTIONS),
            Share::Some => had.iter().all(|n| *n > 0),
        };
        assert!(right, "{scheduler} {weights:?}: {had:?}");
    }
    site.close(lb);
}
