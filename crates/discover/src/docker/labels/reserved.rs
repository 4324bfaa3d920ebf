//! What the operator has kept: the listen that HTTP services have by default.
//!
//! All of them share it, so no container may have clients of it by another listen. The kernel gives
//! a connection to the most specific socket (`tcp(7)`, `ip(7)`), so `10.0.0.1:80` would take what
//! comes to that address from all that share `*:80`, and a TCP service on `*:80` takes the port.

use std::net::IpAddr;

use plimsoll_model::Listen;

use super::group::Group;
use super::value::Faults;

/// Finds fault with listens of a service beside the default one for HTTP: each has to be that one,
/// or one that no client of it could mean.
pub(crate) fn check(group: &Group<'_>, listens: &[Listen], default: &Listen, faults: &mut Faults) {
    let prefix = &group.prefix;
    let wrong = |listen: &&Listen| *listen != default && overlap(listen, default);
    for listen in listens.iter().filter(wrong) {
        let why = format!(
            "{listen} would take clients of {default}, which all HTTP services share (--listen)"
        );
        faults.push(match group.get("listen") {
            Some(value) => value.fault(format!(
                "{why}: use another port; or name hosts with {prefix}.host and leave \
                 {prefix}.listen out"
            )),
            None => format!(
                "it listens on the port of the container, and {why}: say another port with label \
                 {prefix}.listen; or, if it speaks HTTP, name hosts with {prefix}.host and leave \
                 {prefix}.protocol out"
            ),
        });
    }
}

/// Whether a connection or packet could belong to both, be one of them more specific or not.
pub(crate) fn overlap(a: &Listen, b: &Listen) -> bool {
    let (
        Listen::Socket {
            ip: a,
            ports: p,
            proto: x,
        },
        Listen::Socket {
            ip: b,
            ports: q,
            proto: y,
        },
    ) = (a, b)
    else {
        return a == b;
    };
    x.transport() == y.transport() && p.overlaps(*q) && addresses_overlap(*a, *b)
}

/// No address is any of both families; an unspecified one any of its own.
fn addresses_overlap(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let (Some(a), Some(b)) = (a, b) else {
        return true;
    };
    // `::ffff:10.0.0.1` is 10.0.0.1 to clients.
    let (a, b) = (a.to_canonical(), b.to_canonical());
    a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_meant_by_one_client_overlaps() {
        let parsed = |text: &str| text.parse::<Listen>().unwrap();
        for (a, b, wanted) in [
            ("*:80/http", "*:80/tcp", true),
            ("*:80/http", "*:80/udp", false),
            ("*:80/http", "*:81/http", false),
            ("*:80/http", "*:70-90/tcp", true),
            ("*:80/http", "*:*/tcp", true),
            ("*:80/http", "10.0.0.1:80/http", true),
            ("*:80/http", "0.0.0.0:80/http", true),
            ("*:80/http", "[fd00::1]:80/http", true),
            ("0.0.0.0:80/http", "10.0.0.1:80/http", true),
            ("0.0.0.0:80/http", "[::ffff:10.0.0.1]:80/http", true),
            ("0.0.0.0:80/http", "[::]:80/http", false),
            ("0.0.0.0:80/http", "[fd00::1]:80/http", false),
            ("[::]:80/http", "[fd00::1]:80/tcp", true),
            ("10.0.0.1:80/http", "10.0.0.1:80/tcp", true),
            ("10.0.0.1:80/http", "10.0.0.2:80/tcp", false),
            ("*:80/http", "mark:5", false),
        ] {
            let (a, b) = (parsed(a), parsed(b));
            assert_eq!(overlap(&a, &b), wanted, "{a} {b}");
            assert_eq!(overlap(&b, &a), wanted, "{b} {a}");
        }
    }
}
