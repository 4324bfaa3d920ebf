//! The laboratory: a client, a load balancer and servers, each in a namespace of its own, and what
//! every test asks of the daemon between them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use plimsoll_testkit::{
    ClientPlan, Daemon, DaemonPlan, HttpBackend, Net, Place, TcpBackend, TunnelPlan, list,
    root_or_skip, until, wait_until,
};
use serde_json::Value;

use crate::config::DAEMON;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_plimsoll");

/// Everything that should happen soon happens within this.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Where the load balancer listens for HTTP.
pub(crate) const HTTP: u16 = 8080;

/// Where the load balancer listens for TCP.
pub(crate) const TCP: u16 = 9000;

/// Namespaces on one bridge. `client` and `lb` are always there.
pub(crate) struct Lab {
    net: Net,
    links: BTreeSet<String>,
}

impl Lab {
    /// The two and one for each of these labels; none if there is no root and leave to skip.
    pub(crate) fn new(test: &str, servers: &[&str]) -> Option<Self> {
        if !root_or_skip(test) {
            return None;
        }
        let links = links();
        let labels = [&["client", "lb"], servers].concat();
        let net = Net::new(&labels).unwrap();
        Some(Self { net, links })
    }

    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    pub(crate) fn place(&self, label: &str) -> Place {
        self.net.place(label).unwrap()
    }

    pub(crate) fn at(&self, label: &str, port: u16) -> SocketAddr {
        self.net.address(label, port).unwrap()
    }

    /// An HTTP server in the namespace of this label, named after both.
    pub(crate) fn http(&self, label: &str, port: u16) -> HttpBackend {
        let address = self.at(label, port);
        HttpBackend::start_at(&format!("{label}-{port}"), &self.place(label), address).unwrap()
    }

    /// A TCP server, as [`Self::http`].
    pub(crate) fn tcp(&self, label: &str, port: u16) -> TcpBackend {
        let address = self.at(label, port);
        TcpBackend::start_at(&format!("{label}-{port}"), &self.place(label), address).unwrap()
    }

    /// Requests for this host from the client's namespace: 4 at a time, with a short pause between
    /// them that leaves the processors to whoever is tested.
    pub(crate) fn requests(&self, host: &str) -> ClientPlan {
        ClientPlan {
            place: self.place("client"),
            tasks: 4,
            pause: Duration::from_millis(2),
            ..ClientPlan::http(self.at("lb", HTTP), host)
        }
    }

    /// Exchanges over TCP, as [`Self::requests`].
    pub(crate) fn exchanges(&self) -> ClientPlan {
        ClientPlan {
            place: self.place("client"),
            tasks: 4,
            pause: Duration::from_millis(2),
            ..ClientPlan::tcp(self.at("lb", TCP))
        }
    }

    /// So many tunnels for this host from the client's namespace.
    pub(crate) fn tunnels(&self, host: &str, count: usize) -> TunnelPlan {
        TunnelPlan {
            place: self.place("client"),
            ..TunnelPlan::http(self.at("lb", HTTP), host, count)
        }
    }

    /// What starts the daemon in the namespace `lb`.
    pub(crate) fn plan(&self, config: &str) -> DaemonPlan {
        let namespace = self.net.namespace("lb").unwrap();
        DaemonPlan {
            namespace: Some(namespace.name().to_owned()),
            // The kernel may take its time over programs.
            bound: 6 * SOON,
            ..DaemonPlan::new(BINARY, config)
        }
    }

    /// Starts the daemon with two workers, and waits until all is in force.
    pub(crate) async fn start(&self, config: &str) -> Lb {
        let config = match config.contains("[daemon]") {
            true => config.to_owned(),
            false => format!("{DAEMON}{config}"),
        };
        let lb = Lb(Daemon::start(self.plan(&config)).await.unwrap());
        lb.until_ready().await;
        lb
    }

    /// Runs a program in the client's namespace to its end, which has to come soon.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Ended {
        let mut command = self.net.namespace("client").unwrap().command(program);
        command.args(args);
        ended(command)
    }

    /// Ends the daemon if it still runs, and makes sure that nothing is left of the test: no
    /// process, namespace or link.
    pub(crate) fn close(self, lb: Lb) {
        let process = format!("/proc/{}", lb.0.id());
        drop(lb);
        assert!(!fs::exists(&process).unwrap(), "{process} is left");
        let inside = self.net.namespace("lb").unwrap().name().to_owned();
        let left = Command::new("ip").args(["netns", "pids", &inside]).output();
        let left = String::from_utf8(left.unwrap().stdout).unwrap();
        assert_eq!(left, "", "processes are left in {inside}");
        self.end();
    }

    /// Makes sure that no namespace or link is left of the test.
    pub(crate) fn end(self) {
        self.net.close().unwrap();
        let more: Vec<_> = links().difference(&self.links).cloned().collect();
        assert!(more.is_empty(), "links are left: {more:?}");
    }
}

/// The links of the host.
fn links() -> BTreeSet<String> {
    fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The daemon under test.
pub(crate) struct Lb(pub(crate) Daemon);

impl Lb {
    /// Runs a command of the binary against this daemon, to its end.
    pub(crate) fn ask(&self, args: &[&str]) -> Ended {
        let socket = self.0.admin_path();
        let mut command = Command::new(BINARY);
        command.args(args).arg("--admin").arg(socket);
        ended(command)
    }

    /// As [`Self::ask`], and it has to do what it was asked to.
    #[track_caller]
    pub(crate) fn tell(&self, args: &[&str]) -> String {
        let ended = self.ask(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.err);
        ended.out
    }

    /// All there is to see, from the admin API.
    pub(crate) async fn status(&self) -> Value {
        let answer = self.0.admin_get("/v1/status").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_str(&answer.text()).unwrap()
    }

    /// Waits until all is in force. On a busy machine the kernel may take its time over programs, and
    /// the daemon answers nobody meanwhile.
    pub(crate) async fn until_ready(&self) {
        let is_ready = async || match self.0.admin_get("/v1/status").await {
            Ok(answer) => {
                let status: Value = serde_json::from_str(&answer.text()).unwrap_or_default();
                status["ready"] == true
            }
            Err(_) => false,
        };
        let state = || self.ask(&["status"]).out;
        until(4 * SOON, "it is ready", is_ready, state).await;
    }

    /// What is to see of a backend; null if there is none.
    pub(crate) async fn backend(&self, service: &str, address: SocketAddr) -> Value {
        backend(&self.status().await, service, address).clone()
    }

    /// Waits until this holds.
    #[track_caller]
    pub(crate) fn until<'a>(
        &'a self,
        what: &'a str,
        holds: impl AsyncFn() -> bool + 'a,
    ) -> impl Future<Output = ()> + 'a {
        until(SOON, what, holds, || self.ask(&["status"]).out)
    }

    /// Waits until nothing is in flight any more.
    pub(crate) async fn until_idle(&self) {
        self.until("nothing is in flight", async || {
            let status = self.status().await;
            let services = list(&status["services"]);
            let backends = services.iter().flat_map(|s| list(&s["backends"]));
            let listens = services.iter().flat_map(|s| list(&s["listens"]));
            backends
                .map(|b| &b["counters"])
                .all(|c| c["active"] == 0 && c["queued"] == 0)
                && listens.into_iter().all(|l| l["connections"] == 0)
        })
        .await;
    }

    /// The processor time it has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // proc_pid_stat(5): behind the name in brackets, user and system time are the 12th and
        // 13th field, in hundredths of a second.
        let behind = stat.rsplit_once(')').unwrap().1;
        let fields = behind.split_whitespace().skip(11).take(2);
        let ticks = fields
            .map(|field| field.parse::<u64>().unwrap())
            .sum::<u64>();
        Duration::from_millis(10 * ticks)
    }

    /// The memory it holds, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.unwrap().split_whitespace().nth(1);
        number.unwrap().parse().unwrap()
    }

    /// How many file descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0.id()))
            .unwrap()
            .count()
    }
}

/// The backend of a service in a status; null if there is none.
pub(crate) fn backend<'a>(status: &'a Value, service: &str, address: SocketAddr) -> &'a Value {
    let services = list(&status["services"]).iter();
    let found = services.filter(|s| s["name"] == service);
    let mut backends = found.flat_map(|s| list(&s["backends"]));
    let wanted = address.to_string();
    backends
        .find(|b| b["addr"] == wanted)
        .unwrap_or(&Value::Null)
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end, which has to come soon.
pub(crate) fn ended(mut command: Command) -> Ended {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The tasks of this runtime thread go on elsewhere meanwhile.
    tokio::task::block_in_place(|| finish(child, &format!("{command:?}")))
}

fn finish(mut child: Child, what: &str) -> Ended {
    let out = read(child.stdout.take().unwrap());
    let err = read(child.stderr.take().unwrap());
    let mut status = None;
    let done = wait_until(2 * SOON, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !done {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (out, err) = (out.join().unwrap(), err.join().unwrap());
    assert!(done, "{what} does not end: {out} {err}");
    Ended {
        code: status.unwrap().code(),
        out,
        err,
    }
}

fn read(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
