//! What a director forwards: asked of its daemon, read from the kernel, or from a file.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use plimsoll_admin::Client;
use plimsoll_control::status::{ServiceStatus, Status};
use plimsoll_doctor::{Backend, Carried, Director, Forward, Source, Trouble};
use plimsoll_model::{BackendAddr, Listen, PlaneChoice, Proto, Service};
use plimsoll_plane_ebpf::EbpfPlane;
use plimsoll_plane_ebpf::node::Namespace;

use crate::daemon::place;
use crate::error::Error;
use crate::vetted::Vetted;
use crate::watched::DEFAULT_CONFIG;

/// What is known of a director on this machine.
#[derive(Default)]
pub(super) struct Found {
    /// The director, and the network namespace that it is in; none if there is none.
    pub(super) director: Option<(Director, Namespace)>,
    /// Why the kernel could not be asked, where it would have been.
    pub(super) untold: Option<String>,
}

/// Looks for a director on this machine.
pub(super) async fn find(socket: Option<PathBuf>, config: Option<&Path>) -> Result<Found, Error> {
    let socket = socket.unwrap_or_else(place::default);
    match Client::new(&socket).status().await {
        Ok(report) => {
            let namespace = of_peer(&socket)?;
            return Ok(Found {
                director: Some((running(&report.status, &namespace), namespace)),
                untold: None,
            });
        }
        Err(plimsoll_admin::ClientError::NoDaemon { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let held = match config {
        None => in_kernel(),
        Some(_) => Ok(Vec::new()),
    };
    let (held, untold) = match held {
        Ok(held) => (held, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    if !held.is_empty() {
        let director = Director {
            source: Source::Kernel,
            addresses: (held.iter())
                .flat_map(|service| service.vips.iter().copied())
                .collect(),
            services: held,
            troubles: Vec::new(),
        };
        return Ok(Found {
            director: Some((director, Namespace::own()?)),
            untold,
        });
    }
    let usual = Path::new(DEFAULT_CONFIG);
    let file = config.or_else(|| usual.exists().then_some(usual));
    let Some(file) = file else {
        return Ok(Found {
            director: None,
            untold,
        });
    };
    let vetted = Vetted::watched(file)?;
    let services = &vetted.config()?.services;
    let director = Director {
        source: Source::File(file.display().to_string()),
        services: services.iter().filter_map(carried).collect(),
        addresses: addresses(services.iter().flat_map(|service| &service.spec.listens))
            .chain(
                services
                    .iter()
                    .flat_map(|service| service.spec.vips.iter().map(|vip| vip.address.ip)),
            )
            .collect(),
        troubles: Vec::new(),
    };
    Ok(Found {
        director: Some((director, Namespace::own()?)),
        untold,
    })
}

/// The network namespace of the process that listens on a socket.
fn of_peer(socket: &Path) -> Result<Namespace, Error> {
    let own = Namespace::own()?;
    let peer = UnixStream::connect(socket)
        .ok()
        .and_then(|stream| rustix::net::sockopt::socket_peercred(&stream).ok());
    let process = peer.and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok());
    let Some(theirs) = process.and_then(|id| Namespace::of_process(id).ok()) else {
        // Who may not look at the process may not enter its namespace either.
        return Ok(own);
    };
    Ok(match theirs.inode()? == own.inode()? {
        true => own,
        false => theirs,
    })
}

fn running(status: &Status, namespace: &Namespace) -> Director {
    let mut troubles = troubles(status);
    let held = namespace.run(|| Ok(in_kernel()));
    let services = match held {
        Ok(Ok(services)) if !services.is_empty() => services,
        Ok(Ok(_)) => of_status(status),
        Ok(Err(why)) => {
            let carried = of_status(status);
            if !carried.is_empty() {
                troubles.push(Trouble {
                    subject: "the packet plane".to_owned(),
                    reason: format!("what it does cannot be seen: {why}"),
                    is_fatal: false,
                });
            }
            carried
        }
        Err(why) => {
            troubles.push(Trouble {
                subject: "the daemon's network namespace".to_owned(),
                reason: why.to_string(),
                is_fatal: false,
            });
            Vec::new()
        }
    };
    Director {
        source: Source::Daemon,
        services,
        addresses: addresses_of(status),
        troubles,
    }
}

/// What the programs in the kernel go by, in the namespace of the calling thread.
fn in_kernel() -> Result<Vec<Carried>, String> {
    let plane = EbpfPlane::look().map_err(|error| error.to_string())?;
    let Some(plane) = plane else {
        return Ok(Vec::new());
    };
    let services = plane.held().services.values();
    Ok(services.filter_map(|service| carried(service)).collect())
}

/// A service of the packet plane; none if it is the proxy's.
fn carried(service: &Service) -> Option<Carried> {
    let backends: Vec<Backend> = service
        .backends
        .values()
        .filter_map(|backend| {
            let BackendAddr::Ip(ip, _) = backend.addr else {
                return None;
            };
            let forward = match backend.forward {
                plimsoll_model::Forward::Dr => Forward::Dr,
                plimsoll_model::Forward::Tunnel(_) => Forward::Tunnel,
                plimsoll_model::Forward::Nat => Forward::Nat,
                plimsoll_model::Forward::Proxy => return None,
            };
            Some(Backend { ip, forward })
        })
        .collect();
    if backends.is_empty() && service.spec.plane != PlaneChoice::Ebpf {
        return None;
    }
    Some(Carried {
        name: service.name().to_string(),
        vips: vips(service.spec.listens.iter()),
        backends,
        is_fitted: service.spec.packets.mss.is_some() && (service.spec.listens.iter()).all(is_tcp),
    })
}

fn is_tcp(listen: &Listen) -> bool {
    matches!(listen, Listen::Socket { proto, .. } if proto.transport() == Proto::Tcp)
}

fn vips<'a>(listens: impl Iterator<Item = &'a Listen>) -> BTreeSet<IpAddr> {
    addresses(listens).collect()
}

fn addresses<'a>(listens: impl Iterator<Item = &'a Listen>) -> impl Iterator<Item = IpAddr> {
    listens.filter_map(|listen| match listen {
        Listen::Socket { ip, .. } => *ip,
        _ => None,
    })
}

/// Addresses of services of all planes, as a daemon tells of them.
fn addresses_of(status: &Status) -> BTreeSet<IpAddr> {
    let listens = status.services.iter().flat_map(|service| &service.listens);
    let listens: Vec<Listen> = listens
        .filter_map(|listen| listen.listen.parse().ok())
        .collect();
    let brought = status.vips.iter().filter_map(|vip| {
        let (ip, _) = vip.address.split_once('/')?;
        ip.parse().ok()
    });
    addresses(listens.iter()).chain(brought).collect()
}

/// Services of the packet plane as a daemon tells of them, which does not say how packets are brought.
fn of_status(status: &Status) -> Vec<Carried> {
    let packets = status.services.iter().filter(|s| s.plane == "ebpf");
    let carried = packets.map(|service| {
        let listens: Vec<Listen> = (service.listens.iter())
            .filter_map(|listen| listen.listen.parse().ok())
            .collect();
        let backends = service.backends.iter().filter_map(|backend| {
            let BackendAddr::Ip(ip, _) = backend.addr.parse().ok()? else {
                return None;
            };
            // The least that can be asked for.
            let forward = Forward::Nat;
            Some(Backend { ip, forward })
        });
        Carried {
            name: service.name.clone(),
            vips: vips(listens.iter()),
            backends: backends.collect(),
            is_fitted: false,
        }
    });
    carried.collect()
}

/// What a daemon says is wrong.
fn troubles(status: &Status) -> Vec<Trouble> {
    let trouble = |subject: String, reason: &str, is_fatal| Trouble {
        subject,
        reason: reason.to_owned(),
        is_fatal,
    };
    let mut troubles = Vec::new();
    for aside in &status.quarantine {
        let subject = format!("{} is put aside", aside.subject);
        troubles.push(trouble(subject, &aside.reason, true));
    }
    for source in status.sources.iter().filter(|s| s.state == "stale") {
        let subject = format!("source {} is stale", source.name);
        troubles.push(trouble(subject, &source.reason, false));
    }
    for plane in &status.planes {
        if let Some(why) = &plane.error {
            troubles.push(trouble(format!("plane {}", plane.name), why, true));
        }
        for failure in &plane.failures {
            troubles.push(trouble(failure.subject.clone(), &failure.reason, true));
        }
    }
    for service in &status.services {
        troubles.extend(of_service(service));
    }
    troubles
}

fn of_service(service: &ServiceStatus) -> Vec<Trouble> {
    let name = &service.name;
    let mut troubles = Vec::new();
    let mut add = |subject: String, reason: String, is_fatal| {
        troubles.push(Trouble {
            subject,
            reason,
            is_fatal,
        });
    };
    if let Some(why) = &service.error {
        add(format!("service {name}"), why.clone(), true);
    }
    for listen in &service.listens {
        if let Some(why) = &listen.error {
            let subject = format!("service {name}, listen {}", listen.listen);
            add(subject, why.clone(), true);
        }
    }
    let takes = |state: &str| matches!(state, "ready" | "starting");
    let able = service
        .backends
        .iter()
        .any(|b| takes(&b.state) && b.weight > 0);
    if !able && !service.backends.is_empty() {
        let why = "no backend takes new connections".to_owned();
        add(format!("service {name}"), why, true);
    }
    for backend in &service.backends {
        if let Some(why) = &backend.error {
            add(
                format!("service {name}, backend {}", backend.addr),
                why.clone(),
                true,
            );
        }
        if backend.state == "down" {
            let subject = format!("service {name}, backend {} is down", backend.addr);
            add(subject, backend.reason.clone(), false);
        }
    }
    troubles
}
