//! What is in force, what should be, and the changes that lead from the one to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use plimsoll_testkit::{BACKEND_HEADER, Ending, HttpBackend, Raw, TcpBackend, list};
use serde_json::Value;

use crate::config::{self, Member, Service, route};
use crate::lab::{HTTP, Lab, Lb, SOON, TCP};

/// Service, address, state and weight of a backend.
type Membership = (String, String, String, u64);

/// Host and path of a route, and the services with their weights.
type Routed = (String, String, Vec<(String, u64)>);

/// The life of a backend that comes and goes, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    Join,
    WeighInFile,
    WeighByCommand,
    DrainByCommand,
    ReadyByCommand,
    DrainInFile,
    ReadyInFile,
    Leave,
}

impl Change {
    pub(crate) const ALL: [Change; 8] = [
        Change::Join,
        Change::WeighInFile,
        Change::WeighByCommand,
        Change::DrainByCommand,
        Change::ReadyByCommand,
        Change::DrainInFile,
        Change::ReadyInFile,
        Change::Leave,
    ];
}

/// A server.
enum Server {
    Http(HttpBackend),
    Tcp(TcpBackend),
}

impl Server {
    fn address(&self) -> SocketAddr {
        match self {
            Server::Http(server) => server.address(),
            Server::Tcp(server) => server.address(),
        }
    }

    fn id(&self) -> &str {
        match self {
            Server::Http(server) => server.id(),
            Server::Tcp(server) => server.id(),
        }
    }

    fn requests(&self) -> u64 {
        match self {
            Server::Http(server) => server.stats().requests,
            Server::Tcp(server) => server.stats().requests,
        }
    }
}

/// A backend that comes and goes.
struct Mover {
    service: &'static str,
    server: Server,
    /// Its next change.
    next: usize,
    /// What an admin says its weight is.
    told: Option<u32>,
    drained: bool,
    /// How many requests it had got when it was taken out.
    quiet: Option<u64>,
}

/// The daemon with all its backends.
pub(crate) struct World<'a> {
    lab: &'a Lab,
    pub(crate) lb: Lb,
    services: BTreeMap<&'static str, Service>,
    /// Services and weights by host and path.
    routes: BTreeMap<(String, String), Vec<(&'static str, u32)>>,
    movers: Vec<Mover>,
    stayers: Vec<Server>,
    joined: BTreeSet<String>,
    random: u64,
    writes: usize,
    pub(crate) changes: usize,
    pub(crate) route_changes: usize,
}

impl<'a> World<'a> {
    pub(crate) async fn new(lab: &'a Lab) -> Self {
        let http = |label, port| Server::Http(lab.http(label, port));
        let stayers = [
            ("web", http("one", 8001)),
            ("web", http("two", 8001)),
            ("blue", http("one", 8101)),
            ("green", http("two", 8101)),
            ("ws", http("one", 8201)),
            ("tcp", Server::Tcp(lab.tcp("one", 9001))),
        ];
        let listens = [
            ("web", format!("{}/http", lab.at("lb", HTTP))),
            ("tcp", format!("{}/tcp", lab.at("lb", TCP))),
        ];
        let listens = BTreeMap::from(listens);
        let mut services: BTreeMap<&'static str, Service> = BTreeMap::new();
        for (name, server) in &stayers {
            let new = || Service::new(name, listens.get(name).cloned(), []);
            let service = services.entry(name).or_insert_with(new);
            service.backends.insert(server.address(), Member::default());
        }
        let movers = [
            ("web", http("one", 8002)),
            ("web", http("one", 8003)),
            ("web", http("two", 8002)),
            ("blue", http("one", 8102)),
            ("green", http("two", 8102)),
            ("tcp", Server::Tcp(lab.tcp("two", 9002))),
        ];
        let movers = movers.map(|(service, server)| Mover {
            service,
            server,
            next: 0,
            told: None,
            drained: false,
            quiet: None,
        });
        let routes = BTreeMap::from([
            (("r.example".into(), "/".into()), vec![("blue", 1)]),
            // These stay, so that there is always something to do for all.
            (("blue.example".into(), "/".into()), vec![("blue", 1)]),
            (("green.example".into(), "/".into()), vec![("green", 1)]),
            (("ws.example".into(), "/".into()), vec![("ws", 1)]),
        ]);
        let text = text(&services, &routes);
        let world = Self {
            lab,
            lb: lab.start(&text).await,
            services,
            routes,
            movers: movers.into(),
            stayers: stayers.into_iter().map(|(_, server)| server).collect(),
            joined: BTreeSet::new(),
            random: 0x9E37_79B9_7F4A_7C15,
            writes: 0,
            changes: 0,
            route_changes: 0,
        };
        world.until_in_force().await;
        world
    }

    /// The names of all that were ever in a set.
    pub(crate) fn ever_members(&self) -> BTreeSet<String> {
        // Nothing but tunnels leads to the one for tunnels.
        let stayers = self.stayers.iter().map(|server| server.id().to_owned());
        let stayers = stayers.filter(|id| id != "one-8201");
        stayers.chain(self.joined.iter().cloned()).collect()
    }

    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).unwrap() % below
    }

    /// Takes one of the movers a step further, and waits until that is in force.
    pub(crate) async fn change(&mut self) -> Change {
        let (at, weight) = (self.random(self.movers.len()), 1 + self.random(4));
        let weight = u32::try_from(weight).unwrap();
        let mover = &mut self.movers[at];
        let change = Change::ALL[mover.next];
        mover.next = (mover.next + 1) % Change::ALL.len();
        let address = mover.server.address();
        let before = mover.server.requests();
        if let Some(quiet) = mover.quiet.take() {
            assert_eq!(before, quiet, "{address} got something while it was out");
        }
        let members = &mut self.services.get_mut(mover.service).unwrap().backends;
        let words = (mover.service, address.to_string(), weight.to_string());
        match change {
            Change::Join => {
                if let Server::Http(server) = &mover.server {
                    server.listen_again().unwrap();
                }
                members.insert(address, Member::default());
            }
            Change::WeighInFile => members.get_mut(&address).unwrap().weight = weight,
            Change::DrainInFile => members.get_mut(&address).unwrap().drain = true,
            Change::ReadyInFile => members.get_mut(&address).unwrap().drain = false,
            Change::Leave => {
                members.remove(&address);
                // What was told lasts as long as the backend.
                (mover.told, mover.drained) = (None, false);
            }
            Change::WeighByCommand => {
                mover.told = Some(weight);
                self.lb.tell(&["weight", words.0, &words.1, &words.2]);
            }
            Change::DrainByCommand => {
                mover.drained = true;
                let mut args = vec!["drain", words.0, &words.1];
                // Connections of TCP clients are kept, so they do not end.
                args.extend(matches!(mover.server, Server::Http(_)).then_some("--wait"));
                self.lb.tell(&args);
            }
            Change::ReadyByCommand => {
                mover.drained = false;
                self.lb.tell(&["ready", words.0, &words.1]);
            }
        }
        if matches!(
            change,
            Change::Join
                | Change::WeighInFile
                | Change::DrainInFile
                | Change::ReadyInFile
                | Change::Leave
        ) {
            self.write();
        }
        self.until_in_force().await;
        self.see(at, change, before).await;
        self.changes += 1;
        change
    }

    /// Makes sure that a change does what it is for.
    async fn see(&mut self, at: usize, change: Change, before: u64) {
        let mover = &self.movers[at];
        let server = &mover.server;
        match change {
            Change::Join | Change::ReadyByCommand | Change::ReadyInFile => {
                self.lb
                    .until("it gets requests", async || server.requests() > before)
                    .await;
                self.joined.insert(server.id().to_owned());
            }
            Change::DrainByCommand | Change::DrainInFile | Change::Leave => {
                let Server::Http(http) = server else {
                    return;
                };
                let flows = format!("/v1/flows?backend={}", http.address());
                self.lb
                    .until("what it has is finished", async || {
                        let flows = self.lb.0.admin_get(&flows).await.unwrap();
                        let flows: Value = serde_json::from_str(&flows.text()).unwrap();
                        list(&flows["flows"]).is_empty()
                    })
                    .await;
                let quiet = http.stats().requests;
                if change == Change::Leave {
                    // As in a deploy: what has left is ended.
                    http.kill(Ending::Close).await;
                }
                self.movers[at].quiet = Some(quiet);
            }
            Change::WeighInFile | Change::WeighByCommand => {}
        }
    }

    /// Changes the routes, and makes sure that requests go where they should.
    pub(crate) async fn change_routes(&mut self) -> &'static str {
        let (blue, green) = (["one-8101", "one-8102"], ["two-8101", "two-8102"]);
        let both = [blue, green].concat();
        let web = ["one-8001", "two-8001", "one-8002", "one-8003", "two-8002"];
        let main = ("r.example".to_owned(), "/".to_owned());
        let deep = ("r.example".to_owned(), "/deep".to_owned());
        let extra = ("extra.example".to_owned(), "/".to_owned());
        let (what, host, path, expected): (_, _, _, &[&str]) = match self.route_changes % 6 {
            0 => {
                self.routes.insert(main, vec![("green", 1)]);
                ("to green", "r.example", "/", &green)
            }
            1 => {
                self.routes.insert(main, vec![("blue", 1), ("green", 3)]);
                ("to both", "r.example", "/", &both)
            }
            2 => {
                self.routes.insert(deep, vec![("blue", 1)]);
                ("a path of it to blue", "r.example", "/deep/x?y", &blue)
            }
            3 => {
                self.routes.remove(&deep);
                self.routes.insert(main, vec![("green", 1)]);
                ("the path is gone", "r.example", "/deep/x?y", &green)
            }
            4 => {
                self.routes.insert(main, vec![("blue", 1)]);
                self.routes.insert(extra, vec![("green", 1)]);
                ("another host", "extra.example", "/", &green)
            }
            _ => {
                self.routes.remove(&extra);
                ("the host is gone", "extra.example", "/", &web)
            }
        };
        self.write();
        self.until_in_force().await;
        let mut raw = Raw::connect_from(&self.lab.place("client"), self.lab.at("lb", HTTP))
            .await
            .unwrap();
        for _ in 0..4 {
            let answer = raw.get(host, path, SOON).await.unwrap();
            let backend = answer.head.get(BACKEND_HEADER).unwrap_or("nobody");
            assert!(expected.contains(&backend), "{what}: {backend}");
        }
        self.route_changes += 1;
        what
    }

    /// Writes the file; one time in five nobody says so, and the watch has to see it.
    fn write(&mut self) {
        let text = text(&self.services, &self.routes);
        self.lb.0.replace_config(&text).unwrap();
        if self.writes % 5 != 4 {
            self.lb.0.hup().unwrap();
        }
        self.writes += 1;
    }

    /// Waits until the daemon has everything as it should be.
    async fn until_in_force(&self) {
        let (members, routes) = (self.members(), self.routes());
        self.lb
            .until("what should be is in force", async || {
                let status = self.lb.status().await;
                members_of(&status) == members && routes_of(&status) == routes
            })
            .await;
    }

    /// Every backend, as it should be.
    fn members(&self) -> BTreeSet<Membership> {
        let mut all = BTreeSet::new();
        for (name, service) in &self.services {
            for (address, member) in &service.backends {
                let mover = self.movers.iter().find(|m| m.server.address() == *address);
                let told = mover.and_then(|mover| mover.told);
                let drained = member.drain || mover.is_some_and(|mover| mover.drained);
                all.insert((
                    (*name).to_owned(),
                    address.to_string(),
                    if drained { "draining" } else { "ready" }.to_owned(),
                    told.unwrap_or(member.weight).into(),
                ));
            }
        }
        all
    }

    /// Every route, as it should be.
    fn routes(&self) -> BTreeSet<Routed> {
        let weighted = |services: &Vec<(&'static str, u32)>| {
            let services = services.iter();
            services
                .map(|(name, weight)| ((*name).to_owned(), u64::from(*weight)))
                .collect()
        };
        let routes = self.routes.iter();
        routes
            .map(|((host, path), services)| (host.clone(), path.clone(), weighted(services)))
            .collect()
    }
}

fn text(
    services: &BTreeMap<&'static str, Service>,
    routes: &BTreeMap<(String, String), Vec<(&'static str, u32)>>,
) -> String {
    let mut text = config::DAEMON.to_owned();
    text.extend(services.values().map(Service::text));
    let routes = routes.iter();
    text.extend(routes.map(|((host, path), services)| route(host, path, services)));
    text
}

/// As [`World::members`], as they are.
fn members_of(status: &Value) -> BTreeSet<Membership> {
    let mut all = BTreeSet::new();
    for service in list(&status["services"]) {
        for backend in list(&service["backends"]) {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            all.insert((
                text(&service["name"]),
                text(&backend["addr"]),
                text(&backend["state"]),
                backend["weight"].as_u64().unwrap(),
            ));
        }
    }
    all
}

/// As [`World::routes`], as they are.
fn routes_of(status: &Value) -> BTreeSet<Routed> {
    let mut all = BTreeSet::new();
    for route in list(&status["routes"]) {
        let services = list(&route["services"]).iter();
        let services = services.map(|pair| {
            (
                pair[0].as_str().unwrap().to_owned(),
                pair[1].as_u64().unwrap(),
            )
        });
        for host in list(&route["hosts"]) {
            let (host, path) = (host.as_str().unwrap(), route["path"].as_str().unwrap());
            all.insert((host.to_owned(), path.to_owned(), services.clone().collect()));
        }
    }
    all
}
