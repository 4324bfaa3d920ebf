//! Topologies: clients, a director and servers, each in a namespace of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll_model::{
    Backend, Desired, Forward, Listen, Name, Origin, SchedulerKind, Service, ServiceSpec,
};
use plimsoll_plane::Plane;
use plimsoll_plane_ebpf::{EbpfPlane, Interfaces, Options, Sizes};
use plimsoll_testkit::{Namespace, Net, root_or_skip};

/// A plane is used on the thread of its namespace.
pub(crate) type Shared = Arc<Mutex<Option<EbpfPlane>>>;

/// A client (10.77.0.1), a director (10.77.0.2) and servers (10.77.0.3 …) on one bridge. The VIP is
/// 10.77.0.200, and fd77::200.
pub(crate) struct Lab {
    pub(crate) net: Net,
    pub(crate) plane: Shared,
    pub(crate) xdp: bool,
}

pub(crate) const VIP: &str = "10.77.0.200";
pub(crate) const CLIENT: usize = 0;
pub(crate) const DIRECTOR: usize = 1;
pub(crate) const FIRST_SERVER: usize = 2;
const LABELS: [&str; 6] = ["client", "director", "s1", "s2", "s3", "s4"];

impl Lab {
    pub(crate) fn new(test: &str, servers: usize) -> Option<Self> {
        if !root_or_skip(test) {
            return None;
        }
        let net = Net::new(&LABELS[..FIRST_SERVER + servers]).unwrap();
        let director = net.namespace(LABELS[DIRECTOR]).unwrap();
        sysctl(director, "net/ipv4/ip_forward", "1");
        sysctl(director, "net/ipv4/conf/all/send_redirects", "0");
        sysctl(director, "net/ipv4/conf/eth0/send_redirects", "0");
        director
            .ip(&["address", "add", &format!("{VIP}/32"), "dev", "eth0"])
            .unwrap();
        for server in LABELS.iter().skip(FIRST_SERVER).take(servers) {
            let node = net.namespace(server).unwrap();
            sysctl(node, "net/ipv4/conf/all/arp_ignore", "1");
            sysctl(node, "net/ipv4/conf/all/arp_announce", "2");
            node.ip(&["address", "add", &format!("{VIP}/32"), "dev", "lo"])
                .unwrap();
        }
        let lab = Self {
            net,
            plane: Arc::default(),
            xdp: false,
        };
        lab.start();
        Some(lab)
    }

    /// The namespace of a host.
    pub(crate) fn host(&self, host: usize) -> &Namespace {
        self.net.namespace(LABELS[host]).unwrap()
    }

    /// Starts a plane in the director.
    pub(crate) fn start(&self) {
        let plane = self.plane.clone();
        let xdp = match self.xdp {
            true => vec!["eth0".to_owned()],
            false => Vec::new(),
        };
        self.inside(DIRECTOR, move || {
            *plane.lock().unwrap() = Some(EbpfPlane::start(options(xdp)).unwrap());
        });
    }

    /// Ends the plane's process, so to speak: what is in the kernel stays.
    pub(crate) fn stop(&self) {
        let plane = self.plane.clone();
        self.inside(DIRECTOR, move || drop(plane.lock().unwrap().take()));
    }

    /// Runs something inside a namespace; a panic there is one here.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        host: usize,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        run(self.host(host), body)
    }

    /// Does something with the plane.
    pub(crate) fn with<T: Send + 'static>(
        &self,
        body: impl FnOnce(&mut EbpfPlane) -> T + Send + 'static,
    ) -> T {
        let plane = self.plane.clone();
        self.inside(DIRECTOR, move || {
            body(plane.lock().unwrap().as_mut().unwrap())
        })
    }

    /// Brings the plane to these services.
    pub(crate) fn bring(&self, services: Vec<Service>) {
        self.with(move |plane| {
            let services = services
                .into_iter()
                .map(|s| (s.name().clone(), Arc::new(s)));
            let to = Desired {
                services: services.collect(),
                routes: BTreeMap::new(),
            };
            let plan = plane.read().unwrap().diff(&to);
            for item in plane.apply(&plan) {
                assert_eq!(item.result, Ok(()), "{}", item.subject);
            }
            assert_eq!(plane.read().unwrap(), to);
            assert_eq!(plane.faults(), &BTreeMap::new());
        });
    }
}

/// A small plane, with XDP on these interfaces.
pub(crate) fn options(xdp: Vec<String>) -> Options {
    Options {
        sizes: Sizes::small(),
        tunnels: plimsoll_plane_ebpf::TunnelSources::default(),
        interfaces: Interfaces {
            tc: Vec::new(),
            xdp,
        },
    }
}

pub(crate) fn run<T: Send + 'static>(
    namespace: &Namespace,
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    let result = namespace
        .run(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)))
        .unwrap();
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

pub(crate) fn sysctl(namespace: &Namespace, path: &str, value: &str) {
    let path = format!("/proc/sys/{path}");
    let value = value.to_owned();
    run(namespace, move || std::fs::write(&path, value).unwrap());
}

/// The address of a host of the lab.
pub(crate) fn ip(host: usize) -> IpAddr {
    format!("10.77.0.{}", host + 1).parse().unwrap()
}

/// A service on the VIP, whose backends are these hosts.
pub(crate) fn service(
    listens: &[&str],
    kind: SchedulerKind,
    forward: Forward,
    hosts: &[usize],
) -> Service {
    let origin = Origin::new("test", "director");
    let name: Name = "web".parse().unwrap();
    let listens: Vec<Listen> = listens.iter().map(|l| l.parse().unwrap()).collect();
    let mut spec = ServiceSpec::new(name, origin.clone(), listens);
    spec.scheduler.kind = kind;
    spec.timeouts.drain = Duration::ZERO;
    let backends = hosts.iter().map(|host| {
        let addr = ip(*host).to_string().parse().unwrap();
        let mut backend = Backend::new(addr, origin.clone());
        backend.forward = forward;
        backend
    });
    Service::new(spec, backends)
}

/// A server in a namespace that says to every connection which host it is and whom it sees, then
/// echoes until the client closes.
pub(crate) fn serve(lab: &Lab, host: usize, at: &str) {
    let at: SocketAddr = at.parse().unwrap();
    let listener = lab.inside(host, move || std::net::TcpListener::bind(at).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            std::thread::spawn(move || {
                use std::io::Write;
                if writeln!(stream, "{host} {}", peer.ip()).is_ok() {
                    let mut from = stream.try_clone().unwrap();
                    let _ends_with_the_client = std::io::copy(&mut from, &mut stream);
                }
            });
        }
    });
}

/// One client's connection.
pub(crate) struct Connection {
    pub(crate) stream: std::io::BufReader<std::net::TcpStream>,
    /// Which host serves it.
    pub(crate) host: usize,
    /// Whom that sees.
    pub(crate) seen: String,
}

impl Connection {
    pub(crate) fn open(lab: &Lab, to: &str) -> std::io::Result<Self> {
        use std::io::BufRead;
        let to: SocketAddr = to.parse().unwrap();
        let stream = lab.inside(CLIENT, move || {
            std::net::TcpStream::connect_timeout(&to, Duration::from_secs(10))
        })?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut stream = std::io::BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let (host, seen) = line.trim().split_once(' ').unwrap_or_default();
        Ok(Self {
            stream,
            host: host.parse().map_err(std::io::Error::other)?,
            seen: seen.to_owned(),
        })
    }

    /// Sends bytes and reads them back.
    pub(crate) fn echo(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        use std::io::{Read, Write};
        let mut writer = self.stream.get_ref().try_clone()?;
        let sent = bytes.to_vec();
        let sender = std::thread::spawn(move || writer.write_all(&sent));
        let mut back = vec![0; bytes.len()];
        self.stream.read_exact(&mut back)?;
        sender.join().unwrap()?;
        assert_eq!(back, bytes, "payload is the same both ways");
        Ok(())
    }
}
