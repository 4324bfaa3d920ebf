//! `plimsoll run`: the daemon.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use clap::{Args, ValueEnum};
use plimsoll_admin::{Access, Socket, serve_admin, serve_metrics};
use plimsoll_config::{Daemon as Settings, LogFormat};
use plimsoll_discover::file::FileSource;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::daemon::{Daemon, Handle, logs, place};
use crate::error::Error;
use crate::probe::Probe;
use crate::vetted::Vetted;

/// Balance: read the configuration, listen, and follow every change until told to stop.
///
/// The configuration file is watched; SIGHUP reads it at once. A change that is invalid changes
/// nothing. SIGTERM and SIGINT accept nothing more, let what is in flight end, and stop; a second
/// one stops at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll run --config plimsoll.toml
  plimsoll run --config plimsoll.toml --admin /tmp/lb.sock --log-format json
  kill -HUP $(pidof plimsoll)                    read the configuration again")]
pub(crate) struct Run {
    /// Configuration file [default: /etc/plimsoll/plimsoll.toml]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    admin: crate::cli::Admin,
    /// Worker threads of the proxy plane, 1 to 256 [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Log lines on standard error for people or as JSON [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// What is logged: error, warn, info, debug or trace, or by part (info,plimsoll_control=debug)
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
    /// How long connections and requests may take to end after SIGTERM [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = crate::cli::duration)]
    drain_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Used if it is there and no other is named.
const DEFAULT_CONFIG: &str = "/etc/plimsoll/plimsoll.toml";

impl Run {
    pub(crate) fn run(self) -> Result<(), Error> {
        let path = self.config_path()?;
        let vetted = Vetted::watched(&path)?;
        let config = vetted.config()?;
        let settings = &config.daemon;
        let format = match self.log_format {
            Some(Format::Text) => LogFormat::Text,
            Some(Format::Json) => LogFormat::Json,
            None => settings.log.unwrap_or_default(),
        };
        let _flush = logs::start(format, &self.log)?;
        raise_descriptors();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| Error::Failed(format!("the runtime cannot be started: {why}")))?;
        // From here on a signal is an orderly end, before there is anything to leave behind.
        let signals = {
            let _on = runtime.enter();
            Signals::new().map_err(|why| Error::Failed(format!("signals: {why}")))?
        };
        let socket = match self.admin.admin.or_else(|| settings.admin.clone()) {
            Some(path) => Socket::bind(&path, Access::default()),
            None => Socket::bind(&place::make_default()?, Access::default()),
        };
        let socket = socket.map_err(Error::failed)?;
        let metrics = settings.metrics.map(bind_metrics).transpose()?;
        let cores = available_parallelism().map_or(1, usize::from);
        let workers = self
            .workers
            .map(usize::from)
            .or(settings.workers)
            .unwrap_or(cores);
        let drain = self.drain_timeout.unwrap_or(settings.drain);
        let source = FileSource::native(&path, warn_of_change(settings.clone()));
        let result = runtime.block_on(serve(source, socket, metrics, workers, drain, signals));
        // Whoever still waits for an answer does not hold the process up.
        runtime.shutdown_background();
        result
    }

    /// How to ask a daemon that was started so whether it is well.
    pub(crate) fn probe(&self, target: &str) -> Probe {
        let admin = self.admin.admin.clone().or_else(|| {
            let text = std::fs::read_to_string(self.config_path().ok()?).ok()?;
            plimsoll_config::parse("", &text).ok()?.daemon.admin
        });
        Probe::unix(admin.unwrap_or_else(place::default), target)
    }

    fn config_path(&self) -> Result<PathBuf, Error> {
        match &self.config {
            Some(path) => Ok(path.clone()),
            None if Path::new(DEFAULT_CONFIG).exists() => Ok(DEFAULT_CONFIG.into()),
            None => Err(Error::Usage(format!(
                "no configuration: name one with --config FILE, or write {DEFAULT_CONFIG}; \
                 `plimsoll demo` shows plimsoll at work without any"
            ))),
        }
    }
}

/// Says when the `[daemon]` table is another than the one that is in use, once for each change.
fn warn_of_change(used: Settings) -> impl Fn(&Settings) + Send + Sync {
    let last = Mutex::new(used.clone());
    move |read| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == *read {
            return;
        }
        match *read == used {
            true => info!("[daemon] is as it was at the start again"),
            false => warn!("[daemon] has changed: that counts from the next start on"),
        }
        *last = read.clone();
    }
}

async fn serve(
    source: FileSource,
    mut socket: Socket,
    metrics: Option<std::net::TcpListener>,
    workers: usize,
    drain: Duration,
    mut signals: Signals,
) -> Result<(), Error> {
    let (mut daemon, handle) = Daemon::start(workers)
        .map_err(|why| Error::Failed(format!("the workers cannot be started: {why}")))?;
    let name = source.id().name.clone();
    let reload = daemon.expect(source.id().clone());
    tokio::spawn(source.run(handle.updates.clone(), reload));
    if let Err(why) = listen(&mut socket, metrics, &handle) {
        return Err(Error::Failed(format!("{}: {why}", socket.path().display())));
    }
    info!(
        version = env!("CARGO_PKG_VERSION"),
        source = %name,
        admin = %socket.path().display(),
        workers,
        "plimsoll starts"
    );
    // The first configuration, before anything else is said.
    while !daemon.is_settled() {
        tokio::select! {
            () = daemon.turn() => {}
            told = signals.next() => match told {
                Told::Reload => daemon.reload(),
                Told::Stop => return Ok(()),
            },
        }
    }
    daemon.any_listens().map_err(Error::Failed)?;
    info!("plane proxy carries all services: no other plane is in this build");
    loop {
        tokio::select! {
            () = daemon.turn() => {}
            told = signals.next() => match told {
                Told::Reload => {
                    info!("SIGHUP: reads the configuration again");
                    daemon.reload();
                }
                Told::Stop => break,
            },
        }
    }
    info!(
        limit = plimsoll_config::format_duration(drain),
        "told to stop: drains"
    );
    let ended = tokio::select! {
        ended = daemon.finish(drain) => ended,
        () = signals.stop() => {
            warn!("told to stop again: cuts what is left");
            return Ok(());
        }
    };
    match ended {
        true => info!("all has ended"),
        false => warn!("the time to drain is over: cuts what is left"),
    }
    Ok(())
}

fn listen(
    socket: &mut Socket,
    metrics: Option<std::net::TcpListener>,
    handle: &Handle,
) -> io::Result<()> {
    if let Some(listener) = socket.take() {
        let listener = UnixListener::from_std(listener)?;
        tokio::spawn(serve_admin(listener, handle.asks.clone()));
    }
    if let Some(listener) = metrics {
        let listener = TcpListener::from_std(listener)?;
        tokio::spawn(serve_metrics(listener, handle.asks.clone()));
    }
    Ok(())
}

fn bind_metrics(addr: std::net::SocketAddr) -> Result<std::net::TcpListener, Error> {
    let listener = std::net::TcpListener::bind(addr).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|why| {
        Error::Failed(format!(
            "[daemon] metrics = \"{addr}\": {why}; choose another address"
        ))
    })
}

/// Every connection takes two descriptors and more: as many as the system lets us have.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(why) = setrlimit(Resource::Nofile, wanted) {
        error!("the limit of open files stays {:?}: {why}", limit.current);
    }
}

/// What a signal says.
enum Told {
    Reload,
    Stop,
}

struct Signals {
    hup: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hup: signal(SignalKind::hangup())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hup.recv() => Told::Reload,
            _ = self.term.recv() => Told::Stop,
            _ = self.int.recv() => Told::Stop,
        }
    }

    async fn stop(&mut self) {
        while !matches!(self.next().await, Told::Stop) {}
    }
}
