//! `plimsoll run`: the daemon.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use clap::{Args, ValueEnum};
use plimsoll_admin::haproxy::serve_stats;
use plimsoll_admin::{Access, Socket, SocketError, serve_admin, serve_metrics};
use plimsoll_config::{AccessLogSettings, Config, LogFormat};
use plimsoll_discover::docker::host::EngineHost;
use plimsoll_discover::docker::links::LinksSource;
use plimsoll_discover::docker::source::DockerSource;
use plimsoll_discover::file::FileSource;
use plimsoll_model::{Listen, LogTo};
use plimsoll_plane_ebpf::{Interfaces, Options as Packets, Sizes, TunnelSources};
use plimsoll_plane_proxy::{AccessLog, AccessOptions, CommonPages, Options};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::daemon::{Daemon, Handle, logs, place};
use crate::error::Error;
use crate::privileges;
use crate::probe::Probe;
use crate::vetted::Vetted;
use crate::watched::Wish;

/// Balance: find backends, listen, and follow every change until told to stop.
///
/// Without a configuration the containers of the local Docker Engine are balanced, as their labels
/// say; with one what the file says, and containers, too, where the file or --docker asks for them.
///
/// A configuration file is watched; SIGHUP reads it at once. A change that is invalid changes
/// nothing. An engine that is away changes nothing either, and is waited for. SIGUSR1, and SIGHUP, too,
/// open the file of an access log anew. SIGTERM and SIGINT
/// accept nothing more, let what is in flight end, and stop; a second one stops at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll run                                   the containers of the local engine
  plimsoll run --listen '*:8080' --docker tcp://10.0.0.5:2376
  plimsoll run --config plimsoll.toml            a file
  plimsoll run --config plimsoll.toml --docker   both
  kill -HUP $(pidof plimsoll)                    read the configuration again")]
pub(crate) struct Run {
    /// Configuration file [default: /etc/plimsoll/plimsoll.toml, if it is there]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Balance the containers of this engine, unix:///PATH or tcp://HOST:PORT [default without a
    /// configuration: $DOCKER_HOST, else /var/run/docker.sock]
    #[arg(long, value_name = "HOST", num_args = 0..=1)]
    docker: Option<Option<String>>,
    /// Balance what legacy links of this container say (docker run --link WEB_1:WEB_1), read once
    /// from the environment; no engine is needed for it
    #[arg(long)]
    links: bool,
    /// Where HTTP services of containers and links listen that do not say it themselves: PORT or
    /// ADDR:PORT; `*` is any address [default: *:80]
    #[arg(long, value_name = "ADDR:PORT", value_parser = crate::cli::http_listen)]
    listen: Option<Listen>,
    /// Started as root, become this user, by number or name, once root is not needed any more; the
    /// group of the engine's socket is kept, and the right to listen on ports below 1024. Started as
    /// somebody else, it means nothing
    #[arg(long, value_name = "UID[:GID]", value_parser = crate::users::user)]
    user: Option<(u32, u32)>,
    #[command(flatten)]
    admin: crate::cli::Admin,
    /// Unix socket that answers HAProxy's commands (show stat, set server, …) to the tools that ask
    /// them, such as hatop [default: none]
    #[arg(long, value_name = "SOCKET")]
    stats: Option<PathBuf>,
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

/// Threads that read files end after being idle for so long. Files are looked at twice a second by turns:
/// with a longer time none of those of a busy moment would ever end.
const IDLE: Duration = Duration::from_secs(1);

/// At the end, what is left of the access log is written within this time or not at all.
const FLUSH: Duration = Duration::from_secs(1);

/// What is watched.
struct Sources {
    file: Option<FileSource>,
    docker: Option<DockerSource>,
    links: Option<LinksSource>,
}

/// Where admins and their tools are listened to.
struct Sockets {
    admin: Socket,
    stats: Option<Socket>,
    metrics: Option<std::net::TcpListener>,
}

impl Run {
    pub(crate) fn run(self) -> Result<(), Error> {
        let wish = self.wish();
        let path = wish.file();
        let vetted = path.as_deref().map(Vetted::watched).transpose()?;
        let config = vetted.as_ref().map(Vetted::config).transpose()?;
        let engine = wish.engine(config, |name| std::env::var(name).ok())?;
        let config = &config.cloned().unwrap_or_default();
        let (settings, http) = (&config.daemon, wish.http(config));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_keep_alive(IDLE)
            .build()
            .map_err(|why| Error::Failed(format!("the runtime cannot be started: {why}")))?;
        // From here on a signal is an orderly end, before there is anything to leave behind.
        let signals = {
            let _on = runtime.enter();
            Signals::new().map_err(|why| Error::Failed(format!("signals: {why}")))?
        };
        let socket = match self.admin.admin.as_ref().or(settings.admin.as_ref()) {
            Some(path) => Socket::bind(path, Access::default()),
            None => Socket::bind(&place::make_default()?, Access::default()),
        };
        let socket = socket.map_err(no_admin_socket)?;
        let stats = self.stats.as_ref().or(settings.stats.as_ref());
        let stats = stats
            .map(|path| bind_stats(path, socket.path()))
            .transpose()?;
        let metrics = settings.metrics.map(bind_metrics).transpose()?;
        let sockets = Sockets {
            admin: socket,
            stats,
            metrics,
        };
        if let Some(user) = self.user {
            become_user(user, engine.as_ref(), path.as_deref())?;
        }
        // Starts a thread, so it comes after that.
        let format = match self.log_format {
            Some(Format::Text) => LogFormat::Text,
            Some(Format::Json) => LogFormat::Json,
            None => settings.log.unwrap_or_default(),
        };
        let _flush = logs::start(format, &self.log)?;
        if let Some((user, _)) = self.user
            && let Some(here) = privileges::another_than(user)
        {
            info!("--user: only root becomes user {user}, and this is user {here}: stays so");
        }
        if let Some(host) = engine.as_ref().filter(|host| host.is_anybody()) {
            warn!(
                "{host}: the engine's certificate is not verified: it may be anybody; set DOCKER_TLS_VERIFY=1"
            );
        }
        raise_descriptors();
        let cores = available_parallelism().map_or(1, usize::from);
        let workers = self.workers.map(usize::from).or(settings.workers);
        let workers = workers.unwrap_or(cores);
        let drain = self.drain_timeout.unwrap_or(settings.drain);
        let pages = CommonPages::default();
        pages.set(&config.error_pages);
        let sources = Sources {
            file: path.map(|path| FileSource::native(path, in_force(config, pages.clone()))),
            docker: engine.map(|host| DockerSource::new(host, http)),
            links: self.links.then(|| LinksSource::new(variables(), http)),
        };
        let access_log = open_access_log(&settings.access_log)?;
        let options = Options {
            workers,
            access_log: access_log.clone(),
            pages,
            compress_memory: settings.compress_memory,
        };
        let packets = packets(&config.packets);
        let result = runtime.block_on(serve(sources, sockets, (options, packets), drain, signals));
        access_log.finish(FLUSH);
        // Whoever still waits for an answer does not hold the process up.
        runtime.shutdown_background();
        result
    }

    fn wish(&self) -> Wish {
        Wish {
            config: self.config.clone(),
            docker: self.docker.clone(),
            listen: self.listen,
            links: self.links,
        }
    }

    /// How to ask a daemon that was started so whether it is well.
    pub(crate) fn probe(&self, target: &str) -> Probe {
        let admin = self.admin.admin.clone().or_else(|| {
            let text = std::fs::read_to_string(self.wish().file()?).ok()?;
            plimsoll_config::parse("", &text).ok()?.daemon.admin
        });
        Probe::unix(admin.unwrap_or_else(place::default), target)
    }
}

fn no_admin_socket(why: SocketError) -> Error {
    let read_only = match &why {
        SocketError::Io { source, .. } => source.kind() == io::ErrorKind::ReadOnlyFilesystem,
        _ => false,
    };
    let hint = match read_only {
        true => "; in a container: --tmpfs /run",
        false => "",
    };
    Error::Failed(format!("{why}{hint}"))
}

/// The environment, as far as it is text.
fn variables() -> impl Iterator<Item = (String, String)> {
    let text = |(key, value): (OsString, OsString)| {
        Some((key.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text)
}

/// Gives up root, and makes sure that what is watched can still be read.
fn become_user(
    (user, group): (u32, u32),
    engine: Option<&EngineHost>,
    file: Option<&Path>,
) -> Result<(), Error> {
    let socket = engine.and_then(EngineHost::socket);
    let also = socket.and_then(privileges::group_of);
    if !privileges::give_up(user, group, also.as_slice())? {
        return Ok(());
    }
    let lost = |path: &Path, what: &str| {
        let path = path.display();
        Error::Failed(format!("--user {user}:{group}: {path}: {what}"))
    };
    if let Some(path) = file
        && File::open(path).is_err()
    {
        return Err(lost(path, "cannot be read as this user: let it (chmod)"));
    }
    match (socket, also) {
        (Some(path), Some(also)) if !privileges::may_write(path) => {
            let what = format!(
                "cannot be used as this user: let group {also} write to it, and start as root, \
                 which keeps that group, or in it (docker run --group-add {also})"
            );
            Err(lost(path, &what))
        }
        _ => Ok(()),
    }
}

/// Brings into force what of a new text is neither a service nor a route.
fn in_force(used: &Config, pages: CommonPages) -> impl Fn(&Config) + Send + Sync + use<> {
    let warn_of_change = warn_of_change(used);
    move |read| {
        pages.set(&read.error_pages);
        warn_of_change(read);
    }
}

/// Says when `[daemon]`, `[docker]` or `[ebpf]` is another than the one that is in use, once for each change.
fn warn_of_change(used: &Config) -> impl Fn(&Config) + Send + Sync + use<> {
    let tables = |of: &Config| (of.daemon.clone(), of.docker.clone(), of.packets.clone());
    let used = tables(used);
    let last = Mutex::new(used.clone());
    move |read| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let read = tables(read);
        say_change("[daemon]", &used.0, &last.0, &read.0);
        say_change("[docker]", &used.1, &last.1, &read.1);
        say_change("[ebpf]", &used.2, &last.2, &read.2);
        *last = read;
    }
}

fn say_change<T: PartialEq>(table: &str, used: &T, last: &T, read: &T) {
    match read {
        read if read == last => {}
        read if read == used => info!("{table} is as it was at the start again"),
        _ => warn!("{table} has changed: that counts from the next start on"),
    }
}

/// How the packet plane is to be, if a service needs it.
fn packets(settings: &plimsoll_config::Packets) -> Packets {
    let info = rustix::system::sysinfo();
    let memory = u64::from(info.mem_unit).saturating_mul(info.totalram);
    let sizes = Sizes::for_memory(memory);
    Packets {
        sizes: settings
            .flows
            .map_or(sizes, |flows| sizes.with_flows(flows)),
        interfaces: Interfaces {
            tc: settings.interfaces.clone(),
            xdp: settings.xdp.clone(),
        },
        tunnels: TunnelSources {
            v4: (settings.tunnel_source_v4).map(|net| (net.network(), net.prefix_len())),
            v6: settings.tunnel_source_v6.map(|net| net.network()),
        },
    }
}

async fn serve(
    sources: Sources,
    mut sockets: Sockets,
    (options, packets): (Options, Packets),
    drain: Duration,
    mut signals: Signals,
) -> Result<(), Error> {
    let (workers, access_log) = (options.workers, options.access_log.clone());
    let (mut daemon, handle) = Daemon::start(options, Some(packets))
        .map_err(|why| Error::Failed(format!("the workers cannot be started: {why}")))?;
    let mut names = Vec::new();
    // A file that nothing can be listened on for is a mistake of whoever starts this. What
    // containers ask for comes and goes, and none may stand in the way of others.
    let whole = sources.docker.is_none();
    if let Some(file) = sources.file {
        names.push(file.id().name.clone());
        let reload = daemon.expect(file.id().clone());
        tokio::spawn(file.run(handle.updates.clone(), reload));
    }
    if let Some(docker) = sources.docker {
        names.push(docker.id().name.clone());
        let reload = daemon.expect(docker.id().clone());
        tokio::spawn(docker.run(handle.updates.clone(), reload));
    }
    if let Some(links) = sources.links {
        names.push(links.id().name.clone());
        daemon.expect(links.id().clone());
        tokio::spawn(links.run(handle.updates.clone()));
    }
    listen(&mut sockets, &handle)
        .map_err(|why| Error::Failed(format!("the admin's sockets: {why}")))?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        source = %names.join(", "),
        admin = %sockets.admin.path().display(),
        stats = sockets.stats.as_ref().map(|s| tracing::field::display(s.path().display())),
        workers,
        "plimsoll starts"
    );
    let mut settled = false;
    loop {
        if !settled && daemon.is_settled() {
            settled = true;
            if whole {
                daemon.any_listens().map_err(Error::Failed)?;
            }
            daemon.say_planes();
        }
        tokio::select! {
            () = daemon.turn() => {}
            told = signals.next() => match told {
                Told::Reload => {
                    info!("SIGHUP: reads the sources again");
                    daemon.reload();
                    access_log.reopen();
                }
                Told::Reopen => access_log.reopen(),
                Told::Stop => break,
            },
        }
    }
    info!(
        limit = plimsoll_config::format_duration(drain),
        "told to stop: drains"
    );
    tokio::select! {
        ended = daemon.finish(drain) => match ended {
            true => info!("all has ended"),
            false => warn!("the time to drain is over: cuts what is left"),
        },
        () = signals.stop() => warn!("told to stop again: cuts what is left"),
    }
    // Not before: what is in flight needs its address to the end.
    daemon.leave();
    Ok(())
}

fn listen(sockets: &mut Sockets, handle: &Handle) -> io::Result<()> {
    if let Some(listener) = sockets.admin.take() {
        let listener = UnixListener::from_std(listener)?;
        tokio::spawn(serve_admin(listener, handle.asks.clone()));
    }
    if let Some(listener) = sockets.stats.as_mut().and_then(Socket::take) {
        let listener = UnixListener::from_std(listener)?;
        tokio::spawn(serve_stats(listener, handle.asks.clone()));
    }
    if let Some(listener) = sockets.metrics.take() {
        let listener = TcpListener::from_std(listener)?;
        tokio::spawn(serve_metrics(listener, handle.asks.clone()));
    }
    Ok(())
}

fn bind_stats(path: &Path, admin: &Path) -> Result<Socket, Error> {
    if path == admin {
        return Err(Error::Failed(format!(
            "{}: the admin API listens there: choose another socket with --stats",
            path.display()
        )));
    }
    let access = Access {
        option: "--stats",
        ..Access::default()
    };
    Socket::bind(path, access).map_err(|why| Error::Failed(why.to_string()))
}

/// Opens what requests and connections are logged to.
fn open_access_log(settings: &AccessLogSettings) -> Result<AccessLog, Error> {
    let AccessLogSettings { format, to, query } = settings.clone();
    let what = match &to {
        LogTo::Stdout => "stdout".into(),
        LogTo::File(path) | LogTo::Syslog(path) => path.display().to_string(),
    };
    let opened = AccessLog::open(AccessOptions { format, to, query });
    opened.map_err(|why| Error::Failed(format!("[daemon] access-log: {what}: {why}")))
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
    Reopen,
    Stop,
}

struct Signals {
    hup: Signal,
    usr1: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hup.recv() => Told::Reload,
            _ = self.usr1.recv() => Told::Reopen,
            _ = self.term.recv() => Told::Stop,
            _ = self.int.recv() => Told::Stop,
        }
    }

    async fn stop(&mut self) {
        while !matches!(self.next().await, Told::Stop) {}
    }
}
