//! The binary, run as people run it: real processes, real sockets on loopback, no root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod check;
mod checks;
mod demo;
mod demo_server;
mod docker;
mod docker_proxy;
mod explain;
mod generated;
mod healthcheck;
mod looking;
mod node;
mod pty;
mod run;
mod stats;
mod stopping;

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use plimsoll_testkit::{Daemon, DaemonPlan, HttpBackend, Port, wait_until};

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_plimsoll");

/// Everything that should happen soon happens within this.
const SOON: Duration = Duration::from_secs(10);

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the binary to its end, which has to come soon.
fn plimsoll(args: &[&str]) -> Ended {
    let mut command = Command::new(BINARY);
    command.args(args);
    ended(command)
}

/// Runs a command to its end, which has to come soon.
fn ended(mut command: Command) -> Ended {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = read(child.stdout.take().unwrap());
    let err = read(child.stderr.take().unwrap());
    let mut status = None;
    let done = wait_until(3 * SOON, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !done {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!(
            "{command:?} does not end: {} {}",
            out.join().unwrap(),
            err.join().unwrap()
        );
    }
    Ended {
        code: status.unwrap().code(),
        out: out.join().unwrap(),
        err: err.join().unwrap(),
    }
}

fn read(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    })
}

/// A service called `web` of these backends on an HTTP listen.
fn web(listen: SocketAddr, backends: &[SocketAddr]) -> String {
    let backends: Vec<String> = backends.iter().map(|addr| format!("\"{addr}\"")).collect();
    format!(
        "[[service]]\nname = \"web\"\nlisten = \"{listen}/http\"\nscheduler = \"rr\"\n\
         backends = [{}]\n",
        backends.join(", ")
    )
}

/// Two backends, and a daemon with two workers in front of them.
struct Stage {
    daemon: Daemon,
    port: Port,
    backends: Vec<HttpBackend>,
}

impl Stage {
    async fn new() -> Self {
        Self::with("").await
    }

    /// With this text in the `[daemon]` table.
    async fn with(settings: &str) -> Self {
        let port = Port::take().unwrap();
        let backends = vec![
            HttpBackend::start("a").unwrap(),
            HttpBackend::start("b").unwrap(),
        ];
        let addresses = [backends[0].address(), backends[1].address()];
        let head = format!("[daemon]\nworkers = 2\n{settings}\n");
        let config = head + &web(port.address(), &addresses);
        let daemon = Daemon::start(DaemonPlan::new(BINARY, config))
            .await
            .unwrap();
        let stage = Self {
            daemon,
            port,
            backends,
        };
        stage.until_ready().await;
        stage
    }

    async fn until_ready(&self) {
        self.until(async || {
            self.daemon
                .admin_get("/readyz")
                .await
                .unwrap()
                .head
                .status()
                .unwrap()
                == 200
        })
        .await;
    }

    /// Waits until this holds.
    async fn until(&self, holds: impl AsyncFn() -> bool) {
        let started = std::time::Instant::now();
        while !holds().await {
            assert!(started.elapsed() < SOON, "{}", self.daemon.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn until_logged(&self, text: &str) {
        self.until(async || self.daemon.log().contains(text)).await;
    }

    /// Runs a command against this daemon.
    fn ask(&self, args: &[&str]) -> Ended {
        let socket = self.daemon.admin_path();
        let mut all = args.to_vec();
        all.extend(["--admin", text(&socket)]);
        plimsoll(&all)
    }

    fn address(&self, at: usize) -> String {
        self.backends[at].address().to_string()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
