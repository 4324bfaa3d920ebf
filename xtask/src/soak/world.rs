//! The daemon, its backends, and the file that says so.
//!
//! - `web` listens for HTTP; its backends come and go in order, so no request for it may fail.
//! - `mortal` is the host of backends that are killed.
//! - `steady` is that of backends that stay, for tunnels that must live for the whole time.
//! - `narrow` is that of a slow backend with few places, at which requests wait.
//! - `tcp` listens for TCP; its backends come and go in order.
//! - a guest, with a listen and a name of its own each time, comes now and then.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use plimsoll_testkit::{
    Daemon, DaemonPlan, Ending, Error, HttpBackend, HttpBehaviour, Port, Response, TcpBackend,
};
use serde_json::Value;

/// Schedulers that `web` goes through.
const SCHEDULERS: [&str; 8] = ["wrr", "rr", "lc", "wlc", "random", "twos", "mh", "sh"];

/// What is short in a soak is what attackers are cut off by.
const TIMEOUTS: &str = "timeouts = { header = \"3s\", keepalive = \"5s\", stall = \"3s\", \
                        idle = \"5s\", queue = \"20s\", connect = \"2s\", drain = \"1m\" }\n";

/// An admin request is tried so often again.
const TRIES: usize = 5;

/// Backends of `web` and `tcp` that come and go, at most.
const MOVERS: usize = 6;

/// A server of either kind.
pub(super) enum Server {
    Http(HttpBackend),
    Tcp(TcpBackend),
}

impl Server {
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Server::Http(server) => server.address(),
            Server::Tcp(server) => server.address(),
        }
    }

    fn is_idle(&self) -> bool {
        match self {
            Server::Http(server) => server.stats().active == 0,
            Server::Tcp(server) => server.stats().open == 0,
        }
    }
}

/// A server in a service's set.
pub(super) struct Member {
    pub(super) server: Server,
    pub(super) weight: u64,
    pub(super) drain: bool,
    /// Its weight or state was set by a command.
    pub(super) told: bool,
}

impl Member {
    fn new(server: Server) -> Self {
        Self {
            server,
            weight: 1,
            drain: false,
            told: false,
        }
    }
}

/// A service that is there for a while.
struct Guest {
    number: u64,
    server: HttpBackend,
}

/// All of it.
pub(super) struct World {
    pub(super) lb: Daemon,
    http: Port,
    tcp: Port,
    guest_port: Port,
    steady: Vec<HttpBackend>,
    narrow: HttpBackend,
    /// Those that are killed.
    pub(super) mortal: Vec<HttpBackend>,
    /// Of `web`; the first two stay.
    pub(super) web: Vec<Member>,
    /// Of `tcp`; the first stays.
    pub(super) streams: Vec<Member>,
    /// Out of the file, and not yet out of use.
    leaving: Vec<Server>,
    guest: Option<Guest>,
    guests: u64,
    joined: u64,
    scheduler: usize,
}

impl World {
    /// Starts all that is always there.
    pub(super) async fn start(ours: &Path) -> Result<Self, Error> {
        let started = |id: &str| HttpBackend::start(id).map_err(io("a backend"));
        let narrow = started("narrow")?;
        narrow.behave(HttpBehaviour::slow(Duration::from_millis(50)));
        let stays = TcpBackend::start("tcp-stays").map_err(io("a backend"))?;
        let mut world = Self {
            // Replaced below: the file needs the ports.
            lb: Daemon::start(plan(ours, "")).await?,
            http: Port::take()?,
            tcp: Port::take()?,
            guest_port: Port::take()?,
            steady: vec![started("steady-1")?, started("steady-2")?],
            narrow,
            mortal: vec![started("m-1")?, started("m-2")?, started("m-3")?],
            web: vec![
                Member::new(Server::Http(started("web-1")?)),
                Member::new(Server::Http(started("web-2")?)),
            ],
            streams: vec![Member::new(Server::Tcp(stays))],
            leaving: Vec::new(),
            guest: None,
            guests: 0,
            joined: 0,
            scheduler: 0,
        };
        world.lb = Daemon::start(plan(ours, &world.text())).await?;
        world.until_ready().await?;
        Ok(world)
    }

    /// Where HTTP is served.
    pub(super) fn http(&self) -> SocketAddr {
        self.http.address()
    }

    /// Where TCP is served.
    pub(super) fn tcp(&self) -> SocketAddr {
        self.tcp.address()
    }

    /// Asks the admin socket. It closes on those who connect and say nothing for two seconds, as this
    /// process may where many others run: so it tries again, for as long as there is a daemon.
    pub(super) async fn ask(
        &self,
        method: &str,
        target: &str,
        body: &str,
    ) -> Result<Response, Error> {
        let mut asked = self.lb.admin(method, target, body).await;
        for _ in 0..TRIES {
            match asked {
                Ok(answer) => return Ok(answer),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
            asked = self.lb.admin(method, target, body).await;
        }
        asked.map_err(|error| Error::Failed(format!("{error}; it wrote:\n{}", self.lb.log())))
    }

    /// All there is to see of the daemon.
    pub(super) async fn status(&self) -> Result<Value, Error> {
        let answer = self.ask("GET", "/v1/status", "").await?;
        serde_json::from_str(&answer.text()).map_err(|error| Error::Failed(error.to_string()))
    }

    async fn until_ready(&self) -> Result<(), Error> {
        for _ in 0..1000 {
            if self.status().await?.get("ready") == Some(&Value::Bool(true)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(Error::Failed(format!("not ready:\n{}", self.lb.log())))
    }

    /// The file.
    fn text(&self) -> String {
        let mut text = "[daemon]\nworkers = 2\naccess-log = \"off\"\n\n".to_owned();
        let scheduler = SCHEDULERS.get(self.scheduler % SCHEDULERS.len());
        let scheduler = scheduler.copied().unwrap_or("wrr");
        let check = "check = { kind = \"tcp\", interval = \"1s\", rise = 1 }";
        let web = format!(
            "listen = \"{}/http\"\nscheduler = \"{scheduler}\"\n{check}\n",
            self.http()
        );
        service(&mut text, "web", &web, self.web.iter().map(line));
        let listen = format!("listen = \"{}/tcp\"\nscheduler = \"lc\"\n", self.tcp());
        service(&mut text, "tcp", &listen, self.streams.iter().map(line));
        let plain = |server: &HttpBackend| format!("\"{}\"", server.address());
        service(&mut text, "steady", "", self.steady.iter().map(plain));
        service(&mut text, "mortal", check, self.mortal.iter().map(plain));
        let narrow = format!("{{ address = \"{}\", maxconn = 2 }}", self.narrow.address());
        service(&mut text, "narrow", "", [narrow].into_iter());
        for name in ["steady", "mortal", "narrow"] {
            route(&mut text, name, name);
        }
        if let Some(Guest { number, server }) = &self.guest {
            let name = format!("guest-{number}");
            let listen = format!(
                "listen = \"{}/http\"\naccess-log = \"json\"\nrequest-id = {{ header = \"X-Id\" }}\n\
                 cookie = {{ name = \"SRV\", mode = \"insert\" }}\n",
                self.guest_port.address()
            );
            service(&mut text, &name, &listen, [plain(server)].into_iter());
            route(&mut text, &name, &name);
        }
        text
    }

    /// Brings the file to what is wanted, at once or when it is noticed.
    pub(super) fn write(&self, at_once: bool) -> Result<(), Error> {
        self.lb.replace_config(&self.text())?;
        if at_once { self.lb.hup() } else { Ok(()) }
    }

    /// A part of the file, as while an editor writes it.
    pub(super) fn break_file(&self) -> Result<(), Error> {
        let text = self.text();
        let half = text.get(..text.len() / 2).unwrap_or_default();
        self.lb.overwrite_config(&format!("{half}\nbroken = [["))?;
        self.lb.hup()
    }

    /// Another scheduler for `web`.
    pub(super) fn reschedule(&mut self) {
        self.scheduler += 1;
    }

    /// A backend that was never there before joins `web` or `tcp`.
    pub(super) fn join(&mut self, streams: bool) -> Result<(), Error> {
        let members = if streams { &self.streams } else { &self.web };
        if members.len() >= MOVERS {
            return Ok(());
        }
        self.joined += 1;
        let id = format!("joined-{}", self.joined);
        if streams {
            let server = TcpBackend::start(&id).map_err(io("a backend"))?;
            self.streams.push(Member::new(Server::Tcp(server)));
        } else {
            let server = HttpBackend::start(&id).map_err(io("a backend"))?;
            self.web.push(Member::new(Server::Http(server)));
        }
        Ok(())
    }

    /// The backend that joined first leaves.
    pub(super) fn leave(&mut self, streams: bool) {
        let (members, stay) = match streams {
            true => (&mut self.streams, 1),
            false => (&mut self.web, 2),
        };
        if members.len() > stay {
            let member = members.remove(stay);
            self.leaving.push(member.server);
        }
    }

    /// A guest comes, or the one that is there goes.
    pub(super) fn guest(&mut self) -> Result<(), Error> {
        self.guest = match self.guest.take() {
            Some(guest) => {
                self.leaving.push(Server::Http(guest.server));
                None
            }
            None => {
                self.guests += 1;
                let number = self.guests;
                let id = format!("guest-{number}");
                let server = HttpBackend::start(&id).map_err(io("a backend"))?;
                Some(Guest { number, server })
            }
        };
        Ok(())
    }

    /// Where the guest is served, and as what.
    pub(super) fn guest_at(&self) -> Option<(SocketAddr, String)> {
        let number = self.guest.as_ref()?.number;
        Some((self.guest_port.address(), format!("guest-{number}.example")))
    }

    /// Ends the servers that nobody uses any more.
    pub(super) async fn part(&mut self) -> Result<(), Error> {
        if self.leaving.is_empty() {
            return Ok(());
        }
        let shown = self.status().await?.to_string();
        self.leaving.retain(|server| {
            let listed = shown.contains(&format!("\"{}\"", server.address()));
            listed || !server.is_idle()
        });
        Ok(())
    }

    /// Kills a mortal, or has it come back.
    pub(super) async fn kill(&self, which: usize, ending: Ending) {
        if let Some(server) = self.mortal.get(which % self.mortal.len()) {
            server.kill(ending).await;
        }
    }

    /// The mortal behaves so, and listens again if it was killed.
    pub(super) fn revive(&self, which: usize, behaviour: HttpBehaviour) -> Result<(), Error> {
        let Some(server) = self.mortal.get(which % self.mortal.len()) else {
            return Ok(());
        };
        server.behave(behaviour);
        server.listen_again().map_err(io("listening again"))
    }

    /// Back to what was there in the beginning.
    pub(super) async fn reset(&mut self) -> Result<(), Error> {
        while self.web.len() > 2 {
            self.leave(false);
        }
        while self.streams.len() > 1 {
            self.leave(true);
        }
        if self.guest.is_some() {
            self.guest()?;
        }
        self.scheduler = 0;
        for which in 0..self.mortal.len() {
            self.revive(which, HttpBehaviour::default())?;
        }
        for member in self.web.iter_mut().chain(&mut self.streams) {
            (member.weight, member.drain) = (1, false);
        }
        self.write(true)
    }

    /// What the daemon itself says that should never be.
    pub(super) async fn faults(&self) -> Result<Vec<String>, Error> {
        let log = self.lb.log();
        let mut faults: Vec<String> = log
            .lines()
            .filter(|line| line.contains("ERROR") || line.contains("panic"))
            .take(5)
            .map(|line| format!("it logged: {line}"))
            .collect();
        let status = self.status().await?;
        let planes = status.get("planes").and_then(Value::as_array);
        for plane in planes.into_iter().flatten() {
            if plane.get("repairs").and_then(Value::as_u64) != Some(0) {
                faults.push(format!("an audit had to repair something: {plane}"));
            }
        }
        Ok(faults)
    }
}

fn plan(ours: &Path, text: &str) -> DaemonPlan {
    let mut plan = DaemonPlan::new(ours, text);
    plan.args
        .extend(["--stats", "{dir}/stats.sock"].map(str::to_owned));
    plan
}

fn io(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Io { what, source }
}

fn line(member: &Member) -> String {
    format!(
        "{{ address = \"{}\", weight = {}, drain = {} }}",
        member.server.address(),
        member.weight,
        member.drain
    )
}

fn service(text: &mut String, name: &str, more: &str, backends: impl Iterator<Item = String>) {
    let backends: Vec<String> = backends.collect();
    let backends = backends.join(", ");
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "[[service]]\nname = \"{name}\"\n{TIMEOUTS}{more}\nbackends = [{backends}]\n"
    );
}

fn route(text: &mut String, host: &str, service: &str) {
    let _ = writeln!(
        text,
        "[[route]]\nhost = \"{host}.example\"\nservice = \"{service}\"\n"
    );
}
