//! Nodes.

use plimsoll_testkit::TempDir;

use super::ward::{Ward, shell};
use crate::lab::{BINARY, Lab, ended};

const VIP: &str = "10.77.0.200";

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_node_is_named_and_mended() {
    let Some(lab) = Lab::new("every_fault_of_a_node", &[]) else {
        return;
    };
    let node = lab.net().namespace("lb").unwrap();
    let listener = node.run(|| std::net::TcpListener::bind("0.0.0.0:8080"));
    let listener = listener.unwrap().unwrap();
    let state = TempDir::new().unwrap();
    let folder = state.path().display().to_string();
    let mut command = node.command(BINARY);
    command.args(["node", "--vip", VIP, "--once", "--interface", "eth0"]);
    command.args(["--state", &folder]);
    let done = ended(command);
    assert_eq!(done.code, Some(0), "{}", done.err);
    // By itself, from what `plimsoll node` has written down.
    let ward = Ward {
        patient: node,
        client: None,
        args: vec!["--node".into()],
        state,
    };
    ward.is_well();
    let shown = ward.ask(&["--all"]).out;
    assert!(shown.contains(&format!("node for {VIP}")), "{shown}");
    assert!(shown.contains("eth0 unwraps tunnels"), "{shown}");
    ward.breaks(
        &format!("ip address del {VIP}/32 dev lo"),
        "node-vip",
        false,
    );
    ward.breaks(
        &format!("ip address add {VIP}/32 dev eth0"),
        "node-vip",
        false,
    );
    ward.breaks(
        &format!("ip address del {VIP}/32 dev lo; ip address add {VIP}/28 dev lo"),
        "node-vip",
        false,
    );
    ward.breaks(
        "sysctl -w net.ipv4.conf.all.arp_ignore=0",
        "arp-ignore",
        false,
    );
    ward.breaks(
        "sysctl -w net.ipv4.conf.eth0.arp_ignore=3",
        "arp-ignore",
        false,
    );
    ward.breaks(
        "sysctl -w net.ipv4.conf.all.arp_announce=0",
        "arp-announce",
        false,
    );
    ward.breaks(
        "sysctl -w net.ipv4.conf.all.rp_filter=1",
        "node-rp-filter",
        false,
    );
    ward.breaks("ip link set dev eth0 down", "node-link", false);
    ward.breaks(
        "nft 'add table inet f; add chain inet f in { type filter hook input priority 0; policy drop; }'",
        "node-firewall",
        false,
    );
    shell(node, "nft flush ruleset");
    ward.breaks("iptables -P INPUT DROP", "node-firewall", false);
    shell(node, "nft flush ruleset");
    // Whoever is not a node yet is told what is missing.
    let ward = Ward {
        args: ["--vip", "10.77.0.201", "--interface", "eth0", "--no-unwrap"]
            .map(str::to_owned)
            .into(),
        ..ward
    };
    ward.is_broken("another VIP", "node-vip", false);
    drop(listener);
    let wrong = ward.wrong();
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    assert_eq!(wrong[0]["check"], "listener");
    drop(ward);
    lab.end();
}
