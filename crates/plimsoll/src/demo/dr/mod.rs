//! The demo of direct routing: a client, a director and three nodes, each with a network of its own.

mod book;
mod containers;
mod namespaces;
mod packets;
mod plan;
mod scene;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_admin::Client;
use plimsoll_plane_ebpf::node::{Namespace, Node, Target};
use tokio::time::timeout;

use super::counted;
use super::live::{self, Stop};
use super::load::{Load, Manner, Talk, Told};
use super::world::World;
use crate::error::Error;
use crate::out;
use book::Book;
use containers::Containers;
use namespaces::Namespaces;
use packets::Ear;
use plan::{CLIENT, DIRECTOR, INTERFACE, NODES, PORT, Plan};
use scene::{Cast, Scene};

/// All is ready within this, or it is not going to be.
const READY: Duration = Duration::from_secs(60);
/// The director's admin socket, in a folder of its own, which it locks.
const SOCKET: &str = "director/admin.sock";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// A request that is not answered for so long is sent again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Settings of the client's network alone: so many short connections need many ports.
const CLIENT_SETTINGS: [(&str, &str); 2] = [
    ("net/ipv4/tcp_tw_reuse", "1"),
    ("net/ipv4/ip_local_port_range", "10000 65535"),
];

/// What hosts are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Namespaces,
    Containers,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) vip: IpAddr,
    /// None: containers where they can be had.
    pub(crate) kind: Option<Kind>,
    pub(crate) requests: Option<u64>,
    /// How everything that is made is called.
    pub(crate) name: String,
}

/// How a host's program is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As SIGKILL does.
    Kill,
    /// As SIGTERM asks for.
    Stop,
}

/// The hosts, whatever they are made of.
enum Ground {
    Namespaces(Namespaces),
    Containers(Containers),
}

impl Ground {
    fn namespace(&self, host: &str) -> Result<Namespace, Error> {
        match self {
            Ground::Namespaces(all) => all.namespace(host),
            Ground::Containers(all) => all.namespace(host),
        }
    }

    fn start(&self, host: &str) -> Result<(), Error> {
        match self {
            Ground::Namespaces(all) => all.start(host),
            Ground::Containers(all) => all.start(host),
        }
    }

    fn end(&self, host: &str, how: End) -> Result<(), Error> {
        match self {
            Ground::Namespaces(all) => all.end(host, how),
            Ground::Containers(all) => all.end(host, how),
        }
    }

    fn shell(&self, host: &str) -> String {
        match self {
            Ground::Namespaces(all) => all.shell(host),
            Ground::Containers(all) => all.shell(host),
        }
    }
}

/// What a host runs: arguments of this program.
fn program(host: &str, folder: &Path) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    match host {
        DIRECTOR => vec![
            "run".to_owned(),
            "--config".into(),
            file("dr.toml"),
            "--admin".into(),
            file(SOCKET),
            "--workers".into(),
            "1".into(),
        ],
        host => ["demo-server", "--name", host].map(str::to_owned).into(),
    }
}

/// Answers are those of `demo-server`, which takes a moment for each.
const TALK: Talk = Talk {
    manner: Manner::Again(PATIENCE),
    target: |id| format!("/check/{id}?wait=2ms"),
    read,
};

/// Reads an answer of `demo-server`.
fn read(text: &str, id: u64) -> Option<Told<'_>> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let asked = format!("GET /check/{id}?wait=2ms HTTP/1.1");
    let client: SocketAddr = value("Client: ")?.parse().ok()?;
    text.lines().any(|line| line == asked).then_some(Told {
        name: value("Hostname: ")?,
        client: Some(client),
    })
}

/// Runs the demo: sends requests and ends, or goes on until told to stop.
pub(crate) fn run(wanted: &Wanted) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Failed(
            "demo dr makes networks and puts programs into the kernel, which takes root: \
             sudo plimsoll demo dr (or see the proxy without root: plimsoll demo)"
                .into(),
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Error::Failed(format!("the runtime cannot be started: {why}")))?;
    let result = runtime.block_on(async {
        // From here on a signal does not end the process in the middle of a step.
        let mut stop = Stop::new()?;
        let mut book = Book::open(&wanted.name)?;
        let result = play(wanted, &mut book, &mut stop).await;
        let closed = book.close().map_err(|why| {
            Error::Failed(format!(
                "not all of the demo could be taken away, the next one tries again: {why}"
            ))
        });
        result.and(closed)
    });
    runtime.shutdown_background();
    result
}

fn told_to_stop() -> Error {
    Error::Failed("told to stop before all was ready".into())
}

/// Sets it up and runs it.
async fn play(wanted: &Wanted, book: &mut Book, stop: &mut Stop) -> Result<(), Error> {
    let mut plan = Plan::new(wanted.vip, 0);
    let (ground, why) = tokio::select! {
        biased;
        () = stop.wait() => return Err(told_to_stop()),
        prepared = prepared(wanted, &mut plan, book) => match prepared {
            Ok(prepared) => prepared,
            // Ctrl-C ends also a command that has just been started and is not in a group of its own yet.
            Err(why) => return Err(match timeout(LOOK, stop.wait()).await {
                Ok(()) => told_to_stop(),
                Err(_) => why,
            }),
        },
    };
    let ground = Arc::new(ground);
    let (client, director) = (ground.namespace(CLIENT)?, ground.namespace(DIRECTOR)?);
    let mac = packets::mac(&director)?;
    let ears = [
        Ear::start(&director, plan.vip(), mac)?,
        Ear::start(&client, plan.vip(), mac)?,
    ];
    explain(wanted, &plan, &ground, &why, book)?;
    let world = World::start(Some(client))
        .map_err(|why| Error::Failed(format!("a thread cannot be started: {why}")))?;
    let target = SocketAddr::new(plan.vip(), PORT);
    let load = Arc::new(Load::new(target, NODES.into(), TALK));
    let admin = Client::new(book.file(SOCKET));
    let cast = Cast::new(ground, plan, book.folder().to_owned(), admin);
    let title = format!("{} curl {}", cast.shell(CLIENT), plan.url());
    let mut scene = Scene::new(title, cast, load, world.handle().clone(), ears);
    match wanted.requests {
        Some(requests) => counted(&mut scene, requests, stop).await,
        None => live::run(&mut scene, stop).await,
    }
}

/// Makes the hosts as wanted, and waits until the director is ready. Also: why in this way.
async fn prepared(
    wanted: &Wanted,
    plan: &mut Plan,
    book: &mut Book,
) -> Result<(Ground, String), Error> {
    let why = match wanted.kind {
        Some(Kind::Namespaces) => "asked for with --namespaces".to_owned(),
        kind => {
            let made = contained(wanted, plan, book).await;
            match (made, kind) {
                (Ok(ground), _) => return Ok((ground, "a Docker engine answers".into())),
                (Err(why), Some(_)) => return Err(why),
                (Err(why), None) => {
                    if let Err(why) = book.clean() {
                        out::warn(&format!("plimsoll: for now this is left: {why}\n"));
                    }
                    format!("not in containers: {}", why.to_string().trim_end())
                }
            }
        }
    };
    *plan = Plan::new(wanted.vip, 0);
    write_config(plan, book)?;
    let namespaces = Namespaces::make(plan, &wanted.name, book)?;
    let ground = Ground::Namespaces(namespaces);
    for host in NODES {
        set_up(&ground, plan, host, book.folder())?;
        ground.start(host)?;
    }
    set_up(&ground, plan, CLIENT, book.folder())?;
    set_up(&ground, plan, DIRECTOR, book.folder())?;
    ground.start(DIRECTOR)?;
    ready(&ground, book).await?;
    Ok((ground, why))
}

/// Makes the hosts as containers.
async fn contained(wanted: &Wanted, plan: &mut Plan, book: &mut Book) -> Result<Ground, Error> {
    let socket = containers::engine().await.map_err(Error::Failed)?;
    // The engine's bridge is in this namespace: it would answer for the VIP.
    let own = Namespace::own()?.run(|| {
        let mut netlink = plimsoll_plane_ebpf::sys::Netlink::open()?;
        Ok(netlink.addresses(None)?)
    })?;
    if own.iter().any(|address| address.ip == wanted.vip) {
        return Err(Error::Failed(format!(
            "{} is an address of this host, which would answer for it in containers' networks: \
             choose another VIP",
            wanted.vip
        )));
    }
    let mut choice = *plan;
    let containers = Containers::make(&mut choice, &wanted.name, socket, book)?;
    *plan = choice;
    let ground = Ground::Containers(containers);
    for host in NODES.into_iter().chain([CLIENT, DIRECTOR]) {
        set_up(&ground, plan, host, book.folder())?;
    }
    ready(&ground, book).await?;
    Ok(ground)
}

fn write_config(plan: &Plan, book: &Book) -> Result<(), Error> {
    let path = book.file("dr.toml");
    let written = std::fs::create_dir_all(book.file("director"))
        .and_then(|()| std::fs::write(&path, plan.config()));
    written.map_err(|why| Error::Failed(format!("{}: {why}", path.display())))
}

/// Does in a host's network what its part takes.
fn set_up(ground: &Ground, plan: &Plan, host: &str, folder: &Path) -> Result<(), Error> {
    let namespace = ground.namespace(host)?;
    match host {
        CLIENT => {
            set(&namespace, &CLIENT_SETTINGS)?;
            ip(&namespace, &plan.client_route())
        }
        DIRECTOR => {
            let settings = plan.director_settings();
            let settings: Vec<_> = settings
                .iter()
                .map(|(name, v)| (*name, v.to_string()))
                .collect();
            let settings: Vec<_> = settings
                .iter()
                .map(|(name, v)| (*name, v.as_str()))
                .collect();
            set(&namespace, &settings)?;
            ip(&namespace, &plan.director_address())
        }
        _ => {
            let vips = BTreeSet::from([plan.vip()]);
            let mut node = Node::hold(namespace, folder)?;
            let interfaces = [INTERFACE.to_owned()];
            // It stays: the whole network goes at the end.
            let target = Target::serve(&vips, &interfaces, false, true, node.state());
            node.reach(&target)?;
            Ok(())
        }
    }
}

/// Writes settings in a network.
fn set(namespace: &Namespace, settings: &[(&str, &str)]) -> Result<(), Error> {
    let written = namespace.run(|| {
        let failed = settings.iter().find_map(|(name, value)| {
            let path = format!("/proc/sys/{name}");
            let why = std::fs::write(&path, value).err()?;
            Some(format!("{path}: {why}"))
        });
        Ok(failed)
    })?;
    written.map_or(Ok(()), |why| Err(Error::Failed(why)))
}

/// Runs `ip` in a network.
fn ip(namespace: &Namespace, words: &[String]) -> Result<(), Error> {
    let done = namespace.run(|| {
        let mut command = std::process::Command::new("ip");
        Ok(book::output(command.args(words)))
    })?;
    done.map(drop).map_err(Error::Failed)
}

/// Waits until the director forwards to all nodes.
async fn ready(ground: &Ground, book: &Book) -> Result<(), Error> {
    let admin = Client::new(book.file(SOCKET));
    let until = Instant::now() + READY;
    loop {
        let why = match admin.status().await {
            Ok(report) => {
                let services = report.status.services.iter();
                let backends = services.flat_map(|service| &service.backends);
                let ready = backends.filter(|backend| backend.state == "ready").count();
                if report.readiness.ready && ready == NODES.len() {
                    return Ok(());
                }
                let reasons = report.readiness.reasons.join(", ");
                format!("{ready} of {} nodes are ready {reasons}", NODES.len())
            }
            Err(why) => why.to_string(),
        };
        let ended = match ground {
            Ground::Namespaces(all) => all.has_ended(DIRECTOR),
            Ground::Containers(_) => false,
        };
        if ended || Instant::now() >= until {
            let said = match ground {
                Ground::Namespaces(_) => last_lines(&book.file("director.log")),
                Ground::Containers(all) => all.said(DIRECTOR),
            };
            return Err(Error::Failed(format!(
                "the director does not get ready: {}; it said: {said}",
                why.trim_end()
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" ")
}

/// Prints who is there, what makes it work, and what to try.
fn explain(
    wanted: &Wanted,
    plan: &Plan,
    ground: &Ground,
    why: &str,
    book: &Book,
) -> Result<(), Error> {
    let where_they_are = match ground {
        Ground::Namespaces(_) => format!(
            "In network namespaces, named {}-client and so on ({why}):",
            wanted.name
        ),
        Ground::Containers(_) => format!(
            "In containers, named {}-client and so on ({why}):",
            wanted.name
        ),
    };
    let file = book.file("dr.toml").display().to_string();
    let mut text = plan.explained(&where_they_are, &file);
    if wanted.requests.is_none() {
        let admin = book.file(SOCKET);
        text.push_str(&format!(
            "\nFrom another terminal:\n\n  {} curl {}\n  plimsoll status --admin {}\n",
            ground.shell(CLIENT),
            plan.url(),
            admin.display()
        ));
    }
    text.push('\n');
    out::print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let text = "Hostname: two\nAddress: 192.0.2.1:80\nClient: 10.83.0.2:4711\n\n\
                    GET /check/7?wait=2ms HTTP/1.1\nhost: 192.0.2.1\n";
        let told = read(text, 7).unwrap();
        assert_eq!(told.name, "two");
        assert_eq!(told.client, Some("10.83.0.2:4711".parse().unwrap()));
        assert_eq!(read(text, 8), None);
        assert_eq!(read("nonsense", 7), None);
        assert_eq!((TALK.target)(7), "/check/7?wait=2ms");
    }
}
