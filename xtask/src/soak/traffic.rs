//! Clients that must be served, whatever happens around them.

use std::time::Duration;

use plimsoll_testkit::{Client, ClientPlan, Error, Report, Reuse, TunnelPlan, Tunnels};

use super::world::World;

/// Between an answer and the next request: so much longer than any answer takes that the load, and the memory
/// it needs, are about the same on a busy machine and on an idle one.
const PAUSE: Duration = Duration::from_millis(100);

/// Which failures a client may see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum May {
    /// None.
    Never,
    /// Those of a backend that is killed or misbehaves.
    FailWithBackend,
}

/// All of them. What else there will be to balance joins here.
pub(super) struct Traffic {
    clients: Vec<(&'static str, May, Client)>,
    tunnels: Vec<(&'static str, Tunnels)>,
}

impl Traffic {
    /// Starts them.
    pub(super) async fn start(world: &World) -> Result<Self, Error> {
        let http = |host: &str| ClientPlan {
            tasks: 4,
            pause: PAUSE,
            bound: Duration::from_secs(30),
            ..ClientPlan::http(world.http(), host)
        };
        let tcp = ClientPlan {
            tasks: 4,
            pause: PAUSE,
            bound: Duration::from_secs(30),
            ..ClientPlan::tcp(world.tcp())
        };
        let plans = [
            (
                "keep-alive",
                May::Never,
                ClientPlan {
                    want: vec![200, 5_000, 70_000],
                    post_every: 5,
                    ..http("web.example")
                },
            ),
            (
                "new connections",
                May::Never,
                ClientPlan {
                    reuse: Reuse::Never,
                    post_every: 4,
                    post_bytes: 30_000,
                    chunked: true,
                    ..http("web.example")
                },
            ),
            (
                "a few requests each",
                May::Never,
                ClientPlan {
                    reuse: Reuse::Times(20),
                    ..http("other.example")
                },
            ),
            (
                "in a queue",
                May::Never,
                ClientPlan {
                    tasks: 6,
                    ..http("narrow.example")
                },
            ),
            (
                "TCP, new connections",
                May::Never,
                ClientPlan {
                    reuse: Reuse::Never,
                    want: vec![100, 100_000],
                    ..tcp.clone()
                },
            ),
            (
                "TCP, some exchanges each",
                May::Never,
                ClientPlan {
                    reuse: Reuse::Times(100),
                    ..tcp
                },
            ),
            (
                "where backends are killed",
                May::FailWithBackend,
                ClientPlan {
                    post_every: 3,
                    bound: Duration::from_secs(150),
                    ..http("mortal.example")
                },
            ),
        ];
        let slowly = |plan| TunnelPlan {
            pause: Duration::from_millis(200),
            bound: Duration::from_secs(30),
            ..plan
        };
        let upgraded = slowly(TunnelPlan::http(world.http(), "steady.example", 4));
        Ok(Self {
            clients: plans
                .map(|(name, may, plan)| (name, may, Client::start(plan)))
                .into(),
            tunnels: vec![("websockets", Tunnels::open(upgraded).await?)],
        })
    }

    /// Requests and exchanges so far.
    pub(super) fn answered(&self) -> u64 {
        let clients = self.clients.iter();
        let answered: u64 = clients.map(|(.., client)| client.answered()).sum();
        let tunnels = self.tunnels.iter();
        answered + tunnels.map(|(_, tunnels)| tunnels.exchanged()).sum::<u64>()
    }

    /// Ends them, and says what went wrong.
    pub(super) async fn stop(self) -> Vec<String> {
        let mut faults = Vec::new();
        println!();
        for (name, may, client) in self.clients {
            let report = client.stop().await;
            println!(
                "{name:>26}: {} answered, {} failed, {} connections, slowest {:?}",
                report.answered,
                report.failures.len(),
                report.connections,
                report.slowest
            );
            faults.extend(faults_of(name, may, &report));
        }
        for (name, tunnels) in self.tunnels {
            let exchanged = tunnels.exchanged();
            let broken = tunnels.broken();
            println!("{name:>26}: {exchanged} messages, {broken} broken");
            if broken > 0 {
                faults.push(format!("{name}: {broken} broke"));
            }
            // What they saw is counted already.
            let _ = tunnels.stop().await;
        }
        faults
    }
}

fn faults_of(name: &str, may: May, report: &Report) -> Vec<String> {
    let must = |reason: &str| {
        // 502: it gave no answer, and the request may not be sent twice; everything else is an answer
        // that broke off on its way.
        may == May::FailWithBackend && !reason.contains("status 5")
            || reason.contains("status 502")
            || reason.contains("status 504")
    };
    let mut faults: Vec<String> = report
        .failures
        .iter()
        .filter(|failure| may == May::Never || !must(&failure.reason))
        .take(10)
        .map(|failure| format!("{name}: {:?}: {}", failure.at, failure.reason))
        .collect();
    if report.answered == 0 {
        faults.push(format!("{name}: nothing was answered"));
    }
    faults
}
