//! `plimsoll node --docker`: follows an engine, whose containers say by a label that they are nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use plimsoll_discover::docker::client::{Engine, Process};
use plimsoll_discover::docker::error::EngineError;
use plimsoll_discover::docker::events::Events;
use plimsoll_discover::docker::host::EngineHost;
use plimsoll_discover::docker::labels::schema::NODE_VIP;
use plimsoll_discover::docker::read::Listed;
use plimsoll_plane_ebpf::node::{self, Namespace, Target};
use tokio::time::{sleep, timeout};

use super::report::Report;
use super::{MOST, Node, Stop, place, vip};
use crate::error::Error;
use crate::out;

/// Events that come within this time of each other are one.
const TOGETHER: Duration = Duration::from_millis(50);
/// What failed is tried again after so long.
const AGAIN: Duration = Duration::from_secs(10);
/// An engine that is away is asked again after so long, and then after twice that.
const BACK_OFF: Duration = Duration::from_millis(500);
const MOST_BACK_OFF: Duration = Duration::from_secs(15);

/// A container that wants to be a node.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    /// Its VIPs, or what is wrong with its label.
    vips: Result<BTreeSet<IpAddr>, String>,
}

/// A container that is one.
struct Held {
    name: String,
    process: u32,
    node: node::Node,
}

/// All of an engine's.
pub(super) struct Follow<'a> {
    options: &'a Node,
    host: EngineHost,
    /// By their ids.
    held: BTreeMap<String, Held>,
    /// What was complained of last, by the id; an empty one is the engine's.
    complaints: BTreeMap<String, String>,
}

/// The containers that run and want to be nodes.
fn wanted(listed: Vec<Listed>) -> BTreeMap<String, Wanted> {
    let mut all = BTreeMap::new();
    for item in listed {
        let Listed::Container(container) = item else {
            continue;
        };
        let Some(label) = container.labels.get(NODE_VIP) else {
            continue;
        };
        if !matches!(&*container.state, "running" | "paused") {
            continue;
        }
        let name = container
            .names
            .first()
            .map(|name| name.trim_start_matches('/'));
        let wanted = Wanted {
            name: name.unwrap_or(&container.id).to_owned(),
            vips: vips(label),
        };
        all.insert(container.id, wanted);
    }
    all
}

/// The VIPs of a label.
fn vips(label: &str) -> Result<BTreeSet<IpAddr>, String> {
    let told = |text: &str, why| format!("label {NODE_VIP}={}: {why}", text.escape_debug());
    let items = label.split(',').map(str::trim);
    let vips: BTreeSet<IpAddr> = items
        .map(|item| vip(item).map_err(|why| told(item, why)))
        .collect::<Result<_, _>>()?;
    if vips.len() > MOST {
        return Err(told(
            "…",
            format!("at most {MOST} addresses, not {}", vips.len()),
        ));
    }
    Ok(vips)
}

impl<'a> Follow<'a> {
    pub(super) fn new(options: &'a Node, docker: Option<&str>) -> Result<Self, Error> {
        Ok(Self {
            options,
            host: place::engine(docker)?,
            held: BTreeMap::new(),
            complaints: BTreeMap::new(),
        })
    }

    /// Follows until told to stop, and takes all back.
    pub(super) async fn run(mut self, mut stop: Stop) -> Result<(), Error> {
        tokio::select! {
            () = stop.told() => {}
            () = self.follow() => {}
        }
        let ids: Vec<String> = self.held.keys().cloned().collect();
        for id in ids {
            self.release(&id);
        }
        Ok(())
    }

    async fn follow(&mut self) {
        let mut wait = BACK_OFF;
        loop {
            match connect(&self.host).await {
                Ok((engine, events)) => {
                    self.complaints.remove("");
                    wait = BACK_OFF;
                    if let Err(error) = self.along(&engine, events).await {
                        self.complain("", "the engine", &error.to_string());
                    }
                }
                Err(error) => self.complain("", "the engine", &error.to_string()),
            }
            sleep(wait).await;
            wait = (wait * 2).min(MOST_BACK_OFF);
        }
    }

    /// Looks at all containers at every event: none that is missed is wrong for long.
    async fn along(&mut self, engine: &Engine, mut events: Events) -> Result<(), EngineError> {
        loop {
            let failed = self.look(engine).await?;
            let next = events.next();
            match failed {
                // Dropped in between, the stream loses nothing.
                true => drop(timeout(AGAIN, next).await.ok().transpose()?),
                false => drop(next.await?),
            }
            while let Ok(line) = timeout(TOGETHER, events.next()).await {
                line?;
            }
        }
    }

    /// Brings containers to what their labels say; whether one of them could not be.
    async fn look(&mut self, engine: &Engine) -> Result<bool, EngineError> {
        let wanted = wanted(engine.containers().await?);
        let known = self.held.keys().chain(self.complaints.keys());
        let gone: Vec<String> = known
            .filter(|id| !id.is_empty() && !wanted.contains_key(*id))
            .cloned()
            .collect();
        for id in gone {
            self.release(&id);
            self.complaints.remove(&id);
        }
        let mut failed = false;
        for (id, wanted) in wanted {
            match self.one(engine, &id, &wanted).await? {
                Ok(()) => drop(self.complaints.remove(&id)),
                Err(why) => {
                    failed = true;
                    self.complain(&id, &format!("container {}", wanted.name), &why);
                }
            }
        }
        Ok(failed)
    }

    /// Brings one container to what it wants; why it cannot be.
    async fn one(
        &mut self,
        engine: &Engine,
        id: &str,
        wanted: &Wanted,
    ) -> Result<Result<(), String>, EngineError> {
        let vips = match &wanted.vips {
            Ok(vips) => vips,
            Err(why) => return Ok(Err(why.clone())),
        };
        let before = engine.process(id).await?;
        let Process::Runs(process) = before else {
            self.release(id);
            // Else it has ended meanwhile, and an event says so.
            return Ok(match before {
                Process::Unknown => Err(place::UNKNOWN.to_owned()),
                _ => Ok(()),
            });
        };
        if self
            .held
            .get(id)
            .is_some_and(|held| held.process == process)
        {
            return Ok(Ok(()));
        }
        self.release(id);
        let namespace = match Namespace::of_process(process) {
            Ok(namespace) => namespace,
            Err(error) => return Ok(Err(error.to_string())),
        };
        // The number was not another's meanwhile.
        if engine.process(id).await? != before {
            return Ok(Err("it is being started again".to_owned()));
        }
        Ok(match self.prepare(vips, namespace) {
            Ok((node, done)) => {
                let report = Report {
                    container: Some(wanted.name.clone()),
                    vips: node.state().vips.keys().copied().collect(),
                    done,
                };
                self.tell(&report);
                let held = Held {
                    name: wanted.name.clone(),
                    process,
                    node,
                };
                self.held.insert(id.to_owned(), held);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        })
    }

    fn prepare(
        &self,
        vips: &BTreeSet<IpAddr>,
        namespace: Namespace,
    ) -> Result<(node::Node, node::Done), Error> {
        if namespace.inode()? == Namespace::own()?.inode()? {
            return Err(Error::Failed(
                "it has the host's network: run `plimsoll node --vip …` for the host".to_owned(),
            ));
        }
        let mut node = node::Node::hold(namespace, &self.options.state)?;
        let target = self.options.target(vips, node.namespace(), node.state())?;
        let done = node.reach(&target)?;
        Ok((node, done))
    }

    /// Takes back what was done in a container, whose network may be another's, too.
    fn release(&mut self, id: &str) {
        let Some(mut held) = self.held.remove(id) else {
            return;
        };
        match held.node.reach(&Target::after(held.node.state())) {
            Ok(done) => self.tell(&Report {
                container: Some(held.name),
                vips: held.node.state().vips.keys().copied().collect(),
                done,
            }),
            Err(error) => out::warn(&format!("plimsoll: container {}: {error}\n", held.name)),
        }
    }

    /// Nobody who reads it is no reason to stop.
    fn tell(&self, report: &Report) {
        let _told = self.options.tell(report);
    }

    fn complain(&mut self, id: &str, who: &str, why: &str) {
        if self.complaints.get(id).map(String::as_str) != Some(why) {
            out::warn(&format!("plimsoll: {who}: {why}\n"));
            self.complaints.insert(id.to_owned(), why.to_owned());
        }
    }
}

/// First events, then what there is: nothing happens in between.
async fn connect(host: &EngineHost) -> Result<(Engine, Events), EngineError> {
    let engine = Engine::negotiate(host).await?;
    let events = engine.events(None).await?;
    Ok((engine, events))
}

#[cfg(test)]
mod tests {
    use plimsoll_discover::docker::read::read_list;

    use super::*;

    #[test]
    fn who_wants_to_be_a_node() {
        let list = r#"[
            {"Id": "a1", "Names": ["/web"], "State": "running",
             "Labels": {"plimsoll.node.vip": "192.0.2.1, 2001:db8::1"}},
            {"Id": "b2", "Names": ["/off"], "State": "exited", "Labels": {"plimsoll.node.vip": "192.0.2.1"}},
            {"Id": "c3", "Names": ["/other"], "State": "running", "Labels": {"plimsoll.port": "80"}},
            {"Id": "d4", "Names": [], "State": "running", "Labels": {"plimsoll.node.vip": "192.0.2.1/32"}}
        ]"#;
        let wanted = wanted(read_list(list.as_bytes()).unwrap());
        let names: Vec<&str> = wanted.values().map(|w| &*w.name).collect();
        assert_eq!(names, ["web", "d4"]);
        let web = wanted["a1"].vips.as_ref().unwrap();
        let ips = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        assert_eq!(*web, BTreeSet::from(ips));
        let why = wanted["d4"].vips.as_ref().unwrap_err();
        assert!(why.contains("did you mean 192.0.2.1?"), "{why}");
        assert!(vips("").is_err());
        assert!(vips("192.0.2.1,").is_err());
    }
}
