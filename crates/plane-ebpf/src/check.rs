//! What the packet plane cannot carry, and what to use instead.

use std::net::IpAddr;

use plimsoll_model::{
    Backend, BackendAddr, Forward, Listen, Ports, Proto, Route, SchedulerKind, Service,
    ServiceSpec, Tunnel,
};
use plimsoll_plane::Unsupported;

/// The plane's name.
pub(crate) const NAME: &str = "ebpf";

fn unsupported(feature: impl Into<String>, instead: impl Into<String>) -> Unsupported {
    Unsupported {
        plane: NAME,
        feature: feature.into(),
        instead: instead.into(),
        again: None,
    }
}

/// Whether this plane can carry the service.
///
/// # Errors
/// The first feature that it lacks.
pub(crate) fn service(service: &Service) -> Result<(), Unsupported> {
    spec(&service.spec)?;
    let sorry = service.spec.sorry.as_ref();
    let backends = service.backends.values().map(AsRef::as_ref).chain(sorry);
    for one in backends {
        backend(&service.spec, one)?;
    }
    Ok(())
}

/// Whether this plane can carry the route: it cannot.
///
/// # Errors
/// Always.
pub(crate) fn route(_: &Route) -> Result<(), Unsupported> {
    Err(unsupported(
        "routes",
        "routes are layer 7: let them lead to services of the proxy",
    ))
}

/// Whether this plane can carry all of a service but its backends.
///
/// # Errors
/// The first feature that it lacks.
pub(crate) fn spec(spec: &ServiceSpec) -> Result<(), Unsupported> {
    if spec.listens.is_empty() {
        return Err(unsupported(
            "services without listens",
            "give it one: routes, which lead to such services, are the proxy's",
        ));
    }
    for listen in &spec.listens {
        match listen {
            Listen::Mark { .. } => {
                return Err(unsupported(
                    format!("firewall marks ({listen})"),
                    "listen on an address and port",
                ));
            }
            Listen::Socket { ip, proto, .. } => {
                if !matches!(proto, Proto::Tcp | Proto::Udp) {
                    return Err(unsupported(
                        format!("protocol {proto} ({listen})"),
                        "listen on /tcp or /udp; /http is the proxy's",
                    ));
                }
                if ip.is_none_or(|ip| ip.is_unspecified()) {
                    return Err(unsupported(
                        format!("listens on any address ({listen})"),
                        "name the address: it decides which packets are taken out of the host's own",
                    ));
                }
            }
        }
    }
    beyond_packets(spec)
}

/// What needs to see connections, not packets.
fn beyond_packets(spec: &ServiceSpec) -> Result<(), Unsupported> {
    use SchedulerKind::{Ewma, Lblc, Lblcr, Ring};
    let kind = spec.scheduler.kind;
    if kind == Ring && spec.scheduler.bound != 0 {
        return Err(unsupported(
            format!("scheduler {kind} with bounded loads"),
            "say scheduler = { kind = \"ring\", bound = 0 }, or use mh",
        ));
    }
    if matches!(kind, Lblc | Lblcr | Ewma) {
        return Err(unsupported(
            format!("scheduler {kind}"),
            "use mh for hashing, wlc or twos by load",
        ));
    }
    let defaults = ServiceSpec::new(spec.name.clone(), spec.origin.clone(), Vec::new());
    let proxy = "leave it out, or let the proxy carry the service: forward = \"proxy\"";
    let lacking = [
        (
            spec.persistence.is_some(),
            "persistence by source",
            "use scheduler = \"mh\", which keeps a client where it is",
        ),
        (!spec.slow_start.is_zero(), "slow start", proxy),
        (spec.limits.is_some(), "limits for clients", proxy),
        (
            spec.clients != defaults.clients,
            "lists of clients (allow, deny)",
            proxy,
        ),
        (
            spec.proxy_headers != defaults.proxy_headers,
            "PROXY headers",
            proxy,
        ),
        (spec.access_log.is_some(), "an access log", proxy),
    ];
    match lacking.into_iter().find(|(asked, ..)| *asked) {
        Some((_, feature, instead)) => Err(unsupported(feature, instead)),
        None => Ok(()),
    }
}

/// Whether this plane can carry the backend of a service.
///
/// # Errors
/// The first feature that it lacks.
pub(crate) fn backend(spec: &ServiceSpec, backend: &Backend) -> Result<(), Unsupported> {
    let addr = &backend.addr;
    let translates = match backend.forward {
        Forward::Proxy => {
            return Err(unsupported(
                format!("forward = \"proxy\" (backend {addr})"),
                "say forward = \"dr\", \"tunnel\" or \"nat\"",
            ));
        }
        Forward::Tunnel(Tunnel::Gue { .. } | Tunnel::Gre) => {
            return Err(unsupported(
                format!("GUE and GRE tunnels (backend {addr})"),
                "use an IPIP tunnel: forward = \"tunnel\"",
            ));
        }
        Forward::Nat => true,
        Forward::Dr | Forward::Tunnel(Tunnel::Ipip) => false,
    };
    let BackendAddr::Ip(ip, port) = addr else {
        return Err(unsupported(
            format!("Unix sockets (backend {addr})"),
            "use forward = \"proxy\"",
        ));
    };
    if !backend.ports.is_empty() {
        return Err(unsupported(
            format!("port maps (backend {addr})"),
            "give the backend one port, or none for the packet's own",
        ));
    }
    if backend.maxconn != 0 {
        return Err(unsupported(
            format!("maxconn, which needs a queue (backend {addr})"),
            "use `upper`, the threshold of connections",
        ));
    }
    for listen in &spec.listens {
        fits(listen, *ip, port.filter(|_| !translates), backend.forward)?;
    }
    Ok(())
}

/// Whether packets of a listen can be brought to this address, and unchanged to this port.
fn fits(
    listen: &Listen,
    ip: IpAddr,
    port: Option<u16>,
    forward: Forward,
) -> Result<(), Unsupported> {
    let Listen::Socket {
        ip: Some(vip),
        ports,
        ..
    } = listen
    else {
        return Ok(());
    };
    if !matches!(forward, Forward::Tunnel(_)) && vip.is_ipv4() != ip.is_ipv4() {
        return Err(unsupported(
            format!("another address family without a tunnel (listen {listen}, backend {ip})"),
            "use forward = \"tunnel\"",
        ));
    }
    if let Some(port) = port
        && *ports != Ports::One(port)
    {
        return Err(unsupported(
            format!("another port without NAT (listen {listen}, backend {ip} port {port})"),
            "leave the backend's port out, or use forward = \"nat\"",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use plimsoll_model::Origin;

    use super::*;

    fn refused(
        listen: &str,
        addr: &str,
        forward: Forward,
        change: impl Fn(&mut ServiceSpec),
    ) -> String {
        let origin = Origin::new("test", "x");
        let listens = vec![listen.parse().unwrap()];
        let mut spec = ServiceSpec::new("x".parse().unwrap(), origin.clone(), listens);
        change(&mut spec);
        let mut backend = Backend::new(addr.parse().unwrap(), origin);
        backend.forward = forward;
        match service(&Service::new(spec, [backend])) {
            Ok(()) => String::new(),
            Err(error) => error.feature,
        }
    }

    #[test]
    fn what_packets_can_do() {
        let ipip = Forward::Tunnel(Tunnel::Ipip);
        for (listen, addr, forward, lacking) in [
            ("10.0.0.9:80/tcp", "10.0.0.1", Forward::Dr, ""),
            ("10.0.0.9:80/tcp", "10.0.0.1:80", Forward::Dr, ""),
            (
                "10.0.0.9:80/tcp",
                "10.0.0.1:81",
                Forward::Dr,
                "another port",
            ),
            ("10.0.0.9:80/tcp", "10.0.0.1:81", Forward::Nat, ""),
            ("10.0.0.9:80-90/udp", "10.0.0.1:80", ipip, "another port"),
            ("10.0.0.9:*/udp", "fd00::1", ipip, ""),
            (
                "10.0.0.9:*/udp",
                "fd00::1",
                Forward::Dr,
                "another address family",
            ),
            (
                "10.0.0.9:80/tcp",
                "10.0.0.1",
                Forward::Proxy,
                "forward = \"proxy\"",
            ),
            (
                "10.0.0.9:80/tcp",
                "10.0.0.1",
                Forward::Tunnel(Tunnel::Gre),
                "GUE and GRE",
            ),
            ("10.0.0.9:80/http", "10.0.0.1", Forward::Dr, "protocol http"),
            ("*:80/tcp", "10.0.0.1", Forward::Dr, "any address"),
            ("[::]:80/tcp", "fd00::1", Forward::Dr, "any address"),
            ("mark:7", "10.0.0.1", Forward::Dr, "firewall marks"),
        ] {
            let feature = refused(listen, addr, forward, |_| {});
            assert!(
                feature.starts_with(lacking) || feature.contains(lacking),
                "{listen} {addr}: {feature:?}"
            );
            assert_eq!(
                feature.is_empty(),
                lacking.is_empty(),
                "{listen} {addr}: {feature:?}"
            );
        }
        let slow = refused("10.0.0.9:80/tcp", "10.0.0.1", Forward::Dr, |spec| {
            spec.slow_start = std::time::Duration::from_secs(1);
        });
        assert_eq!(slow, "slow start");
    }
}
