//! A thousand containers that only exist in memory.

use std::path::Path;

use plimsoll_testkit::{Ask, Daemon, DaemonPlan, FakeContainer, FakeEngine, Port};
use serde_json::Value;

use super::rig::{SOON, failed};
use crate::bench::{Error, measure};

const CONTAINERS: usize = 1000;
/// So many of them are stopped, one after the other.
const CHANGES: usize = 100;

/// What they cost.
pub(super) struct Fleet {
    pub(super) containers: usize,
    /// Resident memory of plimsoll, in MiB, after the changes.
    pub(super) rss_mib: f64,
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
    until(&lb, CONTAINERS).await?;
    let inspects_at_start = engine.count(Ask::Inspect);
    for (stopped, id) in ids.iter().take(CHANGES).enumerate() {
        engine.world(|world| world.stop(id));
        until(&lb, CONTAINERS - stopped - 1).await?;
    }
    let more = engine.count(Ask::Inspect) - inspects_at_start;
    Ok(Fleet {
        containers: CONTAINERS,
        rss_mib: measure::rss_kib(lb.id())? as f64 / 1024.0,
        inspects_at_start,
        changes: CHANGES,
        inspects_per_change: more as f64 / CHANGES as f64,
    })
}

/// Waits until so many backends are ready.
async fn until(lb: &Daemon, count: usize) -> Result<(), Error> {
    let began = std::time::Instant::now();
    let mut seen = 0;
    while began.elapsed() < SOON {
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
        seen = states.filter(|state| state == "ready").count();
        if seen == count {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    Err(Error::Run(format!(
        "{seen} backends are ready instead of {count} within {SOON:?}"
    )))
}
