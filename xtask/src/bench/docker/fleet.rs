//! A thousand containers that only exist in memory.

use std::path::Path;
use std::time::{Duration, Instant};

use plimsoll_testkit::{
    Ask, Daemon, DaemonPlan, FakeContainer, FakeEngine, Port, wait_until_async,
};
use serde_json::Value;

use super::rig::{SOON, failed};
use crate::bench::{Error, measure};

const CONTAINERS: usize = 1000;
/// So many of them are stopped, one after the other.
const CHANGES: usize = 100;
/// Between two looks.
const STEP: Duration = Duration::from_millis(50);

/// What they cost.
pub(super) struct Fleet {
    pub(super) containers: usize,
    /// Resident memory of plimsoll, in MiB: with all of them in force, and after the changes and
    /// after all was shown once.
    pub(super) rss_mib: [f64; 2],
    pub(super) inspects_at_start: usize,
    pub(super) changes: usize,
    pub(super) inspects_per_change: f64,
}

/// Shows plimsoll the containers, and stops some.
pub(super) async fn measure(ours: &Path) -> Result<Fleet, Error> {
    let engine = FakeEngine::start().map_err(failed)?;
    let ids: Vec<String> = engine.world(|world| {
        let web = |i| FakeContainer::web(&format!("web-{i}"), &format!("web-{i}.example"));
        (0..CONTAINERS).map(|i| world.run(web(i))).collect()
    });
    let port = Port::take().map_err(failed)?;
    let listen = port.address().to_string();
    let args = ["run", "--admin", "{admin}", "--listen", &listen];
    let plan = DaemonPlan {
        args: args.map(str::to_owned).into(),
        env: vec![(
            "DOCKER_HOST".to_owned(),
            format!("unix://{}", engine.socket().display()),
        )],
        ..DaemonPlan::new(ours, "")
    };
    let lb = Daemon::start(plan).await.map_err(failed)?;
    let rss = || Ok::<_, Error>(measure::rss_kib(lb.id())? as f64 / 1024.0);
    let began = Instant::now();
    while lb.admin_get("/readyz").await.map_err(failed)?.status != 200 {
        if began.elapsed() > SOON {
            return Err(Error::Run(format!("it is not ready within {SOON:?}")));
        }
        tokio::time::sleep(STEP).await;
    }
    let (at_first, inspects_at_start) = (rss()?, engine.count(Ask::Inspect));
    for (stopped, id) in ids.iter().take(CHANGES).enumerate() {
        engine.world(|world| world.stop(id));
        let seen = || engine.count(Ask::Inspect) > inspects_at_start + stopped;
        if !wait_until_async(SOON, seen).await {
            return Err(Error::Run("a change is not looked at".to_owned()));
        }
    }
    // What was asked for is in force soon after.
    while ready(&lb).await? != CONTAINERS - CHANGES {
        if began.elapsed() > 3 * SOON {
            return Err(Error::Run("the changes are not in force".to_owned()));
        }
        tokio::time::sleep(STEP).await;
    }
    let more = engine.count(Ask::Inspect) - inspects_at_start;
    Ok(Fleet {
        containers: CONTAINERS,
        rss_mib: [at_first, rss()?],
        inspects_at_start,
        changes: CHANGES,
        inspects_per_change: more as f64 / CHANGES as f64,
    })
}

/// How many backends are ready.
async fn ready(lb: &Daemon) -> Result<usize, Error> {
    let answer = lb.admin_get("/v1/status").await.map_err(failed)?;
    let status: Value = serde_json::from_str(&answer.text())
        .map_err(|error| Error::Run(format!("/v1/status: {error}")))?;
    let list = |value: &Value, key| value.get(key).and_then(Value::as_array).cloned();
    let services = list(&status, "services").unwrap_or_default();
    let backends = services
        .iter()
        .filter_map(|s| list(s, "backends"))
        .flatten();
    let states = backends.filter_map(|backend| backend.get("state").cloned());
    Ok(states.filter(|state| state == "ready").count())
}
