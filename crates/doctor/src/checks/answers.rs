//! Answers of containers that pass this host: their sender is a VIP, and no connection is known to which
//! they belong, since requests came past the kernel's own forwarding.

use super::{each, or_ok, sysctl};
use crate::{Facts, Finding, Guest, Space};

/// Findings of a function for every interface that leads to guests.
fn guests(
    facts: &Facts,
    judge: impl Fn(&Space, &Guest) -> Option<Finding>,
    ok: &str,
) -> Vec<Finding> {
    each(facts, |space| {
        let guests = space.all_guests();
        if guests.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<Finding> = Vec::new();
        for guest in &guests {
            let new =
                judge(space, guest).filter(|new| found.iter().all(|old| old.what != new.what));
            found.extend(new);
        }
        or_ok(found, || ok.to_owned())
    })
}

/// An error where it is certain that answers pass here.
pub(super) fn level(guest: &Guest, text: String, why: &str) -> Finding {
    match guest.is_certain {
        true => Finding::error(text).because(why),
        false => Finding::warning(text)
            .because(format!("if {} answers through this host: {why}", guest.ip)),
    }
}

pub(super) fn accept_local(facts: &Facts) -> Vec<Finding> {
    let ok = "no VIP is this host's own, or accept_local is on where answers come in";
    let judge = |space: &Space, guest: &Guest| {
        let own = guest
            .vips
            .iter()
            .find(|vip| vip.is_ipv4() && space.is_own(**vip))?;
        let interface = &guest.interface;
        if space.effective(interface, "accept_local")? != 0 {
            return None;
        }
        let text =
            format!("accept_local is off on {interface}, and {own} is an address of this host");
        let why = "the kernel drops packets from outside whose sender is its own address (a martian source), and \
                   answers have the VIP as sender";
        let name = format!("net/ipv4/conf/{interface}/accept_local");
        Some(level(guest, text, why).mend_in(space, sysctl(&name, 1)))
    };
    guests(facts, judge, ok)
}

pub(super) fn rp_filter(facts: &Facts) -> Vec<Finding> {
    let ok = "no strict rp_filter where answers come in";
    let judge = |space: &Space, guest: &Guest| {
        let interface = &guest.interface;
        let v4 = guest.vips.iter().any(|vip| vip.is_ipv4());
        if !v4 || space.effective(interface, "rp_filter")? != 1 {
            return None;
        }
        let text = format!("rp_filter is strict (1) on {interface}");
        let why = "answers of containers there have the VIP as sender, which is not reached by that interface: they \
                   are dropped. 2 takes what is reached by any";
        let name = format!("net/ipv4/conf/{interface}/rp_filter");
        Some(level(guest, text, why).mend_in(space, sysctl(&name, 2)))
    };
    guests(facts, judge, ok)
}

pub(super) fn forwarding(facts: &Facts) -> Vec<Finding> {
    let ok = "what containers answer is forwarded";
    let judge = |space: &Space, guest: &Guest| {
        let interface = &guest.interface;
        // Of a director's own backends the check `forwarding` speaks.
        if !guest.from_elsewhere {
            return None;
        }
        let off = |family: &str, v4: bool| {
            let name = format!("net/{family}/conf/{interface}/forwarding");
            let any = guest.vips.iter().any(|vip| vip.is_ipv4() == v4);
            any && space.setting(&name) == Some(0)
        };
        let (all, own) = match (off("ipv4", true), off("ipv6", false)) {
            (true, _) => ("net/ipv4/ip_forward", "ipv4"),
            (_, true) => ("net/ipv6/conf/all/forwarding", "ipv6"),
            _ => return None,
        };
        let name = match space.setting(all) {
            Some(0) => all.to_owned(),
            _ => format!("net/{own}/conf/{interface}/forwarding"),
        };
        let text = format!(
            "forwarding is off on {interface}, behind which the node {} is",
            guest.ip
        );
        let why = "neither requests nor answers pass this host";
        Some(level(guest, text, why).mend_in(space, sysctl(&name, 1)))
    };
    guests(facts, judge, ok)
}
