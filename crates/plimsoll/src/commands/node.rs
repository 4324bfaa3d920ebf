//! `plimsoll node`: a host or a container that serves VIPs behind a director.

mod follow;
pub(super) mod place;
mod report;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use plimsoll_plane_ebpf::node::{self, Namespace, State, Target, commands, towards, troubles};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;
use crate::out;
use follow::Follow;
use place::Place;
use report::{Checked, Report};

/// So many VIPs fit into the program that unwraps.
const MOST: usize = 1024;

/// Make this host or a container serve addresses (VIPs) behind a director.
///
/// A director that forwards by direct routing or through a tunnel (IPIP) leaves the VIP as the packet's
/// destination. The node has it on its loopback, says nothing of it on the link, unwraps what comes in a
/// tunnel, and answers clients directly. All of it is taken back at the end, and after a crash at the end
/// of the next run. Needs root.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plimsoll node --vip 192.0.2.1                        this host, until Ctrl-C
  plimsoll node --vip 192.0.2.1 --container web        a container, until it ends
  plimsoll node --docker                               containers with a label plimsoll.node.vip=ADDR
  plimsoll node --vip 192.0.2.1,2001:db8::1 --once     and leave it so
  plimsoll node --undo                                 take all back
  plimsoll node --vip 192.0.2.1 --check                what is missing?
  plimsoll node --vip 192.0.2.1 --print                as commands of a shell")]
pub(crate) struct Node {
    /// Address that clients use, IPv4 or IPv6; several with commas between them, or again
    #[arg(
        long,
        value_name = "ADDR",
        value_delimiter = ',',
        value_parser = vip,
        required_unless_present_any = ["undo", "docker"]
    )]
    vip: Vec<IpAddr>,
    /// Not this host, but a container: its name or id in the engine, a process id, or the path of a
    /// network namespace (with a slash in it)
    #[arg(long, value_name = "CONTAINER")]
    container: Option<String>,
    /// Engine that knows the container, as unix:///PATH [default: $DOCKER_HOST, else
    /// /var/run/docker.sock]. Without --vip and --container: all its containers that have a label
    /// plimsoll.node.vip=ADDR[,ADDR…], as they start and stop
    #[arg(long, value_name = "HOST", num_args = 0..=1)]
    docker: Option<Option<String>>,
    /// Interface by which the director's packets come; may be given again [default: those of the default
    /// routes]
    #[arg(long, value_name = "IF")]
    interface: Vec<String>,
    /// Do not unwrap tunnels: enough for direct routing, and puts no program into the kernel
    #[arg(long)]
    no_unwrap: bool,
    /// Let servers on the VIPs announce TCP segments of so many bytes at most, 88 to 65495: over links of
    /// 1500 bytes 1420 fits any IPv4 tunnel, and 1400 any tunnel
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(88..=65495))]
    mss: Option<u16>,
    /// Leave it as it is then, do not wait
    #[arg(long, conflicts_with_all = ["undo", "check"])]
    once: bool,
    /// Take back what was done once, or left by a process that was killed: of these addresses, or all
    #[arg(long, conflicts_with = "check")]
    undo: bool,
    /// Only say what is missing: exit code 1 if something is
    #[arg(long)]
    check: bool,
    /// Only print the commands that do the same
    #[arg(long, conflicts_with = "check")]
    print: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "print")]
    json: bool,
    /// Folder where it is written down what was changed
    #[arg(long, value_name = "DIR", default_value = "/run/plimsoll")]
    state: PathBuf,
}

/// Reads an address that can be a VIP.
pub(super) fn vip(text: &str) -> Result<IpAddr, String> {
    let expected = "expected an address such as 192.0.2.1 or 2001:db8::1";
    let ip: IpAddr = text
        .parse()
        .map_err(|_| match text.split_once(['/', ':']) {
            Some((ip, _)) if ip.parse::<IpAddr>().is_ok() => {
                format!("without a network or a port; did you mean {ip}?")
            }
            _ => expected.to_owned(),
        })?;
    let (wrong, why) = match ip {
        IpAddr::V4(v4) => (v4.is_broadcast(), "the address of everybody"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            return Err(format!("did you mean {}?", ip.to_canonical()));
        }
        IpAddr::V6(v6) => (
            v6.is_unicast_link_local(),
            "an address that means something else on every link",
        ),
    };
    let wrong = [
        (wrong, why),
        (ip.is_loopback(), "every host's own address"),
        (ip.is_unspecified(), "no address"),
        (ip.is_multicast(), "the address of a group"),
    ];
    match wrong.iter().find(|(wrong, _)| *wrong) {
        Some((_, why)) => Err(format!("this is {why}; {expected}")),
        None => Ok(ip),
    }
}

/// What ends the process in order.
struct Stop([Signal; 3]);

impl Stop {
    /// From here on a signal does not end the process in the middle of a step.
    fn new() -> Result<Self, Error> {
        let on = |kind| signal(kind).map_err(Error::failed);
        Ok(Self([
            on(SignalKind::terminate())?,
            on(SignalKind::interrupt())?,
            on(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the first.
    async fn told(&mut self) {
        let [term, int, hang_up] = &mut self.0;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = hang_up.recv() => {}
        }
    }
}

impl From<node::Error> for Error {
    fn from(error: node::Error) -> Self {
        Self::failed(error)
    }
}

impl Node {
    pub(crate) fn run(self) -> Result<(), Error> {
        let vips: BTreeSet<IpAddr> = self.vip.iter().copied().collect();
        if vips.len() > MOST {
            let text = format!("--vip: at most {MOST} addresses, not {}", vips.len());
            return Err(Error::Usage(text));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| Error::Failed(format!("the runtime cannot be started: {why}")))?;
        runtime.block_on(async {
            let container = self.container.as_deref();
            let docker = self.docker.as_ref().map(Option::as_deref);
            if let (Some(engine), None) = (docker, container) {
                self.check_alone(&vips)?;
                return Follow::new(&self, engine)?.run(Stop::new()?).await;
            }
            if vips.is_empty() && !self.undo {
                let text = "--vip is missing: which addresses shall the container serve?";
                return Err(Error::Usage(text.to_owned()));
            }
            let (place, namespace) = Place::find(container, docker.flatten()).await?;
            if self.check {
                self.tell_missing(&vips, &namespace)
            } else if self.print {
                self.tell_commands(&vips, &namespace)
            } else if self.undo {
                self.take_back(&vips, namespace)
            } else if self.once {
                self.serve(&vips, namespace).map(drop)
            } else {
                self.hold(&vips, place, namespace).await
            }
        })
    }

    /// What is said of one node means nothing for all of an engine's.
    fn check_alone(&self, vips: &BTreeSet<IpAddr>) -> Result<(), Error> {
        let others = [
            ("--vip", !vips.is_empty()),
            ("--once", self.once),
            ("--undo", self.undo),
            ("--check", self.check),
            ("--print", self.print),
        ];
        match others.iter().find(|(_, said)| *said) {
            Some((other, _)) => Err(Error::Usage(format!(
                "{other} is of one container: name it with --container, or leave {other} out to \
                 follow the labels of all"
            ))),
            None => Ok(()),
        }
    }

    fn target(
        &self,
        vips: &BTreeSet<IpAddr>,
        namespace: &Namespace,
        state: &State,
    ) -> Result<Target, Error> {
        let interfaces = namespace.interfaces(&self.interface)?;
        let unwrap = !self.no_unwrap;
        let mut target = Target::serve(vips, &interfaces, unwrap, self.once, state);
        target.mss = self.mss.or(target.mss);
        Ok(target)
    }

    fn tell_missing(&self, vips: &BTreeSet<IpAddr>, namespace: &Namespace) -> Result<(), Error> {
        let found = namespace.found()?;
        // Whoever set it up, what counts is what is there.
        let nobody = State::default();
        let target = self.target(vips, namespace, &nobody)?;
        let checked = Checked {
            missing: towards(&target, &found, &nobody).changes,
            troubles: troubles(&target, &found),
            // Who may not look at programs has none to tell of.
            counts: namespace.counts().unwrap_or_default(),
        };
        if self.json {
            out::json(&checked.json())?;
        } else {
            out::print(&checked.text())?;
        }
        match checked.count() {
            0 => Ok(()),
            count => Err(Error::Failed(format!(
                "{} missing or in the way",
                crate::table::count(count as u64, "thing is", "things are")
            ))),
        }
    }

    fn tell_commands(&self, vips: &BTreeSet<IpAddr>, namespace: &Namespace) -> Result<(), Error> {
        let state = namespace.state(&self.state)?;
        let found = namespace.found()?;
        let target = if self.undo {
            Target::without(vips, &state)
        } else {
            self.target(vips, namespace, &state)?
        };
        let planned = towards(&target, &found, &state);
        let mut text = String::new();
        for trouble in troubles(&target, &found) {
            text.push_str(&format!("# {trouble}: {}\n", trouble.remedy()));
        }
        for left in &planned.left {
            text.push_str(&format!("# {left}\n"));
        }
        text.push_str(&commands(&planned.changes, namespace.path()));
        if planned.changes.is_empty() {
            text.push_str("# Nothing is to be done.\n");
        }
        out::print(&text)
    }

    /// Sets it up and says what was done.
    fn serve(&self, vips: &BTreeSet<IpAddr>, namespace: Namespace) -> Result<node::Node, Error> {
        let mut node = node::Node::hold(namespace, &self.state)?;
        let target = self.target(vips, node.namespace(), node.state())?;
        let found = node.namespace().found()?;
        let done = node.reach(&target)?;
        for trouble in troubles(&target, &found) {
            out::warn(&format!(
                "plimsoll: {trouble}: mend it with `{}`\n",
                trouble.remedy()
            ));
        }
        self.tell(&Report {
            container: None,
            vips: node.state().vips.keys().copied().collect(),
            done,
        })?;
        Ok(node)
    }

    fn take_back(&self, vips: &BTreeSet<IpAddr>, namespace: Namespace) -> Result<(), Error> {
        let mut node = node::Node::hold(namespace, &self.state)?;
        let unknown: Vec<String> = vips
            .iter()
            .filter(|ip| !node.state().vips.contains_key(*ip))
            .map(ToString::to_string)
            .collect();
        if !unknown.is_empty() {
            return Err(Error::Failed(format!(
                "{}: nothing was done for it by plimsoll, as far as {} says",
                unknown.join(", "),
                self.state.display()
            )));
        }
        let target = Target::without(vips, node.state());
        let done = node.reach(&target)?;
        self.tell(&Report {
            container: None,
            vips: node.state().vips.keys().copied().collect(),
            done,
        })
    }

    /// Sets it up, waits until told to stop or until the container ends, and takes it back.
    async fn hold(
        &self,
        vips: &BTreeSet<IpAddr>,
        place: Place,
        namespace: Namespace,
    ) -> Result<(), Error> {
        let mut stop = Stop::new()?;
        let mut node = match self.serve(vips, namespace) {
            // It is set up, and is there to serve, not to be read of.
            Err(Error::Gone) => return Err(Error::Gone),
            served => served?,
        };
        let ended = tokio::select! {
            () = stop.told() => Ok(()),
            name = place.ended() => Err(Error::Failed(format!("{name} has ended"))),
        };
        let target = Target::after(node.state());
        let done = node.reach(&target)?;
        let vips = node.state().vips.keys().copied().collect();
        let report = Report {
            container: None,
            vips,
            done,
        };
        match self.tell(&report) {
            Ok(()) | Err(Error::Gone) => ended,
            Err(error) => Err(error),
        }
    }

    fn tell(&self, report: &Report) -> Result<(), Error> {
        if self.json {
            out::json(&report.json())
        } else {
            out::print(&report.text())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_can_be_vips() {
        assert_eq!(vip("192.0.2.1").unwrap().to_string(), "192.0.2.1");
        assert_eq!(vip("2001:db8::1").unwrap().to_string(), "2001:db8::1");
        for (text, part) in [
            ("192.0.2.1/32", "did you mean 192.0.2.1?"),
            ("192.0.2.1:80", "did you mean 192.0.2.1?"),
            ("::ffff:192.0.2.1", "did you mean 192.0.2.1?"),
            ("127.0.0.1", "own address"),
            ("::1", "own address"),
            ("0.0.0.0", "no address"),
            ("224.0.0.1", "group"),
            ("255.255.255.255", "everybody"),
            ("fe80::1", "every link"),
            ("web", "such as 192.0.2.1"),
        ] {
            let error = vip(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
