//! The settings of the kernel that matter, and what they have to be.
//!
//! As the kernel's Documentation/networking/ip-sysctl.rst says, the greater one of an interface's value and
//! that of `all` counts, for all three.

use std::collections::BTreeMap;

/// Answers to ARP: 1 and 2 answer for addresses of the interface only; 8 answers nothing.
const ARP_IGNORE: &str = "arp_ignore";
/// Which address ARP requests come from: 2 never takes one of another interface.
const ARP_ANNOUNCE: &str = "arp_announce";
/// Whether packets are dropped whose sender is reached by another interface (1), or by none (2).
const RP_FILTER: &str = "rp_filter";

/// A setting of IPv4 for one interface, or for `all`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// The interface, or `all`.
    pub interface: String,
    /// The last part of its name.
    pub key: &'static str,
}

impl Setting {
    /// Its name, with slashes: names of interfaces may have dots in them.
    pub fn name(&self) -> String {
        format!("net/ipv4/conf/{}/{}", self.interface, self.key)
    }
}

fn setting(interface: &str, key: &'static str) -> Setting {
    Setting {
        interface: interface.to_owned(),
        key,
    }
}

/// The settings to look at, for these interfaces.
pub(super) fn all(interfaces: &[String]) -> Vec<Setting> {
    let mut all = Vec::new();
    for place in std::iter::once("all").chain(interfaces.iter().map(String::as_str)) {
        all.extend([ARP_IGNORE, ARP_ANNOUNCE, RP_FILTER].map(|key| setting(place, key)));
    }
    all
}

/// What has to be otherwise than it is, so that nothing is said of VIPs on any interface, and packets of
/// clients are taken from these.
pub(super) fn wanted(receive: &[String], found: &BTreeMap<String, i32>) -> Vec<(Setting, i32)> {
    let mut wanted = Vec::new();
    let value = |setting: &Setting| found.get(&setting.name()).copied();
    // 3 answers for addresses of other interfaces whose scope is wider than the host, and 4 to 7 mean
    // nothing: where one of them stands it wins over a smaller one.
    for (name, is) in found {
        let Some(interface) = interface_of(name, ARP_IGNORE) else {
            continue;
        };
        let fits = match interface {
            "all" => matches!(is, 1 | 2 | 8),
            _ => matches!(is, 0..=2 | 8),
        };
        if !fits {
            wanted.push((setting(interface, ARP_IGNORE), 1));
        }
    }
    let announce = setting("all", ARP_ANNOUNCE);
    if value(&announce).is_some_and(|is| is < 2) {
        wanted.push((announce, 2));
    }
    let all = value(&setting("all", RP_FILTER)).unwrap_or(0);
    for interface in receive {
        let own = setting(interface, RP_FILTER);
        if value(&own).is_some_and(|is| is.max(all) == 1) {
            wanted.push((own, 2));
        }
    }
    wanted
}

/// The interface that a setting with this key is for.
fn interface_of<'a>(name: &'a str, key: &str) -> Option<&'a str> {
    let rest = name.strip_prefix("net/ipv4/conf/")?;
    rest.strip_suffix(key)?.strip_suffix('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(found: &[(&str, i32)]) -> Vec<String> {
        let found: BTreeMap<String, i32> = found
            .iter()
            .map(|(name, value)| (format!("net/ipv4/conf/{name}"), *value))
            .collect();
        let wanted = wanted(&["eth0".to_owned()], &found);
        wanted
            .iter()
            .map(|(setting, value)| format!("{}/{}={value}", setting.interface, setting.key))
            .collect()
    }

    #[test]
    fn what_the_kernel_begins_with_is_changed() {
        let found = [
            ("all/arp_ignore", 0),
            ("all/arp_announce", 0),
            ("all/rp_filter", 0),
            ("eth0/arp_ignore", 0),
            ("eth0/arp_announce", 0),
            ("eth0/rp_filter", 0),
        ];
        assert_eq!(wants(&found), ["all/arp_ignore=1", "all/arp_announce=2"]);
    }

    #[test]
    fn what_fits_is_left() {
        for ignore in [1, 2, 8] {
            let found = [
                ("all/arp_ignore", ignore),
                ("all/arp_announce", 2),
                ("all/rp_filter", 2),
                ("eth0/rp_filter", 1),
                ("eth0/arp_ignore", 0),
            ];
            assert_eq!(wants(&found), [""; 0]);
        }
    }

    #[test]
    fn a_greater_value_of_an_interface_does_not_win_if_it_answers() {
        let found = [("all/arp_ignore", 1), ("eth0.7/arp_ignore", 3)];
        assert_eq!(wants(&found), ["eth0.7/arp_ignore=1"]);
    }

    #[test]
    fn strict_filters_are_loosened_where_packets_come() {
        for (all, own) in [(1, 0), (0, 1), (1, 1)] {
            let found = [
                ("all/rp_filter", all),
                ("eth0/rp_filter", own),
                ("eth1/rp_filter", 1),
            ];
            assert_eq!(wants(&found), ["eth0/rp_filter=2"]);
        }
    }
}
