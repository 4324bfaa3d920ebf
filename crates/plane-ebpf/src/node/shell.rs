//! The same steps as commands for a shell.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Change, LOOPBACK};

/// Commands that do the same as these changes, a line each, for `sh`; in a network namespace if its path
/// is given. What no command can do is a comment that says what to do instead.
pub fn commands(changes: &[Change], namespace: Option<&str>) -> String {
    let inside = namespace.map_or_else(String::new, |path| {
        format!("nsenter --net={} ", quoted(path))
    });
    let mut text = String::new();
    for change in changes {
        text.push_str(&command(change, &inside));
        text.push('\n');
    }
    text
}

fn command(change: &Change, inside: &str) -> String {
    match change {
        Change::Set { name, to, .. } => {
            format!("{inside}sysctl -q -w {}", quoted(&format!("{name}={to}")))
        }
        // `replace`: once more changes nothing.
        Change::Add(ip) => format!(
            "{inside}ip address replace {} dev {LOOPBACK}{}",
            host(ip),
            // Not asked whether somebody else has it: everybody has.
            if ip.is_ipv6() { " nodad" } else { "" }
        ),
        Change::Delete(ip) => format!("{inside}ip address del {} dev {LOOPBACK}", host(ip)),
        Change::Unwrap { interface, vips } => format!(
            "# Packets in a tunnel that come by {interface} are unwrapped by a program of plimsoll's. Without\n\
             # it, where the kernel has these modules (they take packets from everybody, for any address):\n{}",
            tunnels(vips.iter(), inside)
        ),
        Change::Clamp { interface, vips } => clamps(interface, vips, inside),
        Change::StopClamping(interface) => {
            format!(
                "# The program at the TC egress of {interface} can be detached by plimsoll only."
            )
        }
        Change::StopUnwrapping(interface) => {
            format!(
                "# The program at the TC ingress of {interface} can be detached by plimsoll only."
            )
        }
    }
}

/// Rules of nftables, which do the same.
fn clamps(interface: &str, vips: &BTreeMap<IpAddr, u16>, inside: &str) -> String {
    let nft = |line: String| format!("{inside}nft {}", quoted(&line));
    let table = "inet plimsoll_node";
    let mut lines = vec![
        nft(format!("add table {table}")),
        nft(format!(
            "add chain {table} out {{ type filter hook postrouting priority 0; }}"
        )),
    ];
    for (ip, mss) in vips {
        let family = if ip.is_ipv4() { "ip" } else { "ip6" };
        lines.push(nft(format!(
            "add rule {table} out oifname \"{interface}\" {family} saddr {ip} tcp flags & syn == syn \
             tcp option maxseg size > {mss} tcp option maxseg size set {mss}"
        )));
    }
    lines.join("\n")
}

/// What to do where the kernel unwraps by itself.
fn tunnels<'a>(vips: impl Iterator<Item = &'a IpAddr> + Clone, inside: &str) -> String {
    let mut lines = Vec::new();
    // What the inner packet is decides which device takes it; IPv6 outside is ip6tnl's for both.
    if vips.clone().any(IpAddr::is_ipv4) {
        lines.push("modprobe ipip".to_owned());
        lines.push(format!("{inside}ip link set tunl0 up"));
        lines.push(format!("{inside}sysctl -w net/ipv4/conf/tunl0/rp_filter=2"));
    }
    if vips.clone().any(IpAddr::is_ipv6) {
        lines.push("modprobe sit".to_owned());
        lines.push(format!("{inside}ip link set sit0 up"));
    }
    lines.push("modprobe ip6_tunnel".to_owned());
    lines.push(format!("{inside}ip link set ip6tnl0 up"));
    let lines: Vec<String> = lines.iter().map(|line| format!("#   {line}")).collect();
    lines.join("\n")
}

fn host(ip: &IpAddr) -> String {
    format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 })
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-=:@".contains(&byte);
    if word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn commands_of_a_node() {
        let vip: IpAddr = "192.0.2.1".parse().unwrap();
        let changes = [
            Change::Set {
                name: "net/ipv4/conf/all/arp_ignore".to_owned(),
                from: 0,
                to: 1,
            },
            Change::Unwrap {
                interface: "eth0".to_owned(),
                vips: BTreeSet::from([vip]),
            },
            Change::Clamp {
                interface: "eth0".to_owned(),
                vips: BTreeMap::from([(vip, 1420)]),
            },
            Change::Add(vip),
            Change::Add("2001:db8::1".parse().unwrap()),
        ];
        assert_eq!(
            commands(&changes, None),
            "sysctl -q -w net/ipv4/conf/all/arp_ignore=1\n\
             # Packets in a tunnel that come by eth0 are unwrapped by a program of plimsoll's. Without\n\
             # it, where the kernel has these modules (they take packets from everybody, for any address):\n\
             #   modprobe ipip\n\
             #   ip link set tunl0 up\n\
             #   sysctl -w net/ipv4/conf/tunl0/rp_filter=2\n\
             #   modprobe ip6_tunnel\n\
             #   ip link set ip6tnl0 up\n\
             nft 'add table inet plimsoll_node'\n\
             nft 'add chain inet plimsoll_node out { type filter hook postrouting priority 0; }'\n\
             nft 'add rule inet plimsoll_node out oifname \"eth0\" ip saddr 192.0.2.1 tcp flags & syn == syn \
             tcp option maxseg size > 1420 tcp option maxseg size set 1420'\n\
             ip address replace 192.0.2.1/32 dev lo\n\
             ip address replace 2001:db8::1/128 dev lo nodad\n"
        );
    }

    #[test]
    fn commands_in_a_namespace_and_back() {
        let changes = [
            Change::Delete("192.0.2.1".parse().unwrap()),
            Change::StopUnwrapping("eth0".to_owned()),
            Change::Set {
                name: "net/ipv4/conf/eth 0;'/rp_filter".to_owned(),
                from: 2,
                to: 1,
            },
        ];
        assert_eq!(
            commands(&changes, Some("/proc/42/ns/net")),
            "nsenter --net=/proc/42/ns/net ip address del 192.0.2.1/32 dev lo\n\
             # The program at the TC ingress of eth0 can be detached by plimsoll only.\n\
             nsenter --net=/proc/42/ns/net sysctl -q -w 'net/ipv4/conf/eth 0;'\\''/rp_filter=1'\n"
        );
    }
}
