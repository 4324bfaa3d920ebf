//! Everything is taken back, whoever ended how.

use std::fs;
use std::process::{Command, Stdio};

use plimsoll_testkit::wait_until;
use rustix::process::Signal;

use super::site::{BOTH, Site, VIP_V4, VIP_V6, ip};
use crate::lab::{BINARY, SOON, ended};

/// A host whose settings are not the usual ones.
fn site(test: &str) -> Option<Site> {
    let site = Site::new(test)?;
    site.set("node", "net/ipv4/conf/eth0/rp_filter", "1");
    site.set("node", "net/ipv4/conf/all/arp_announce", "1");
    Some(site)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_takes_everything_back() {
    let Some(site) = site("an_end_takes_everything_back") else {
        return;
    };
    let before = site.snapshot();
    let missing = site.run(&["--vip", BOTH, "--check"]);
    assert_eq!(missing.code, Some(1));
    for line in [
        "missing: net/ipv4/conf/all/arp_ignore is 0, has to be 1",
        "missing: net/ipv4/conf/all/arp_announce is 1, has to be 2",
        "missing: net/ipv4/conf/eth0/rp_filter is 1, has to be 2",
        "missing: eth0 does not unwrap tunnels",
        "missing: lo has no 10.77.9.1",
        "missing: lo has no fd77:9::1",
    ] {
        assert!(missing.out.contains(line), "{line}: {}", missing.out);
    }
    assert!(
        missing.err.contains("6 things are missing"),
        "{}",
        missing.err
    );
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let node = site.start(&["--vip", BOTH]);
        assert_eq!(
            site.tell(&["--vip", BOTH, "--check"]).lines().last(),
            Some("node: all is as it has to be")
        );
        assert_ne!(site.snapshot(), before);
        let (code, told) = node.signal(signal);
        assert_eq!(code, Some(0), "{told:?}");
        site.is_as(&before);
    }
    site.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn once_stays_and_is_taken_back() {
    let Some(site) = site("once_stays_and_is_taken_back") else {
        return;
    };
    let before = site.snapshot();
    let first = site.json(&["--vip", VIP_V4, "--once"]);
    assert_eq!(first["changes"].as_array().unwrap().len(), 5, "{first}");
    let once = site.snapshot();
    let again = site.json(&["--vip", VIP_V4, "--once"]);
    assert_eq!(again["changes"].as_array().unwrap().len(), 0, "{again}");
    site.is_as(&once);
    // Another one beside it, as long as a process runs.
    let node = site.start(&["--vip", VIP_V6]);
    site.tell(&["--vip", BOTH, "--check"]);
    assert_eq!(node.signal(Signal::TERM).0, Some(0));
    site.is_as(&once);
    // What is not there cannot be taken back.
    let wrong = site.run(&["--undo", "--vip", VIP_V6]);
    assert_eq!(wrong.code, Some(1));
    assert!(
        wrong.err.contains("nothing was done for it"),
        "{}",
        wrong.err
    );
    site.tell(&["--undo", "--vip", VIP_V4]);
    site.is_as(&before);
    // There is nothing left, which is no error.
    assert_eq!(site.tell(&["--undo"]), "node: serves nothing\n");
    site.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_one_left_is_taken_over() {
    let Some(site) = site("what_a_killed_one_left_is_taken_over") else {
        return;
    };
    let before = site.snapshot();
    let killed = site.start(&["--vip", BOTH]);
    assert_eq!(killed.signal(Signal::KILL).0, None);
    assert_ne!(site.snapshot(), before, "a killed one takes nothing back");
    let next = site.start(&["--vip", VIP_V4]);
    assert!(
        next.told
            .iter()
            .any(|line| line == "  lo has fd77:9::1 no more"),
        "{:?}",
        next.told
    );
    assert_eq!(next.signal(Signal::TERM).0, Some(0));
    site.is_as(&before);
    // Or by hand.
    let killed = site.start(&["--vip", BOTH]);
    assert_eq!(killed.signal(Signal::KILL).0, None);
    site.tell(&["--undo"]);
    site.is_as(&before);
    site.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_did_is_left_and_told() {
    let Some(site) = site("what_others_did_is_left_and_told") else {
        return;
    };
    site.ip("node", &["address", "add", "10.77.9.1/32", "dev", "lo"]);
    let node = site.start(&["--vip", BOTH]);
    site.set("node", "net/ipv4/conf/all/arp_announce", "0");
    let (code, told) = node.signal(Signal::TERM);
    assert_eq!(code, Some(0));
    for line in [
        "  10.77.9.1 stays on lo: it was there before",
        "  net/ipv4/conf/all/arp_announce stays 0: it was 1 and was set to 2, and somebody has changed it since",
    ] {
        assert!(told.iter().any(|other| other == line), "{line}: {told:?}");
    }
    assert!(
        site.ip("node", &["address", "show", "dev", "lo"])
            .contains("10.77.9.1/32")
    );
    site.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_takes_care_of_a_node() {
    let Some(site) = site("one_process_takes_care_of_a_node") else {
        return;
    };
    let node = site.start(&["--vip", VIP_V4]);
    let second = site.run(&["--vip", VIP_V6]);
    assert_eq!(second.code, Some(1));
    let holder = format!("another plimsoll node (process {})", node.id());
    assert!(second.err.contains(&holder), "{}", second.err);
    assert_eq!(node.signal(Signal::TERM).0, Some(0));
    site.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn printed_commands_do_the_same() {
    let Some(site) = site("printed_commands_do_the_same") else {
        return;
    };
    let before = site.snapshot();
    let sh = |commands: &str| {
        let mut shell = site.namespace("node").command("sh");
        shell.args(["-e", "-c", commands]);
        let ended = ended(shell);
        assert_eq!(ended.code, Some(0), "{commands}: {}", ended.err);
    };
    let commands = site.tell(&["--vip", BOTH, "--print"]);
    site.is_as(&before);
    site.tell(&["--vip", BOTH, "--no-unwrap", "--once"]);
    let done = site.snapshot();
    let back = site.tell(&["--undo", "--print"]);
    site.is_as(&done);
    site.tell(&["--undo"]);
    sh(&commands);
    sh(&commands);
    site.is_as(&done);
    sh(&back);
    site.is_as(&before);
    site.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_from_outside() {
    let Some(site) = site("a_container_from_outside") else {
        return;
    };
    let before = site.snapshot();
    // By the path of its namespace.
    let path = format!("/run/netns/{}", site.namespace("node").name());
    let node = site.start_outside(&["--vip", BOTH, "--container", &path]);
    site.tell(&["--vip", BOTH, "--check"]);
    assert_eq!(node.signal(Signal::INT).0, Some(0));
    site.is_as(&before);
    // The same as commands, for a shell here.
    let mut print = Command::new(BINARY);
    print.args([
        "node",
        "--vip",
        VIP_V4,
        "--container",
        &path,
        "--interface",
        "eth0",
    ]);
    print.arg("--print").arg("--state").arg(site.state.path());
    let commands = ended(print).out;
    let line = format!("nsenter --net={path} ip address replace 10.77.9.1/32 dev lo\n");
    assert!(commands.contains(&line), "{commands}");
    // By a process in it, whose end is the end.
    let mut sleeper = site.namespace("node").command("sleep");
    let mut sleeper = sleeper.arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let id = sleeper.id().to_string();
    // Until it has entered the namespace it is a process of this one.
    let inside = || fs::read_link("/proc/thread-self/ns/net").unwrap();
    let inside = site.namespace("node").run(inside).unwrap();
    let entered = wait_until(SOON, || {
        fs::read_link(format!("/proc/{id}/ns/net")).is_ok_and(|there| there == inside)
    });
    assert!(entered);
    let mut node = site.start_outside(&["--vip", BOTH, "--container", &id]);
    site.tell(&["--vip", BOTH, "--check"]);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(node.end().0, Some(1));
    site.is_as(&before);
    site.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_named() {
    let Some(site) = site("what_is_in_the_way_is_named") else {
        return;
    };
    let before = site.snapshot();
    site.set("node", "net/ipv6/conf/lo/disable_ipv6", "1");
    let wrong = site.run(&["--vip", BOTH]);
    assert_eq!(wrong.code, Some(1));
    assert!(
        wrong
            .err
            .contains("sysctl -w net/ipv6/conf/lo/disable_ipv6=0"),
        "{}",
        wrong.err
    );
    site.set("node", "net/ipv6/conf/lo/disable_ipv6", "0");
    // Without IPv6 the loopback lost its address of that family, and has it back now.
    site.is_as(&before);
    site.ip("node", &["address", "add", "10.77.9.1/32", "dev", "eth0"]);
    let found = site.run(&["--vip", VIP_V4, "--check"]);
    let line = format!("{} is an address of eth0", ip(VIP_V4));
    assert!(found.out.contains(&line), "{}", found.out);
    site.close();
}
