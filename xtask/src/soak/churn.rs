//! What changes all the time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use plimsoll_testkit::{
    Answer, Client, ClientPlan, Ending, Error, HttpBehaviour, Phase, TunnelPlan, Tunnels,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::world::World;

/// Between two changes.
const PAUSE: Duration = Duration::from_millis(400);

/// What comes into force does so within this.
const SOON: Duration = Duration::from_secs(15);

/// One kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Join,
    Leave,
    WeighInFile,
    DrainInFile,
    Reschedule,
    Reload,
    BreakFile,
    GuestComesOrGoes,
    WeighByCommand,
    DrainByCommand,
    ReadyByCommand,
    Look,
    AskAsHatop,
    Kill,
    Misbehave,
    Revive,
    OpenTunnels,
}

const ALL: [Change; 17] = [
    Change::Join,
    Change::Leave,
    Change::WeighInFile,
    Change::DrainInFile,
    Change::Reschedule,
    Change::Reload,
    Change::BreakFile,
    Change::GuestComesOrGoes,
    Change::WeighByCommand,
    Change::DrainByCommand,
    Change::ReadyByCommand,
    Change::Look,
    Change::AskAsHatop,
    Change::Kill,
    Change::Misbehave,
    Change::Revive,
    Change::OpenTunnels,
];

/// The changes so far.
pub(super) struct Churn {
    random: u64,
    counts: BTreeMap<Change, u64>,
    faults: Vec<String>,
}

impl Default for Churn {
    fn default() -> Self {
        Self {
            random: 0x9E37_79B9_7F4A_7C15,
            counts: BTreeMap::new(),
            faults: Vec::new(),
        }
    }
}

impl fmt::Display for Churn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: u64 = self.counts.values().sum();
        write!(f, "\n{all} changes:")?;
        for (change, count) in &self.counts {
            write!(f, " {change:?} {count},")?;
        }
        Ok(())
    }
}

impl Churn {
    /// What went wrong with changes.
    pub(super) fn faults(self) -> Vec<String> {
        self.faults
    }

    /// A number below `below`, which is not 0; xorshift64.
    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).unwrap_or_default() % below.max(1)
    }

    fn fault(&mut self, change: Change, why: &str) {
        if self.faults.len() < 20 {
            self.faults.push(format!("{change:?}: {why}"));
        }
    }

    /// Changes something, and gives it a moment.
    pub(super) async fn step(&mut self, world: &mut World) -> Result<(), Error> {
        let turn = self.random(ALL.len());
        let Some(change) = ALL.get(turn).copied() else {
            return Ok(());
        };
        *self.counts.entry(change).or_default() += 1;
        let begun = Instant::now();
        match change {
            Change::Kill | Change::Misbehave | Change::Revive => {
                self.hurt(change, world).await?;
            }
            Change::WeighByCommand
            | Change::DrainByCommand
            | Change::ReadyByCommand
            | Change::Look
            | Change::AskAsHatop => self.ask(change, world).await?,
            Change::OpenTunnels => self.tunnels(world).await,
            _ => self.edit(change, world).await?,
        }
        world.part().await?;
        tokio::time::sleep(PAUSE.saturating_sub(begun.elapsed())).await;
        Ok(())
    }

    /// Something in the file.
    async fn edit(&mut self, change: Change, world: &mut World) -> Result<(), Error> {
        let (streams, weight) = (self.random(3) == 0, self.random(5) as u64);
        let members = match streams {
            true => &mut world.streams,
            false => &mut world.web,
        };
        // One stays as it is, so that there is always somebody to serve.
        let which = 1 + self.random(members.len().saturating_sub(1));
        let at_once = self.random(2) == 0;
        match change {
            Change::Join => world.join(streams)?,
            Change::Leave => world.leave(streams),
            Change::WeighInFile => {
                if let Some(member) = members.get_mut(which) {
                    member.weight = weight;
                }
            }
            Change::DrainInFile => {
                if let Some(member) = members.get_mut(which) {
                    member.drain = !member.drain;
                }
            }
            Change::Reschedule => world.reschedule(),
            Change::BreakFile => {
                world.break_file()?;
                tokio::time::sleep(PAUSE / 4).await;
            }
            Change::GuestComesOrGoes => {
                world.guest()?;
                world.write(at_once)?;
                if let Some((address, host)) = world.guest_at() {
                    self.visit(change, address, &host).await;
                }
                return Ok(());
            }
            _ => {}
        }
        world.write(at_once)
    }

    /// A guest is served, too.
    async fn visit(&mut self, change: Change, address: std::net::SocketAddr, host: &str) {
        let plan = ClientPlan {
            tasks: 1,
            ..ClientPlan::http(address, host)
        };
        let until = Instant::now() + SOON;
        let mut last = String::new();
        while Instant::now() < until {
            let report = Client::run(plan.clone(), 5).await;
            if report.failures.is_empty() {
                return;
            }
            last = report.to_string();
            tokio::time::sleep(PAUSE / 4).await;
        }
        self.fault(change, &format!("{host} is not served: {last}"));
    }

    /// Something by the admin socket or that of HAProxy's commands.
    async fn ask(&mut self, change: Change, world: &mut World) -> Result<(), Error> {
        let (which, weight) = (self.random(world.web.len()), self.random(4));
        if change == Change::AskAsHatop {
            let path = world.lb.dir().join("stats.sock");
            for command in ["show stat", "show info", "show servers state"] {
                match hatop(&path, command).await {
                    Ok(text) if text.len() > 20 => {}
                    Ok(text) => self.fault(change, &format!("{command}: {text}")),
                    Err(error) => self.fault(change, &format!("{command}: {error}")),
                }
            }
            return Ok(());
        }
        if change == Change::Look {
            for target in ["/v1/flows", "/metrics", "/healthz", "/v1/status"] {
                let answer = world.ask("GET", target, "").await?;
                if answer.status != 200 {
                    self.fault(change, &format!("{target}: {}", answer.status));
                }
            }
            return Ok(());
        }
        let Some(member) = world.web.get_mut(which).filter(|_| which > 0) else {
            return Ok(());
        };
        let (verb, body) = match change {
            Change::WeighByCommand => ("weight", format!("{{\"weight\": {weight}}}")),
            Change::DrainByCommand => ("drain", String::new()),
            _ => ("ready", String::new()),
        };
        member.told = change != Change::ReadyByCommand;
        let address = member.server.address();
        let target = format!("/v1/services/web/backends/{address}/{verb}");
        let answer = world.ask("POST", &target, &body).await?;
        // 404: it has just joined, and the file was not read yet.
        if !matches!(answer.status, 200 | 404) {
            let text = answer.text();
            self.fault(change, &format!("{target}: {} {text}", answer.status));
        }
        Ok(())
    }

    /// Something with those that are killed. One of them is always well.
    async fn hurt(&mut self, change: Change, world: &World) -> Result<(), Error> {
        let which = 1 + self.random(2);
        let ending = match self.random(2) {
            0 => Ending::Close,
            _ => Ending::Reset,
        };
        match change {
            Change::Kill => world.kill(which, ending).await,
            Change::Misbehave => {
                let ways = [
                    Answer::Cut(Phase::Accept, ending),
                    Answer::Cut(Phase::Request, ending),
                    Answer::Cut(Phase::Head, ending),
                    Answer::Cut(Phase::Body, ending),
                    Answer::Garbage(b"220 mail.example ESMTP\r\n".to_vec()),
                    Answer::TooMuch(100),
                    Answer::TooLittle(10),
                    Answer::UntilClose,
                ];
                let turn = self.random(ways.len());
                let answer = ways.into_iter().nth(turn).unwrap_or(Answer::Length);
                world.revive(which, HttpBehaviour::answering(answer))?;
            }
            _ => {
                for which in 1..3 {
                    world.revive(which, HttpBehaviour::default())?;
                }
            }
        }
        Ok(())
    }

    /// Tunnels that do not last.
    async fn tunnels(&mut self, world: &World) {
        let plan = TunnelPlan::http(world.http(), "web.example", 3);
        match Tunnels::open(plan).await {
            Ok(tunnels) => {
                let moved = tunnels.more(6, SOON).await;
                let broken = tunnels.broken();
                if !moved || broken > 0 {
                    self.fault(Change::OpenTunnels, &format!("{broken} of 3 broke"));
                }
                let _ = tunnels.stop().await;
            }
            Err(error) => self.fault(Change::OpenTunnels, &error.to_string()),
        }
    }
}

/// What the socket of HAProxy's commands answers.
async fn hatop(path: &std::path::Path, command: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(format!("{command}\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}
