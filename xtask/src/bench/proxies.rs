//! The proxies: where they are, their configurations, their processes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::configs::{haproxy_config, nginx_config, plimsoll_config};
use super::load::Reuse;
use super::measure::{self, Cores};
use super::{Error, Mode};

/// A proxy has so long to accept its first connection.
const START: Duration = Duration::from_secs(10);

/// Memory has so long to come to rest.
const SETTLE: Duration = Duration::from_secs(10);

/// A proxy that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours.
    Plimsoll,
    /// `haproxy`.
    Haproxy,
    /// `nginx`.
    Nginx,
}

impl Kind {
    /// In the order of the rounds and of the report.
    pub(crate) const ALL: [Self; 3] = [Self::Plimsoll, Self::Haproxy, Self::Nginx];

    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plimsoll => "plimsoll",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }
}

/// Where everything is.
pub(crate) struct Paths {
    ours: PathBuf,
    haproxy: PathBuf,
    nginx: PathBuf,
    /// nginx's module for TCP, if it is installed.
    stream: Option<PathBuf>,
    /// Configurations, logs and profiles lie here.
    dir: PathBuf,
    /// Held as long as the bench runs: two at once would measure each other.
    _lock: File,
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

impl Paths {
    /// Finds the peers and takes the bench's folder.
    ///
    /// # Errors
    /// A peer is not installed, or another bench is running.
    pub(crate) fn find(mode: Mode, ours: Option<&Path>) -> Result<Self, Error> {
        let (haproxy, nginx) = match (which("haproxy"), which("nginx")) {
            (Some(haproxy), Some(nginx)) => (haproxy, nginx),
            (haproxy, nginx) => {
                let packages: Vec<&str> = [
                    haproxy.is_none().then_some("haproxy"),
                    nginx.is_none().then_some("nginx-light"),
                    (nginx.is_none() && mode != Mode::Http).then_some("libnginx-mod-stream"),
                ]
                .into_iter()
                .flatten()
                .collect();
                return Err(Error::Setup(format!(
                    "the peers are missing; on Debian: apt-get install {}",
                    packages.join(" ")
                )));
            }
        };
        for tool in ["setpriv", "taskset"] {
            if which(tool).is_none() {
                return Err(Error::Setup(format!(
                    "`{tool}` is missing; on Debian: apt-get install util-linux"
                )));
            }
        }
        let target = target_folder();
        let dir = target.join("bench");
        let made = fs::create_dir_all(&dir).and_then(|()| fs::canonicalize(&dir));
        let dir = made.map_err(|error| Error::Io("making target/bench", error))?;
        let lock = File::create(dir.join("lock")).map_err(|error| Error::Io("lock", error))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| Error::Setup("another bench is running here".to_owned()))?;
        let ours = ours.map_or_else(|| target.join("release/plimsoll"), Path::to_path_buf);
        Ok(Self {
            // The proxies run in a folder of their own: the path must hold from there too.
            ours: std::path::absolute(&ours).unwrap_or(ours),
            haproxy,
            stream: stream_module(&nginx),
            nginx,
            dir,
            _lock: lock,
        })
    }

    /// Why plimsoll cannot take part.
    pub(crate) fn missing_ours(&self) -> Option<String> {
        (!self.ours.is_file()).then(|| {
            format!(
                "there is no {} (cargo build --release)",
                self.ours.display()
            )
        })
    }

    /// Why nginx cannot take part.
    pub(crate) fn missing_nginx(&self, mode: Mode) -> Option<String> {
        (mode != Mode::Http && self.stream.is_none()).then(|| {
            "it has no stream module (on Debian: apt-get install libnginx-mod-stream)".to_owned()
        })
    }

    /// What each program says of its version.
    pub(crate) fn version(&self, kind: Kind) -> Option<String> {
        let (program, flag) = match kind {
            Kind::Plimsoll => (&self.ours, "--version"),
            Kind::Haproxy => (&self.haproxy, "-v"),
            Kind::Nginx => (&self.nginx, "-v"),
        };
        let output = Command::new(program)
            .arg(flag)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        // nginx tells it on standard error.
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        Some(said.lines().next()?.trim().to_owned())
    }
}

/// nginx's stream module, where its build looks for modules.
fn stream_module(nginx: &Path) -> Option<PathBuf> {
    let output = Command::new(nginx).arg("-V").output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let modules = said
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("--modules-path="))?;
    let module = Path::new(modules).join("ngx_stream_module.so");
    module.is_file().then_some(module)
}

/// Finds a program, also where only root looks by default.
fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// A running proxy. It is killed when this is dropped, and by the kernel when the bench dies.
pub(crate) struct Proxy {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Proxy {
    /// Starts a proxy on its core and waits until it accepts connections.
    ///
    /// # Errors
    /// It ends, or does not accept within ten seconds; the text holds the end of its log.
    pub(crate) fn start(
        kind: Kind,
        paths: &Paths,
        mode: Mode,
        backends: &[u16],
        cores: Cores,
        reuse: Reuse,
    ) -> Result<Self, Error> {
        let dir = paths.dir.join(kind.name());
        let failed = |error| Error::Io("preparing a proxy", error);
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(failed)?;
        }
        fs::create_dir_all(&dir).map_err(failed)?;
        let port = free_port()?;
        let (program, config) = match kind {
            Kind::Plimsoll => {
                let config = plimsoll_config(mode, port, backends, reuse, cores.threads);
                (&paths.ours, config)
            }
            Kind::Haproxy => {
                let config = haproxy_config(mode, port, backends, cores.threads);
                (&paths.haproxy, config)
            }
            Kind::Nginx => {
                let stream = paths.stream.as_deref();
                (
                    &paths.nginx,
                    nginx_config(mode, port, backends, stream, reuse),
                )
            }
        };
        fs::write(dir.join("config"), config).map_err(failed)?;
        let log = dir.join("log");
        let out = File::create(&log).map_err(failed)?;
        // Both exec what follows: the process that is started is the proxy.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "taskset", "--cpu-list"])
            .arg(cores.of_proxy())
            .arg(program);
        match kind {
            Kind::Plimsoll => {
                command.args(["run", "--config", "config", "--admin", "admin.sock"]);
            }
            Kind::Haproxy => {
                command.args(["-db", "-f", "config"]);
            }
            Kind::Nginx => {
                command
                    .arg("-p")
                    .arg(&dir)
                    .arg("-c")
                    .arg(dir.join("config"));
                command.args(["-e", "stderr"]);
            }
        }
        let err = out.try_clone().map_err(failed)?;
        let child = command
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(failed)?;
        let mut proxy = Self { child, port, log };
        proxy.await_ready(kind, mode)?;
        Ok(proxy)
    }

    fn await_ready(&mut self, kind: Kind, mode: Mode) -> Result<(), Error> {
        let until = Instant::now() + START;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        loop {
            let listens = match mode {
                Mode::Udp => takes_datagrams(address),
                _ => TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok(),
            };
            if listens {
                return Ok(());
            }
            let ended = self.child.try_wait();
            if let Ok(Some(status)) = ended {
                let log = self.log();
                return Err(Error::Run(format!(
                    "{} ended, {status}: {log}",
                    kind.name()
                )));
            }
            if Instant::now() > until {
                return Err(Error::Run(format!(
                    "{} does not listen after {} s: {}",
                    kind.name(),
                    START.as_secs(),
                    self.log()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where it listens on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The end of what it wrote.
    pub(crate) fn log(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(2000);
        let end = String::from_utf8_lossy(text.get(start..).unwrap_or_default());
        let end = end.trim();
        if end.is_empty() {
            "(it wrote nothing)".to_owned()
        } else {
            end.to_owned()
        }
    }

    /// CPU time it has used so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Error> {
        measure::cpu_time(self.child.id())
    }

    /// CPU time of its threads so far, in nanoseconds, by their number.
    pub(crate) fn threads(&self) -> Result<Vec<(String, u64)>, Error> {
        measure::busiest(self.child.id())
    }

    /// Its resident memory in KiB, once two readings 100 ms apart agree.
    pub(crate) fn settled_rss_kib(&self) -> Result<u64, Error> {
        let until = Instant::now() + SETTLE;
        let mut last = measure::rss_kib(self.child.id())?;
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = measure::rss_kib(self.child.id())?;
            if now == last || Instant::now() > until {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Begins to record where it spends its time, for `time`.
    pub(crate) fn record(
        &self,
        paths: &Paths,
        mode: Mode,
        row: &str,
        time: Duration,
    ) -> Result<Recording, Error> {
        let Some(perf) = which("perf") else {
            return Err(Error::Setup(
                "`perf` is missing; on Debian: apt-get install linux-perf".to_owned(),
            ));
        };
        let data = paths.dir.join(format!("{}-{row}.perf", mode.name()));
        let child = Command::new(&perf)
            .args(["record", "--quiet", "-g", "--pid"])
            .arg(self.child.id().to_string())
            .arg("--output")
            .arg(&data)
            .args(["--", "sleep"])
            .arg(time.as_secs_f64().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| Error::Io("starting perf", error))?;
        Ok(Recording { child, perf, data })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // Fails only if it has ended already.
    let _ended = child.kill();
    let _status = child.wait();
}

/// A running `perf record`.
pub(crate) struct Recording {
    child: Child,
    perf: PathBuf,
    data: PathBuf,
}

impl Recording {
    /// Waits for its end and says where the profile lies and how to read it.
    pub(crate) fn finish(mut self) -> Result<String, Error> {
        let status = self
            .child
            .wait()
            .map_err(|error| Error::Io("waiting for perf", error))?;
        if !status.success() {
            return Err(Error::Run(format!("perf ended, {status}")));
        }
        Ok(format!(
            "profile: {} report --no-children -i {}",
            self.perf.display(),
            self.data.display()
        ))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A port of 127.0.0.1 that nobody listens on, outside the range from which the kernel takes the
/// ports of outgoing connections.
fn free_port() -> Result<u16, Error> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let lowest: u16 = range
        .split_ascii_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(32768);
    let last = if lowest > 12_000 {
        lowest - 1
    } else {
        u16::MAX
    };
    let spread = u32::from(last - 10_000);
    let start = std::process::id().wrapping_mul(37);
    (0..2000)
        .filter_map(|step| u16::try_from(10_000 + start.wrapping_add(step) % spread).ok())
        .find(|&port| {
            let at = (Ipv4Addr::LOCALHOST, port);
            TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
        })
        .ok_or_else(|| Error::Setup("no free port on 127.0.0.1".to_owned()))
}

/// Whether a port takes datagrams: the kernel says where it does not.
fn takes_datagrams(address: SocketAddr) -> bool {
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        socket.send(b"?")?;
        socket.send(b"?")
    };
    ask().is_ok()
}
