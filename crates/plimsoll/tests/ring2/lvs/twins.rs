//! Two directors on one machine, each in a namespace of its own, with the same VIP.

use super::site::{Family, Hook, Leg, Rule, SERVERS, Site, counters};
use super::talk::{Proto, Servers, Talk};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_vip_twice() {
    let Some(one) = Site::new("the_same_vip_twice", Hook::Tc) else {
        return;
    };
    let other = Site::new("the_same_vip_twice", Hook::Tc).unwrap();
    let vip = (Family::V4.vip(), 8000).into();
    let mut servers = Servers::default();
    let mut directors = Vec::new();
    // The second one's servers have other numbers, and the directors differ in how many there are.
    for (site, first, count) in [(&one, 0, 2), (&other, 100, 3)] {
        for (number, label) in (first..).zip(SERVERS) {
            servers.start(site, label, number, vip);
        }
        let backends = SERVERS.iter().take(count);
        let backends = backends.map(|label| site.at(label, Leg::Back, Family::V4).to_string());
        let rules = [Proto::Tcp, Proto::Udp]
            .map(|proto| Rule::new(proto.name(), vip, proto.name(), "dr", backends.clone()));
        directors.push((site.start(&rules).await, first, count));
    }
    let sites = [&one, &other];
    let check = async |lb: Option<usize>| {
        for (at, (site, (director, first, count))) in sites.iter().zip(&directors).enumerate() {
            let mut had = vec![0; *count];
            for (proto, seed) in [Proto::Tcp, Proto::Udp].into_iter().zip(0..) {
                for _ in 0..6 {
                    let mut talk = Talk::open(site, proto, vip).await.unwrap();
                    let (number, _) = talk.exchange(seed, 1000).await.unwrap();
                    had[usize::from(number - first)] += 1;
                }
            }
            assert_eq!(had, vec![12 / count; *count], "director {at}");
            if lb.is_none_or(|left| left == at) {
                let status = director.status().await;
                let all = counters(&status, "tcp");
                assert_eq!(all.len(), *count);
                assert!(
                    all.iter().all(|c| c["connections"].as_u64().unwrap() > 0),
                    "{all:?}"
                );
            }
        }
    };
    check(None).await;
    // One process is gone: neither its own packets nor those of the other notice.
    directors[0].0.0.kill().unwrap();
    check(Some(1)).await;
    let mut directors = directors.into_iter().map(|(lb, ..)| lb);
    one.close(directors.next().unwrap());
    other.close(directors.next().unwrap());
}
