//! What the proxy plane cannot carry, and what to use instead.

use plimsoll_model::{Backend, Forward, Listen, Ports, Proto, ServiceSpec};
use plimsoll_plane::Unsupported;

use crate::listener::MAX_PORTS;

/// What this plane cannot do, and what to do instead.
pub(crate) fn unsupported(feature: impl Into<String>, instead: impl Into<String>) -> Unsupported {
    Unsupported {
        plane: "proxy",
        feature: feature.into(),
        instead: instead.into(),
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
    match &spec.sorry {
        Some(sorry) => backend(sorry),
        None => Ok(()),
    }
}
