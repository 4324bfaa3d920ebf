//! Daemons that come one after another, or are there at the same time: the packet plane changes hands, and
//! VIPs stay where they are needed.

use std::net::SocketAddr;

use plimsoll_testkit::{Client, ClientPlan, Daemon, Reuse, list, until};

use crate::config::DAEMON;
use crate::lab::{Lab, Lb, SOON};

const VIP: &str = "10.77.0.200";

fn vip(port: u16) -> SocketAddr {
    SocketAddr::new(VIP.parse().unwrap(), port)
}

fn ip(lab: &Lab, args: &str) -> String {
    let words: Vec<&str> = args.split_whitespace().collect();
    lab.net().namespace("lb").unwrap().ip(&words).unwrap()
}

fn has(lab: &Lab, address: &str) -> bool {
    ip(lab, "-o address show dev eth0").contains(&format!(" {address} "))
}

/// A lab whose director forwards, and whose server answers by it.
fn lab(test: &str) -> Option<Lab> {
    let lab = Lab::new(test, &["s1"])?;
    let director = lab.net().namespace("lb").unwrap();
    director
        .run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap())
        .unwrap();
    let server = lab.net().namespace("s1").unwrap();
    server
        .ip(&["route", "add", "10.77.0.1/32", "via", "10.77.0.2"])
        .unwrap();
    Some(lab)
}

/// A service of the packet plane that brings its VIP along.
fn packets(lab: &Lab) -> String {
    let server = lab.at("s1", 3001);
    format!(
        "{DAEMON}[ebpf]\nflows = 100_000\n[[service]]\nname = \"web\"\nlisten = \"{VIP}:9000/tcp\"\n\
         vip = {{ address = \"{VIP}\", interface = \"eth0\" }}\n\
         backends = [{{ address = \"{server}\", forward = \"nat\" }}]\n"
    )
}

/// A service of the proxy with VIPs.
fn proxied(lab: &Lab, port: u16, vips: &str) -> String {
    let server = lab.at("s1", 3001);
    format!(
        "{DAEMON}[[service]]\nname = \"other\"\nlisten = \"0.0.0.0:{port}/tcp\"\n{vips}\nbackends = [\"{server}\"]\n"
    )
}

fn exchange(lab: &Lab) -> ClientPlan {
    ClientPlan {
        place: lab.place("client"),
        reuse: Reuse::Never,
        ..ClientPlan::tcp(vip(9000))
    }
}

/// A daemon whose service another one carries: started, and it says what it waits for.
async fn second(lab: &Lab, text: &str) -> Lb {
    let lb = Lb(Daemon::start(lab.plan(text)).await.unwrap());
    lb.until("it waits for the other", async || {
        let status = lb.status().await;
        let reasons = list(&status["reasons"]);
        let waits = |why: &serde_json::Value| {
            why.as_str().is_some_and(|why| {
                why.contains("service `web` is put aside for now")
                    && why.contains("another process")
            })
        };
        status["ready"] == false && reasons.iter().any(waits)
    })
    .await;
    lb
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_daemon_has_the_packet_plane_once_the_last_has_ended() {
    let Some(lab) = lab("the_next_daemon_has_the_packet_plane") else {
        return;
    };
    let _backend = lab.tcp("s1", 3001);
    for kill in [false, true] {
        let mut old = lab.start(&packets(&lab)).await;
        let clients = Client::start(ClientPlan {
            pause: std::time::Duration::from_millis(2),
            ..exchange(&lab)
        });
        assert!(clients.more(20, SOON).await);
        let new = second(&lab, &packets(&lab)).await;
        // It does not take from the other what that one has.
        assert!(has(&lab, &format!("{VIP}/32")));
        match kill {
            true => old.0.kill().unwrap(),
            false => old.0.term().unwrap(),
        }
        old.0.wait(SOON).await.unwrap();
        assert!(has(&lab, &format!("{VIP}/32")), "the next one has it, too");
        new.until_ready().await;
        let status = new.status().await;
        assert_eq!(status["services"][0]["plane"], "ebpf", "{status:#}");
        assert!(list(&status["quarantine"]).is_empty(), "{status:#}");
        assert_eq!(status["vips"][0]["state"], "added", "{status:#}");
        assert!(!new.0.log().contains("repaired"), "{}", new.0.log());
        assert!(clients.more(20, SOON).await);
        clients.stop().await.assert_clean();
        drop((old, new));
    }
    lab.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vip_of_a_service_that_is_aside_stays() {
    let Some(lab) = lab("the_vip_of_a_service_that_is_aside_stays") else {
        return;
    };
    let _backend = lab.tcp("s1", 3001);
    let mut old = lab.start(&packets(&lab)).await;
    // Whoever starts now finds the address of nobody, while programs forward.
    let held = lab.net().namespace("lb").unwrap();
    old.0.kill().unwrap();
    old.0.wait(SOON).await.unwrap();
    let lock = held
        .run(|| std::fs::File::open("/proc/thread-self/ns/net").unwrap())
        .unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let mut new = second(&lab, &packets(&lab)).await;
    Client::run(exchange(&lab), 5).await.assert_clean();
    let status = new.status().await;
    assert_eq!(status["vips"][0]["state"], "was-there", "{status:#}");
    // Nor does it take the address away at its own end.
    new.0.term().unwrap();
    new.0.wait(SOON).await.unwrap();
    Client::run(exchange(&lab), 5).await.assert_clean();
    drop(lock);
    let mut last = lab.start(&packets(&lab)).await;
    last.0.term().unwrap();
    last.0.wait(SOON).await.unwrap();
    assert!(!has(&lab, &format!("{VIP}/32")));
    drop((old, new));
    lab.close(last);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_killed_beside_another_keeps_its_vips() {
    let Some(lab) = lab("one_that_is_killed_beside_another") else {
        return;
    };
    let vip = |address: &str| format!("vip = {{ address = \"{address}\", interface = \"eth0\" }}");
    let mut one = lab.start(&proxied(&lab, 9001, &vip("10.77.0.201"))).await;
    let other = lab.start(&proxied(&lab, 9002, &vip("10.77.0.202"))).await;
    one.0.kill().unwrap();
    one.0.wait(SOON).await.unwrap();
    // The other one has certainly looked since when it has put its own one back twice.
    for restored in 1..=2 {
        ip(&lab, "address del 10.77.0.202/32 dev eth0");
        until(
            SOON,
            "it looks",
            async || other.status().await["vips"][0]["restored"] == restored,
            || other.0.log(),
        )
        .await;
        assert!(has(&lab, "10.77.0.201/32"));
    }
    drop(one);
    lab.close(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_the_same_network_stay_when_a_vip_goes() {
    let Some(lab) = lab("addresses_of_the_same_network_stay") else {
        return;
    };
    let director = lab.net().namespace("lb").unwrap();
    let path = "/proc/sys/net/ipv4/conf/eth0/promote_secondaries";
    director
        .run(move || {
            std::fs::write("/proc/sys/net/ipv4/conf/all/promote_secondaries", "0").unwrap();
            std::fs::write(path, "0").unwrap();
        })
        .unwrap();
    let vips = "vip = [{ address = \"10.78.3.9/24\", interface = \"eth0\" }, \
                { address = \"10.78.3.10/24\", interface = \"eth0\" }]";
    let mut lb = lab.start(&proxied(&lab, 9001, vips)).await;
    ip(&lab, "address add 10.78.3.5/24 dev eth0");
    // The first of them goes, and then all.
    let one = "vip = { address = \"10.78.3.10/24\", interface = \"eth0\" }";
    lb.0.replace_config(&proxied(&lab, 9001, one)).unwrap();
    lb.until("one is gone", async || !has(&lab, "10.78.3.9/24"))
        .await;
    assert!(has(&lab, "10.78.3.10/24") && has(&lab, "10.78.3.5/24"));
    lb.0.term().unwrap();
    lb.0.wait(SOON).await.unwrap();
    assert!(!has(&lab, "10.78.3.10/24"));
    assert!(has(&lab, "10.78.3.5/24"));
    let after = director.run(move || std::fs::read_to_string(path).unwrap());
    assert_eq!(after.unwrap().trim(), "0", "it is as it was");
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_packet_planes_settings_is_told() {
    let Some(lab) = lab("a_change_of_the_packet_planes_settings") else {
        return;
    };
    let text = proxied(&lab, 9001, "");
    let lb = lab.start(&text).await;
    let changed = format!("[ebpf]\nflows = 20_000\n{text}");
    lb.0.replace_config(&changed).unwrap();
    lb.until("it is told", async || {
        lb.0.log()
            .contains("[ebpf] has changed: that counts from the next start on")
    })
    .await;
    lab.close(lb);
}
