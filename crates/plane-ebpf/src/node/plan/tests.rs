#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn vips(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

const VIP: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

/// A host with `eth0`, as Debian leaves it.
fn fresh() -> Found {
    let links = BTreeSet::from(["lo".to_owned(), "eth0".to_owned()]);
    let mut found = Found {
        links,
        ..Found::default()
    };
    found.addresses.insert((ip("127.0.0.1"), "lo".to_owned()));
    found.addresses.insert((ip("10.0.0.5"), "eth0".to_owned()));
    for interface in ["all", "lo", "eth0"] {
        for key in ["arp_ignore", "arp_announce", "rp_filter"] {
            found
                .settings
                .insert(format!("net/ipv4/conf/{interface}/{key}"), 0);
        }
    }
    found.settings.insert(name("eth0/rp_filter"), 1);
    found
}

fn name(short: &str) -> String {
    format!("net/ipv4/conf/{short}")
}

/// As the kernel would do it.
fn apply(found: &mut Found, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Set { name, from, to } => {
                let old = found.settings.insert(name.clone(), *to);
                assert_eq!(old, Some(*from), "{name}");
            }
            Change::Unwrap { interface, vips } => {
                found.programs.insert(interface.clone(), vips.clone());
            }
            Change::StopUnwrapping(interface) => {
                assert!(found.programs.remove(interface).is_some());
            }
            Change::Clamp { interface, vips } => {
                found.clamps.insert(interface.clone(), vips.clone());
            }
            Change::StopClamping(interface) => {
                assert!(found.clamps.remove(interface).is_some());
            }
            Change::Add(ip) => assert!(found.addresses.insert((*ip, "lo".to_owned()))),
            Change::Delete(ip) => assert!(found.addresses.remove(&(*ip, "lo".to_owned()))),
        }
    }
}

fn serve(texts: &[&str], stays: bool, state: &State) -> Target {
    Target::serve(&vips(texts), &["eth0".to_owned()], true, stays, state)
}

/// Goes to a target and says what is left as it is.
fn go(target: &Target, found: &mut Found, state: &mut State) -> Vec<String> {
    let planned = towards(target, found, state);
    apply(found, &planned.changes);
    *state = planned.state;
    let again = towards(target, found, state);
    assert_eq!(again.changes, [], "once more changes nothing");
    assert_eq!(&again.state, state);
    planned.left
}

#[test]
fn nothing_is_said_of_a_vip_at_any_time() {
    let planned = towards(
        &serve(&[VIP], false, &State::default()),
        &fresh(),
        &State::default(),
    );
    let set = |short: &str, from, to| Change::Set {
        name: name(short),
        from,
        to,
    };
    assert_eq!(
        planned.changes,
        [
            set("all/arp_ignore", 0, 1),
            set("all/arp_announce", 0, 2),
            set("eth0/rp_filter", 1, 2),
            Change::Unwrap {
                interface: "eth0".to_owned(),
                vips: vips(&[VIP])
            },
            Change::Add(ip(VIP)),
        ]
    );
    let mut found = fresh();
    apply(&mut found, &planned.changes);
    let back = towards(&Target::default(), &found, &planned.state);
    assert_eq!(
        back.changes,
        [
            Change::Delete(ip(VIP)),
            Change::StopUnwrapping("eth0".to_owned()),
            set("all/arp_announce", 2, 0),
            set("all/arp_ignore", 1, 0),
            set("eth0/rp_filter", 2, 1),
        ]
    );
    apply(&mut found, &back.changes);
    assert_eq!(found, fresh());
    assert!(back.state.is_empty());
}

#[test]
fn what_was_there_before_stays() {
    let mut found = fresh();
    found.addresses.insert((ip(VIP), "lo".to_owned()));
    found.settings.insert(name("all/arp_ignore"), 2);
    let before = found.clone();
    let mut state = State::default();
    let target = serve(&[VIP], false, &state);
    assert_eq!(go(&target, &mut found, &mut state), [""; 0]);
    assert!(!state.vips[&ip(VIP)].added);
    let left = go(&Target::after(&state), &mut found, &mut state);
    assert_eq!(left, [format!("{VIP} stays on lo: it was there before")]);
    assert_eq!(found, before);
}

#[test]
fn ipv6_needs_no_settings() {
    let state = State::default();
    let planned = towards(&serve(&["2001:db8::1"], false, &state), &fresh(), &state);
    assert_eq!(planned.changes.len(), 2);
    assert_eq!(planned.changes[1], Change::Add(ip("2001:db8::1")));
}

#[test]
fn what_somebody_else_changed_is_left_and_told() {
    let (mut found, mut state) = (fresh(), State::default());
    go(&serve(&[VIP], false, &state), &mut found, &mut state);
    found.settings.insert(name("all/arp_announce"), 1);
    found.settings.insert(name("all/arp_ignore"), 0);
    found.addresses.remove(&(ip(VIP), "lo".to_owned()));
    let left = go(&Target::default(), &mut found, &mut state);
    assert_eq!(
        left,
        [
            format!("{VIP} is not on lo any more"),
            format!(
                "{} stays 1: it was 0 and was set to 2, and somebody has changed it since",
                name("all/arp_announce")
            ),
        ]
    );
    assert_eq!(found.settings[&name("all/arp_announce")], 1);
    assert_eq!(found.settings[&name("all/arp_ignore")], 0);
    assert_eq!(found.settings[&name("eth0/rp_filter")], 1);
}

#[test]
fn an_interface_that_is_gone_is_no_trouble() {
    let (mut found, mut state) = (fresh(), State::default());
    go(&serve(&[VIP], false, &state), &mut found, &mut state);
    found.settings.retain(|name, _| !name.contains("eth0"));
    found.programs.clear();
    found.links.remove("eth0");
    let left = go(&serve(&[VIP], false, &state), &mut found, &mut state);
    assert_eq!(left, ["eth0 is not there any more"]);
    assert_eq!(go(&Target::default(), &mut found, &mut state), [""; 0]);
    assert!(state.is_empty());
}

#[test]
fn what_a_killed_process_left_is_taken_over() {
    let (mut found, mut state) = (fresh(), State::default());
    go(&serve(&[VIP, OTHER], false, &state), &mut found, &mut state);
    // Killed. The next one serves one of the two.
    go(&serve(&[VIP], false, &state), &mut found, &mut state);
    assert!(!found.addresses.contains(&(ip(OTHER), "lo".to_owned())));
    assert_eq!(found.programs["eth0"], vips(&[VIP]));
    go(&Target::after(&state), &mut found, &mut state);
    assert_eq!(found, fresh());
}

#[test]
fn what_was_written_down_and_not_done_is_done() {
    let (mut found, state) = (fresh(), State::default());
    let planned = towards(&serve(&[VIP], false, &state), &found, &state);
    // Killed in the middle.
    apply(&mut found, &planned.changes[..2]);
    let mut state = planned.state;
    go(&serve(&[VIP], false, &state), &mut found, &mut state);
    assert!(state.vips[&ip(VIP)].added);
    go(&Target::after(&state), &mut found, &mut state);
    assert_eq!(found, fresh());
}

#[test]
fn what_was_done_once_outlives_others() {
    let (mut found, mut state) = (fresh(), State::default());
    go(&serve(&[VIP], true, &state), &mut found, &mut state);
    let once = found.clone();
    go(&serve(&[OTHER], false, &state), &mut found, &mut state);
    assert_eq!(found.programs["eth0"], vips(&[VIP, OTHER]));
    go(&Target::after(&state), &mut found, &mut state);
    assert_eq!(found, once);
    // Another one, once, and each is taken back by itself.
    go(&serve(&[OTHER], true, &state), &mut found, &mut state);
    let target = Target::without(&vips(&[VIP]), &state);
    go(&target, &mut found, &mut state);
    assert_eq!(found.programs["eth0"], vips(&[OTHER]));
    assert_eq!(found.settings[&name("all/arp_ignore")], 1);
    go(
        &Target::without(&BTreeSet::new(), &state),
        &mut found,
        &mut state,
    );
    assert_eq!(found, fresh());
    assert!(state.is_empty());
}

#[test]
fn a_second_interface_gives_back_what_it_had() {
    let (mut found, mut state) = (fresh(), State::default());
    found.links.insert("eth1".to_owned());
    found.settings.insert(name("eth1/rp_filter"), 1);
    let before = found.clone();
    let both = ["eth0".to_owned(), "eth1".to_owned()];
    let target = Target::serve(&vips(&[VIP]), &both, true, false, &state);
    go(&target, &mut found, &mut state);
    assert_eq!(found.settings[&name("eth1/rp_filter")], 2);
    go(&serve(&[VIP], false, &state), &mut found, &mut state);
    assert_eq!(found.settings[&name("eth1/rp_filter")], 1);
    assert_eq!(found.programs.len(), 1);
    go(&Target::default(), &mut found, &mut state);
    assert_eq!(found, before);
}

#[test]
fn segments_are_clamped_as_long_as_it_is_asked_for() {
    let mut found = fresh();
    let before = found.clone();
    let mut target = serve(&[VIP, OTHER], false, &State::default());
    target.mss = Some(1420);
    let first = towards(&target, &found, &State::default());
    let all: BTreeMap<IpAddr, u16> = [VIP, OTHER].map(|vip| (ip(vip), 1420)).into();
    let clamp = Change::Clamp {
        interface: "eth0".to_owned(),
        vips: all,
    };
    assert!(first.changes.contains(&clamp), "{first:?}");
    apply(&mut found, &first.changes);
    assert_eq!(towards(&target, &found, &first.state).changes, []);
    // Another size takes its place; none takes it away.
    target.mss = Some(1300);
    let second = towards(&target, &found, &first.state);
    assert!(
        matches!(&second.changes[..], [Change::Clamp { .. }]),
        "{second:?}"
    );
    apply(&mut found, &second.changes);
    target.mss = None;
    let third = towards(&target, &found, &second.state);
    assert_eq!(third.changes, [Change::StopClamping("eth0".to_owned())]);
    assert!(third.state.mss.is_empty());
    // All is taken back at the end.
    let end = towards(&Target::after(&second.state), &found, &second.state);
    apply(&mut found, &end.changes);
    assert_eq!((found, end.state.is_empty()), (before, true));
}
