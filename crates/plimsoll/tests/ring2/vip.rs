//! VIPs: added, announced to neighbours whose kernels are real ones, kept, and taken away again.

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};
use std::time::Duration;

use plimsoll_testkit::{Client, ClientPlan, Daemon, DaemonPlan, Reuse, list, until};
use serde_json::Value;

use crate::config::DAEMON;
use crate::lab::{Lab, Lb, SOON};

const V4: &str = "10.77.0.200";
const V6: &str = "fd77::200";

fn ip(lab: &Lab, label: &str, args: &str) -> String {
    let words: Vec<&str> = args.split_whitespace().collect();
    lab.net().namespace(label).unwrap().ip(&words).unwrap()
}

/// The word after another one in what `ip` says.
fn after(text: &str, word: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    words.find(|found| *found == word)?;
    words.next().map(str::to_owned)
}

fn mac(lab: &Lab, label: &str) -> String {
    after(&ip(lab, label, "-o link show eth0"), "link/ether").unwrap()
}

/// Where the client's kernel believes an address to be.
fn believed(lab: &Lab, vip: &str) -> Option<String> {
    after(
        &ip(lab, "client", &format!("neigh show to {vip} dev eth0")),
        "lladdr",
    )
}

/// Whether a host has an address.
fn has(lab: &Lab, label: &str, vip: &str) -> bool {
    let all = ip(lab, label, "-o address show dev eth0");
    all.contains(&format!(" {vip}/"))
}

/// A lab in which everybody has IPv6 addresses, too, without asking for duplicates.
fn lab(test: &str, servers: &[&str]) -> Option<Lab> {
    let lab = Lab::new(test, servers)?;
    for (n, label) in ["client", "lb"].iter().chain(servers).enumerate() {
        let address = format!("address add fd77::{}/64 dev eth0 nodad", n + 1);
        ip(&lab, label, &address);
    }
    Some(lab)
}

/// A TCP service on both VIPs, of one backend.
fn config(vips: &str, port: u16, backend: SocketAddr) -> String {
    let listens = [V4, &format!("[{V6}]")];
    service(listens, vips, port, backend)
}

/// The same on any address.
fn anywhere(vips: &str, port: u16, backend: SocketAddr) -> String {
    service(["0.0.0.0", "[::]"], vips, port, backend)
}

fn service([v4, v6]: [&str; 2], vips: &str, port: u16, backend: SocketAddr) -> String {
    format!(
        "{DAEMON}[[service]]\nname = \"web\"\nlisten = [\"{v4}:{port}/tcp\", \"{v6}:{port}/tcp\"]\n{vips}\n\
         backends = [\"{backend}\"]\n"
    )
}

fn vips() -> String {
    format!(
        "vip = [{{ address = \"{V4}\", interface = \"eth0\" }}, {{ address = \"{V6}\", interface = \"eth0\" }}]"
    )
}

fn exchange(lab: &Lab, vip: &str, port: u16) -> ClientPlan {
    let target: IpAddr = vip.parse().unwrap();
    ClientPlan {
        place: lab.place("client"),
        reuse: Reuse::Never,
        ..ClientPlan::tcp(SocketAddr::new(target, port))
    }
}

/// A VIP in the status.
fn shown(status: &Value, vip: &str) -> Value {
    let all = list(&status["vips"]);
    let found = all.iter().find(|v| {
        v["address"]
            .as_str()
            .unwrap()
            .starts_with(&format!("{vip}/"))
    });
    found.cloned().unwrap_or_default()
}

async fn wait(lab: &Lab, what: &str, holds: impl Fn() -> bool) {
    until(
        SOON,
        what,
        async || holds(),
        || {
            format!(
                "{}\n{}",
                ip(lab, "lb", "address"),
                ip(lab, "client", "neigh")
            )
        },
    )
    .await;
}

/// Waits until a VIP was announced so often that no series of announcements is under way.
async fn quiet(lb: &Lb, vip: &str, times: u64) {
    until(
        Duration::from_secs(30),
        "announced",
        async || shown(&lb.status().await, vip)["announced"].as_u64() >= Some(times),
        || lb.0.log(),
    )
    .await;
}

/// Ends a daemon in order.
async fn stop(lb: &mut Lb) {
    lb.0.term().unwrap();
    lb.0.wait(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_learn_who_has_it_now() {
    let test = "neighbours_learn_who_has_it_now";
    let Some(lab) = lab(test, &["old", "s1"]) else {
        return;
    };
    // Another host has the VIPs, and the client knows it.
    for vip in [V4, V6] {
        ip(
            &lab,
            "old",
            &format!("address add {vip}/{} dev eth0 nodad", bits(vip)),
        );
        let _ = Client::run(exchange(&lab, vip, 9), 1).await;
    }
    let old = mac(&lab, "old");
    for vip in [V4, V6] {
        wait(&lab, "the client knows the old host", || {
            believed(&lab, vip) == Some(old.clone())
        })
        .await;
        ip(
            &lab,
            "old",
            &format!("address del {vip}/{} dev eth0", bits(vip)),
        );
    }
    let _backend = lab.tcp("s1", 3001);
    let mut lb = lab.start(&config(&vips(), 9000, lab.at("s1", 3001))).await;
    // Nobody sends the client anything but the announcements, nor asks for anything.
    let new = mac(&lab, "lb");
    for vip in [V4, V6] {
        wait(&lab, "the client knows the director", || {
            believed(&lab, vip) == Some(new.clone())
        })
        .await;
        Client::run(exchange(&lab, vip, 9000), 5)
            .await
            .assert_clean();
        let status = lb.status().await;
        let shown = shown(&status, vip);
        assert_eq!(shown["state"], "added", "{status:#}");
        assert_eq!(shown["interface"], "eth0");
        assert_eq!(shown["services"], serde_json::json!(["web"]));
        assert!(shown["announced"].as_u64() >= Some(1), "{shown}");
    }
    let told = lb.tell(&["status"]);
    assert!(
        told.contains(&format!("vip {V4}/32 at eth0  added for")),
        "{told}"
    );
    let metrics = lb.0.admin_get("/metrics").await.unwrap().text();
    let line = format!("plimsoll_vip_added{{address=\"{V6}/128\",interface=\"eth0\"}} 1\n");
    assert!(metrics.contains(&line), "{metrics}");
    stop(&mut lb).await;
    assert!(!has(&lab, "lb", V4) && !has(&lab, "lb", V6));
    lab.close(lb);
}

fn bits(vip: &str) -> u8 {
    if vip.contains(':') { 128 } else { 32 }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_stays() {
    let Some(lab) = lab("what_was_there_before_stays", &["s1"]) else {
        return;
    };
    let _backend = lab.tcp("s1", 3001);
    // With another length of its network: it is the same address.
    ip(&lab, "lb", &format!("address add {V4}/24 dev eth0"));
    let mut lb = lab.start(&config(&vips(), 9000, lab.at("s1", 3001))).await;
    let status = lb.status().await;
    assert_eq!(shown(&status, V4)["state"], "was-there", "{status:#}");
    assert_eq!(shown(&status, V6)["state"], "added", "{status:#}");
    Client::run(exchange(&lab, V4, 9000), 5)
        .await
        .assert_clean();
    // The service gives up one of them, and then all.
    let only = format!("vip = {{ address = \"{V4}\", interface = \"eth0\" }}");
    let backend = lab.at("s1", 3001);
    lb.0.replace_config(&config(&only, 9000, backend)).unwrap();
    wait(&lab, "one is removed", || !has(&lab, "lb", V6)).await;
    lb.0.replace_config(&config("", 9000, backend)).unwrap();
    lb.until("the other is forgotten", async || {
        list(&lb.status().await["vips"]).is_empty()
    })
    .await;
    assert!(has(&lab, "lb", V4));
    lb.0.replace_config(&config(&vips(), 9000, backend))
        .unwrap();
    wait(&lab, "it comes back", || has(&lab, "lb", V6)).await;
    stop(&mut lb).await;
    assert!(has(&lab, "lb", V4) && !has(&lab, "lb", V6));
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_leaves_them_to_the_next() {
    let Some(lab) = lab("a_killed_daemon_leaves_them_to_the_next", &["s1"]) else {
        return;
    };
    let backend = lab.at("s1", 3001);
    let both = config(&vips(), 9000, backend);
    for next in [&both, &anywhere("", 9000, backend)] {
        let mut lb = lab.start(&both).await;
        assert!(has(&lab, "lb", V4) && has(&lab, "lb", V6));
        lb.0.kill().unwrap();
        lb.0.wait(SOON).await.unwrap();
        drop(lb);
        assert!(has(&lab, "lb", V4) && has(&lab, "lb", V6));
        let mut lb = lab.start(next).await;
        if next == &both {
            let status = lb.status().await;
            assert_eq!(shown(&status, V4)["state"], "added", "{status:#}");
            assert!(has(&lab, "lb", V4) && has(&lab, "lb", V6));
        } else {
            wait(&lab, "what nobody wants is removed", || {
                !has(&lab, "lb", V4) && !has(&lab, "lb", V6)
            })
            .await;
        }
        stop(&mut lb).await;
        assert!(!has(&lab, "lb", V4) && !has(&lab, "lb", V6));
    }
    lab.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_by_hand_or_with_the_link_it_comes_back_and_is_announced() {
    let Some(lab) = lab("removed_by_hand_or_with_the_link", &["s1"]) else {
        return;
    };
    let _backend = lab.tcp("s1", 3001);
    let lb = lab.start(&config(&vips(), 9000, lab.at("s1", 3001))).await;
    let director = mac(&lab, "lb");
    // The client is told nonsense, and is put right by nothing but an announcement.
    let mislead = |vip: &str| {
        let nonsense = "lladdr 02:00:00:00:00:99 dev eth0 nud stale";
        ip(&lab, "client", &format!("neigh replace {vip} {nonsense}"));
    };
    for vip in [V4, V6] {
        quiet(&lb, vip, 5).await;
        mislead(vip);
        ip(
            &lab,
            "lb",
            &format!("address del {vip}/{} dev eth0", bits(vip)),
        );
        wait(&lab, "it is back and announced", || {
            has(&lab, "lb", vip) && believed(&lab, vip) == Some(director.clone())
        })
        .await;
        let status = lb.status().await;
        assert_eq!(shown(&status, vip)["restored"], 1, "{status:#}");
    }
    for vip in [V4, V6] {
        quiet(&lb, vip, 10).await;
    }
    mislead(V4);
    mislead(V6);
    ip(&lab, "lb", "link set eth0 down");
    assert!(
        !has(&lab, "lb", V6),
        "the kernel takes it away with the link"
    );
    ip(&lab, "lb", "link set eth0 up");
    for vip in [V4, V6] {
        wait(&lab, "it is there and announced again", || {
            has(&lab, "lb", vip) && believed(&lab, vip) == Some(director.clone())
        })
        .await;
    }
    ip(&lab, "lb", "address add fd77::2/64 dev eth0 nodad");
    for vip in [V4, V6] {
        Client::run(exchange(&lab, vip, 9000), 5)
            .await
            .assert_clean();
    }
    lab.close(lb);
}

/// `ip monitor`, which tells of every address that goes.
struct Monitor(Child);

impl Monitor {
    async fn start(lab: &Lab) -> Self {
        let namespace = lab.net().namespace("lb").unwrap();
        let mut command = namespace.command("ip");
        command.args(["monitor", "address"]).stdout(Stdio::piped());
        let monitor = Self(command.spawn().unwrap());
        let pid = monitor.0.id();
        // It listens once it has a socket of its kind.
        wait(lab, "the monitor listens", || {
            let sockets = std::fs::read_to_string(format!("/proc/{pid}/net/netlink"));
            let sockets = sockets.unwrap_or_default();
            let mut lines = sockets
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>());
            let (pid, none) = (pid.to_string(), "00000000");
            lines.any(|words| words.get(2) == Some(&pid.as_str()) && words.get(3) != Some(&none))
        })
        .await;
        monitor
    }

    fn stop(mut self) -> String {
        self.0.kill().unwrap();
        let mut text = String::new();
        let mut out = self.0.stdout.take().unwrap();
        std::io::Read::read_to_string(&mut out, &mut text).unwrap();
        self.0.wait().unwrap();
        text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_takes_over_without_a_gap() {
    let Some(lab) = lab("another_process_takes_over_without_a_gap", &["s1"]) else {
        return;
    };
    let _backend = lab.tcp("s1", 3001);
    let backend = lab.at("s1", 3001);
    let mut old = lab.start(&config(&vips(), 9000, backend)).await;
    let monitor = Monitor::start(&lab).await;
    let mut new = lab.start(&config(&vips(), 9001, backend)).await;
    // A third one has nothing to do with them.
    let other = lab.start(&anywhere("", 9002, backend)).await;
    stop(&mut old).await;
    assert!(
        old.0.log().contains("another process has it"),
        "{}",
        old.0.log()
    );
    assert!(has(&lab, "lb", V4) && has(&lab, "lb", V6));
    for vip in [V4, V6] {
        Client::run(exchange(&lab, vip, 9001), 5)
            .await
            .assert_clean();
    }
    let told = monitor.stop();
    assert!(!told.contains("Deleted"), "{told}");
    stop(&mut new).await;
    assert!(!has(&lab, "lb", V4) && !has(&lab, "lb", V6));
    drop((old, new));
    lab.close(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_comes_later_gets_its_address_then() {
    let Some(lab) = lab("an_interface_that_comes_later", &["s1"]) else {
        return;
    };
    let _backend = lab.tcp("s1", 3001);
    let backend = lab.at("s1", 3001);
    let late = "vip = { address = \"10.78.0.1\", interface = \"late0\" }";
    let text = format!(
        "{}\n[[service]]\nname = \"late\"\nlisten = \"10.78.0.1:9000/tcp\"\n{late}\nbackends = [\"{backend}\"]\n",
        config(&vips(), 9000, backend)
    );
    let lb = Lb(Daemon::start(lab.plan(&text)).await.unwrap());
    lb.until("the rest is in force", async || {
        shown(&lb.status().await, V4)["state"] == "added"
    })
    .await;
    Client::run(exchange(&lab, V4, 9000), 5)
        .await
        .assert_clean();
    let status = lb.status().await;
    let missing = shown(&status, "10.78.0.1");
    assert_eq!(missing["state"], "missing", "{status:#}");
    assert!(
        missing["reason"]
            .as_str()
            .unwrap()
            .contains("no interface late0")
    );
    assert!(lb.0.log().contains("no interface late0"), "{}", lb.0.log());
    let warned = lb_check(&lab, &lb);
    assert!(
        warned.contains("there is no interface late0 here"),
        "{warned}"
    );
    assert!(!warned.contains("eth0 here"), "{warned}");
    ip(&lab, "lb", "link add late0 type veth peer name late1");
    ip(&lab, "lb", "link set late0 up");
    ip(&lab, "lb", "link set late1 up");
    lb.until("it is added and listened on", async || {
        let status = lb.status().await;
        shown(&status, "10.78.0.1")["state"] == "added" && status["ready"] == true
    })
    .await;
    ip(&lab, "client", "route add 10.78.0.1/32 via 10.77.0.2");
    Client::run(exchange(&lab, "10.78.0.1", 9000), 5)
        .await
        .assert_clean();
    lab.close(lb);
}

/// What `check` says of the configuration of a daemon, in the daemon's namespace.
fn lb_check(lab: &Lab, lb: &Lb) -> String {
    let mut command = lab
        .net()
        .namespace("lb")
        .unwrap()
        .command(crate::lab::BINARY);
    let out = command
        .arg("check")
        .arg(lb.0.config_path())
        .output()
        .unwrap();
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_privilege_the_service_is_there_and_the_reason_is_told() {
    let Some(lab) = lab("without_the_privilege", &["s1"]) else {
        return;
    };
    let _backend = lab.tcp("s1", 3001);
    let backend = lab.at("s1", 3001);
    let text = anywhere(&vips(), 9000, backend);
    let plan = lab.plan(&text);
    let args = [plan.args, ["--user", "64421"].map(str::to_owned).into()].concat();
    let lb = Lb(Daemon::start(DaemonPlan { args, ..plan }).await.unwrap());
    lb.until("it is ready", async || lb.status().await["ready"] == true)
        .await;
    let lb_address = lab.at("lb", 9000).ip().to_string();
    Client::run(exchange(&lab, &lb_address, 9000), 5)
        .await
        .assert_clean();
    let status = lb.status().await;
    for vip in [V4, V6] {
        let shown = shown(&status, vip);
        assert_eq!(shown["state"], "missing", "{status:#}");
        assert!(
            shown["reason"].as_str().unwrap().contains("CAP_NET_ADMIN"),
            "{shown}"
        );
    }
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_packet_plane_gets_them_too() {
    let Some(lab) = lab("the_packet_plane_gets_them_too", &["s1"]) else {
        return;
    };
    let lb_space = lab.net().namespace("lb").unwrap();
    lb_space
        .run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap())
        .unwrap();
    // The way back leads through the director.
    ip(&lab, "s1", "route add 10.77.0.1/32 via 10.77.0.2");
    let _backend = lab.tcp("s1", 3001);
    let server = lab.at("s1", 3001);
    let vip = format!("vip = {{ address = \"{V4}\", interface = \"eth0\" }}");
    let text = format!(
        "{DAEMON}[ebpf]\nflows = 10_000\n[[service]]\nname = \"web\"\nlisten = \"{V4}:9000/tcp\"\n{vip}\n\
         plane = \"ebpf\"\nbackends = [{{ address = \"{server}\", forward = \"nat\" }}]\n"
    );
    let mut lb = lab.start(&text).await;
    let status = lb.status().await;
    assert_eq!(status["services"][0]["plane"], "ebpf", "{status:#}");
    assert_eq!(shown(&status, V4)["state"], "added", "{status:#}");
    Client::run(exchange(&lab, V4, 9000), 5)
        .await
        .assert_clean();
    stop(&mut lb).await;
    assert!(!has(&lab, "lb", V4));
    lab.close(lb);
}
