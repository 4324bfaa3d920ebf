//! Hosts of containers: what these answer passes the host's own forwarding.

use plimsoll_testkit::{HttpBackend, Namespace, Net, TempDir};

use super::director::{service, vip};
use super::ward::{Ward, set, shell};
use crate::lab::{BINARY, Lab, ended};

const CONTAINER: &str = "172.30.0.2";

/// A container behind a bridge of a host, as Docker has it.
fn container(net: &Net, host: &str) -> Namespace {
    let host = net.namespace(host).unwrap();
    let container = Namespace::new("container").unwrap();
    set(host, "net/ipv4/ip_forward", "1");
    let name = container.name();
    for line in [
        "ip link add br0 type bridge",
        "ip address add 172.30.0.1/24 dev br0",
        "ip link set br0 up",
        &format!("ip link add v1 type veth peer name eth0 netns {name}"),
        "ip link set v1 master br0 up",
    ] {
        shell(host, line);
    }
    for line in [
        format!("ip address add {CONTAINER}/24 dev eth0"),
        "ip link set eth0 up".to_owned(),
        "ip route add default via 172.30.0.1".to_owned(),
    ] {
        shell(&container, &line);
    }
    container
}

fn serve(container: &Namespace) -> HttpBackend {
    HttpBackend::start_at("container", &container.place(), vip()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_director_answer_through_it() {
    let Some(lab) = Lab::new("containers_of_a_director", &[]) else {
        return;
    };
    let host = lab.net().namespace("lb").unwrap();
    set(host, "net/ipv4/conf/all/send_redirects", "0");
    set(host, "net/ipv4/conf/eth0/send_redirects", "0");
    shell(host, &format!("ip address add {}/32 dev eth0", vip().ip()));
    let container = container(lab.net(), "lb");
    set(&container, "net/ipv4/conf/all/arp_ignore", "1");
    set(&container, "net/ipv4/conf/all/arp_announce", "2");
    shell(
        &container,
        &format!("ip address add {}/32 dev lo", vip().ip()),
    );
    let server = serve(&container);
    let lb = lab.start(&service(CONTAINER, "dr")).await;
    let ward = Ward {
        patient: host,
        client: Some((lab.net().namespace("client").unwrap(), vip())),
        args: vec!["--admin".into(), lb.0.admin_path().display().to_string()],
        state: TempDir::new().unwrap(),
    };
    // As it is to begin with.
    ward.is_broken("nothing", "accept-local", true);
    ward.breaks("sysctl -w net.ipv4.conf.all.rp_filter=1", "rp-filter", true);
    for (line, check) in [
        (
            "nft 'add table inet f; add chain inet f fw { type filter hook forward priority 0; policy drop; }; \
             add rule inet f fw ct state established,related accept'",
            "forward-policy",
        ),
        (
            "nft 'add table ip f; add chain ip f fw { type filter hook forward priority 0; }; \
             add rule ip f fw ct state invalid drop'",
            "conntrack-invalid",
        ),
        (
            "nft 'add table inet f; add chain inet f fw { type filter hook forward priority 0; }; \
             add rule inet f fw ct state vmap { established : accept, related : accept, invalid : drop }'",
            "conntrack-invalid",
        ),
        (
            "nft 'add table inet f; add chain inet f sub; add rule inet f sub iifname \"br*\" drop; \
             add chain inet f fw { type filter hook forward priority 0; }; add rule inet f fw jump sub'",
            "firewall-rule",
        ),
        ("iptables -P FORWARD DROP", "forward-policy"),
        (
            "iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP",
            "conntrack-invalid",
        ),
        (
            "iptables -t mangle -A PREROUTING -i br0 -m conntrack --ctstate INVALID -j DROP",
            "conntrack-invalid",
        ),
    ] {
        ward.breaks(line, check, true);
        shell(host, "nft flush ruleset");
    }
    ward.breaks("iptables-legacy -P FORWARD DROP", "forward-policy", true);
    drop((ward, server, container));
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_lets_a_director_elsewhere_reach_its_containers() {
    let Some(lab) = Lab::new("a_director_elsewhere", &["host"]) else {
        return;
    };
    let director = lab.net().namespace("lb").unwrap();
    set(director, "net/ipv4/ip_forward", "1");
    shell(
        director,
        &format!("ip address add {}/32 dev eth0", vip().ip()),
    );
    let gateway = lab.at("host", 1).ip();
    shell(
        director,
        &format!("ip route add 172.30.0.0/24 via {gateway}"),
    );
    let host = lab.net().namespace("host").unwrap();
    let container = container(lab.net(), "host");
    // No director is on the bridge.
    set(host, "net/bridge/bridge-nf-call-iptables", "0");
    let state = TempDir::new().unwrap();
    let mut command = host.command(BINARY);
    let place = format!("/run/netns/{}", container.name());
    let vip_alone = vip().ip().to_string();
    command.args(["node", "--once", "--vip", &vip_alone, "--container", &place]);
    command
        .args(["--interface", "eth0", "--state"])
        .arg(state.path());
    let done = ended(command);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let server = serve(&container);
    let lb = lab.start(&service(CONTAINER, "tunnel")).await;
    let ward = Ward {
        patient: host,
        client: Some((lab.net().namespace("client").unwrap(), vip())),
        args: vec!["--admin".into(), "/nobody.sock".into()],
        state,
    };
    ward.is_well();
    let shown = ward.ask(&["--all"]).out;
    assert!(shown.contains("host of the node 172.30.0.2"), "{shown}");
    ward.breaks(
        "iptables -t raw -A PREROUTING -d 172.30.0.2/32 ! -i br0 -j DROP",
        "raw-table",
        true,
    );
    shell(host, "nft flush ruleset");
    ward.breaks("iptables -P FORWARD DROP", "forward-policy", true);
    shell(host, "nft flush ruleset");
    ward.breaks("sysctl -w net.ipv4.conf.all.rp_filter=1", "rp-filter", true);
    ward.breaks("sysctl -w net.ipv4.ip_forward=0", "answer-forwarding", true);
    // What is wrong inside the container is mended from the host.
    ward.breaks(
        &format!(
            "nsenter --net={place} ip address del {}/32 dev lo",
            vip().ip()
        ),
        "node-vip",
        true,
    );
    ward.breaks(
        &format!("nsenter --net={place} sysctl -w net.ipv4.conf.all.arp_ignore=0"),
        "arp-ignore",
        false,
    );
    drop((ward, server, container));
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_a_bridge_passes_no_rules() {
    let Some(lab) = Lab::new("what_passes_a_bridge", &["host"]) else {
        return;
    };
    let host = lab.net().namespace("host").unwrap();
    let node = container(lab.net(), "host");
    // A second container on the bridge: it sends packets for the VIP to the first one, as a director does.
    let other = Namespace::new("other").unwrap();
    let (name, inner) = (other.name(), node.name());
    shell(
        host,
        &format!("ip link add v2 type veth peer name eth0 netns {name}"),
    );
    shell(host, "ip link set v2 master br0 up");
    shell(
        &other,
        "ip address add 172.30.0.3/24 dev eth0; ip link set eth0 up",
    );
    let vip_alone = vip().ip().to_string();
    let state = TempDir::new().unwrap();
    let mut command = host.command(BINARY);
    let place = format!("/run/netns/{inner}");
    command.args(["node", "--once", "--vip", &vip_alone, "--container", &place]);
    command
        .args(["--interface", "eth0", "--state"])
        .arg(state.path());
    let done = ended(command);
    assert_eq!(done.code, Some(0), "{}", done.err);
    shell(&other, &format!("ip route add {vip_alone} via {CONTAINER}"));
    let server = serve(&node);
    let ward = Ward {
        patient: host,
        client: Some((&other, vip())),
        args: vec!["--admin".into(), "/nobody.sock".into()],
        state,
    };
    set(host, "net/bridge/bridge-nf-call-iptables", "1");
    ward.is_well();
    ward.breaks(
        "iptables -A FORWARD -i br0 -o br0 -j DROP",
        "bridge-netfilter",
        true,
    );
    drop(ward);
    drop((server, node, other));
    lab.end();
}
