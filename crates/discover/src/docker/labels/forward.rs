//! What the label `forward` says.

use plimsoll_model::{Forward, Listen, Ports, Proto};

use super::group::Group;
use super::value::Faults;

/// How packets are brought to the container.
pub(crate) fn read(group: &Group<'_>, proto: Proto, faults: &mut Faults) -> Forward {
    let Some(value) = group.get("forward") else {
        return Forward::Proxy;
    };
    let Some(forward) = value.word(&Forward::NAMES, faults) else {
        return Forward::Proxy;
    };
    if proto == Proto::Http && forward != Forward::Proxy {
        let listen = format!("{}.listen=203.0.113.9:443/tcp", group.prefix);
        faults.push(value.fault(format!(
            "http services are the proxy's, which opens connections of its own: say {listen} to \
             have packets forwarded"
        )));
    }
    forward
}

/// The port of a container that gets packets as they are: the one that is listened on, which need not
/// be exposed.
pub(crate) fn own_port(forward: Forward, listens: &[Listen]) -> Option<u16> {
    if !matches!(forward, Forward::Dr | Forward::Tunnel(_)) {
        return None;
    }
    let port = |listen: &Listen| match listen {
        Listen::Socket {
            ports: Ports::One(port) | Ports::Range(port, _),
            ..
        } => *port,
        Listen::Socket { .. } | Listen::Mark { .. } => 1,
    };
    listens.first().map(port)
}
