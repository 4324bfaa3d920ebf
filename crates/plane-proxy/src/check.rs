//! What the proxy plane cannot carry, and what to use instead.

use plimsoll_model::{Backend, Forward, Listen, Ports, Proto, ServiceSpec};
use plimsoll_plane::Unsupported;
use socket2::{Domain, Socket, Type};

use crate::listener::MAX_PORTS;
use crate::options::be_transparent;

/// What this plane cannot do, and what to do instead.
pub(crate) fn unsupported(feature: impl Into<String>, instead: impl Into<String>) -> Unsupported {
    Unsupported {
        plane: "proxy",
        feature: feature.into(),
        instead: instead.into(),
        again: None,
    }
}

/// Whether this plane can carry the backend.
pub(crate) fn backend(backend: &Backend) -> Result<(), Unsupported> {
    if backend.forward != Forward::Proxy {
        return Err(unsupported(
            format!(
                "forward method for backend {} other than proxy",
                backend.addr
            ),
            "leave `forward` out",
        ));
    }
    Ok(())
}

/// Whether this plane can carry all of a service but its backends.
pub(crate) fn spec(spec: &ServiceSpec) -> Result<(), Unsupported> {
    for listen in &spec.listens {
        match listen {
            Listen::Mark { .. } => {
                return Err(unsupported(
                    format!("firewall marks ({listen})"),
                    "listen on an address and port",
                ));
            }
            Listen::Socket {
                proto: Proto::Sctp, ..
            } => {
                return Err(unsupported(
                    format!("SCTP ({listen})"),
                    "listen on /tcp, /udp or /http",
                ));
            }
            Listen::Socket { ports, .. } => {
                let (first, last) = ports.bounds();
                if *ports == Ports::All || last - first >= MAX_PORTS {
                    return Err(unsupported(
                        format!("more than {MAX_PORTS} ports in one listen ({listen})"),
                        "name a smaller range",
                    ));
                }
            }
        }
    }
    privileges(spec)?;
    match &spec.sorry {
        Some(sorry) => backend(sorry),
        None => Ok(()),
    }
}

/// Whether this process may do what the options of a service's sockets need.
fn privileges(spec: &ServiceSpec) -> Result<(), Unsupported> {
    let transparent = |socket: &Socket| be_transparent(socket, false);
    let said = [
        (
            "listen-options: transparent = true",
            spec.listen_options.as_ref().is_some_and(|o| o.transparent) && !may(transparent),
        ),
        (
            "to-backends: source = \"client\"",
            spec.to_backends
                .as_ref()
                .is_some_and(|to| to.source.is_client())
                && !may(transparent),
        ),
        (
            "to-backends: mark",
            spec.to_backends
                .as_ref()
                .is_some_and(|to| to.mark.is_some())
                && !may(|socket| socket.set_mark(1)),
        ),
    ];
    match said.iter().find(|(_, lacks)| *lacks) {
        None => Ok(()),
        Some((what, _)) => Err(unsupported(
            format!("`{what}` without CAP_NET_ADMIN"),
            "give it that (systemd: AmbientCapabilities=CAP_NET_ADMIN, containers: \
             --cap-add NET_ADMIN), or leave it out",
        )),
    }
}

/// Whether a socket can be told that. What fails for another reason will say so itself.
fn may(tell: impl Fn(&Socket) -> std::io::Result<()>) -> bool {
    let told = Socket::new(Domain::IPV4, Type::DGRAM, None).and_then(|socket| tell(&socket));
    told.err()
        .is_none_or(|error| error.kind() != std::io::ErrorKind::PermissionDenied)
}
