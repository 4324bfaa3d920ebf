//! `plimsoll doctor`: why is nothing forwarded?

mod director;
mod report;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use plimsoll_doctor::gather::{self, Place, Wish};
use plimsoll_doctor::{Facts, examine};
use plimsoll_plane_ebpf::node::Namespace;

use crate::commands::node::{place, vip};
use crate::error::Error;
use crate::out;
use report::Report;

/// Look for what keeps packets from being forwarded or answered, and say what mends it.
///
/// It finds out by itself what this machine is: a director (a daemon that runs, programs of the packet plane that
/// go on, or a configuration file), a node (what `plimsoll node` has written down, or addresses on lo), or
/// the host of containers that are nodes. Every finding has the command that mends it. The doctor changes
/// nothing. It sees all of it as root. Exit code 0 if there is no error, 1 if there is one, 2 for wrong usage.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll doctor                                      this machine, whatever it is
  plimsoll doctor --all                                and what is right
  plimsoll doctor --config plimsoll.toml               a director that does not run yet
  plimsoll doctor --vip 192.0.2.1                      a node that was set up by hand
  plimsoll doctor --vip 192.0.2.1 --container web      a container that is a node")]
pub(crate) struct Doctor {
    /// Look at this machine as a node only
    #[arg(long)]
    node: bool,
    /// Look at a node for these addresses; several with commas between them, or again [default: those
    /// that `plimsoll node` serves, else those on lo]
    #[arg(long, value_name = "ADDR", value_delimiter = ',', value_parser = vip)]
    vip: Vec<IpAddr>,
    /// The node is a container: its name or id in the engine, a process id, or the path of a network
    /// namespace (with a slash in it)
    #[arg(long, value_name = "CONTAINER")]
    container: Option<String>,
    /// Engine that knows the container, as unix:///PATH [default: $DOCKER_HOST, else
    /// /var/run/docker.sock]
    #[arg(long, value_name = "HOST", requires = "container")]
    docker: Option<String>,
    /// Interface by which the director's packets come to the node; may be given again [default: those of
    /// the default routes]
    #[arg(long, value_name = "IF")]
    interface: Vec<String>,
    /// The node need not unwrap tunnels
    #[arg(long)]
    no_unwrap: bool,
    /// Folder where `plimsoll node` writes down what it changed
    #[arg(long, value_name = "DIR", default_value = "/run/plimsoll")]
    state: PathBuf,
    /// Configuration file, where no daemon runs [default: /etc/plimsoll/plimsoll.toml if it is there]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["node", "vip", "container"])]
    config: Option<PathBuf>,
    /// Also show what is right
    #[arg(
        long,
        short = 'v',
        visible_short_alias = 'a',
        visible_alias = "verbose"
    )]
    all: bool,
    /// Print JSON, of everything that was looked at
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: crate::cli::Admin,
}

impl Doctor {
    pub(crate) fn run(self) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| Error::Failed(format!("the runtime cannot be started: {why}")))?;
        let facts = runtime.block_on(self.look())?;
        let report = Report {
            findings: examine(&facts),
            all: self.all,
        };
        if self.json {
            out::json(&report.json())?;
        } else {
            out::print(&report.text())?;
        }
        match report.errors() {
            0 => Ok(()),
            count => Err(Error::Failed(format!(
                "{} found",
                crate::table::count(count as u64, "error", "errors")
            ))),
        }
    }

    /// Finds out what this machine is, and looks at it.
    async fn look(&self) -> Result<Facts, Error> {
        let only_node = self.node || !self.vip.is_empty() || self.container.is_some();
        let mut places = vec![Place {
            name: String::new(),
            namespace: Namespace::own()?,
            director: None,
            node: None,
            untold: Vec::new(),
        }];
        let found = match only_node {
            true => director::Found::default(),
            false => director::find(self.admin.admin.clone(), self.config.as_deref()).await?,
        };
        if let (Some(why), Some(own)) = (found.untold, places.first_mut()) {
            let what = "whether programs of the packet plane are in the kernel".to_owned();
            own.untold.push((what, why));
        }
        if let Some((director, namespace)) = found.director {
            place_at(&mut places, "the daemon's network namespace", namespace)?.director =
                Some(director);
        }
        if let Some(container) = &self.container {
            let docker = self.docker.as_deref();
            let (_, namespace) = place::Place::find(Some(container), docker).await?;
            let vips = match self.vip.is_empty() {
                true => self.vips_of(&namespace)?,
                false => self.vip.iter().copied().collect(),
            };
            place_at(&mut places, &format!("container {container}"), namespace)?.node =
                Some(self.wish(vips));
        } else if !self.vip.is_empty() {
            let vips = self.vip.iter().copied().collect();
            let own = Namespace::own()?;
            place_at(&mut places, "", own)?.node = Some(self.wish(vips));
        } else {
            self.add_nodes(&mut places)?;
        }
        Ok(gather::facts(places)?)
    }

    fn wish(&self, vips: BTreeSet<IpAddr>) -> Wish {
        Wish {
            vips,
            interfaces: self.interface.clone(),
            unwrap: !self.no_unwrap,
            is_guessed: false,
        }
    }

    /// What a namespace serves, as far as can be told.
    fn vips_of(&self, namespace: &Namespace) -> Result<BTreeSet<IpAddr>, Error> {
        let state = namespace.state(&self.state)?;
        let vips: BTreeSet<IpAddr> = match state.vips.is_empty() {
            false => state.vips.into_keys().collect(),
            true => gather::on_loopback(namespace)?,
        };
        match vips.is_empty() {
            false => Ok(vips),
            true => Err(Error::Usage(
                "--container: no VIP is on lo there: name those that it shall have with --vip"
                    .into(),
            )),
        }
    }

    /// Nodes that `plimsoll node` has set up on this host, and what looks like one.
    fn add_nodes(&self, places: &mut Vec<Place>) -> Result<(), Error> {
        for found in gather::left(&self.state) {
            let interfaces = match self.interface.is_empty() {
                true => found.state.interfaces.keys().cloned().collect(),
                false => self.interface.clone(),
            };
            let wish = Wish {
                unwrap: !self.no_unwrap && found.state.interfaces.values().any(|unwrap| *unwrap),
                vips: found.state.vips.keys().copied().collect(),
                interfaces,
                is_guessed: false,
            };
            place_at(places, &found.name, found.namespace)?.node = Some(wish);
        }
        let Some(own) = places.first_mut() else {
            return Ok(());
        };
        if own.node.is_none() {
            let mut vips = gather::on_loopback(&own.namespace)?;
            // A director may have its VIPs there, too.
            if let Some(director) = &own.director {
                vips.retain(|vip| !director.addresses.contains(vip));
            }
            if !vips.is_empty() {
                own.node = Some(Wish {
                    vips,
                    interfaces: self.interface.clone(),
                    // Nobody said that tunnels lead here.
                    unwrap: false,
                    is_guessed: !self.node,
                });
            } else if self.node {
                return Err(Error::Usage(
                    "--node: no VIP is on lo: name those that it shall have with --vip".into(),
                ));
            }
        }
        Ok(())
    }
}

/// The place of a namespace, which is added if it is not there yet.
fn place_at<'a>(
    places: &'a mut Vec<Place>,
    name: &str,
    namespace: Namespace,
) -> Result<&'a mut Place, Error> {
    let inode = namespace.inode()?;
    let mut index = None;
    for (at, place) in places.iter().enumerate() {
        if place.namespace.inode()? == inode {
            index = Some(at);
        }
    }
    let at = match index {
        Some(at) => at,
        None => {
            places.push(Place {
                name: name.to_owned(),
                namespace,
                director: None,
                node: None,
                untold: Vec::new(),
            });
            places.len() - 1
        }
    };
    places
        .get_mut(at)
        .ok_or_else(|| Error::Failed("a namespace is gone".into()))
}
