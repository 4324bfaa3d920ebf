//! SIGTERM: nothing new, what is in flight ends, bounded.

use std::time::{Duration, Instant};

use plimsoll_testkit::{HttpBehaviour, Raw, wait_until_async};

use crate::{SOON, Stage};

/// Longer than it takes to hear that the port is closed: a second, if the client's first segment is
/// dropped in its last moments.
const SLOW: Duration = Duration::from_secs(3);

/// Sends a request that takes a while, and waits until a backend has it.
async fn request_in_flight(stage: &Stage, delay: Duration) -> Raw {
    for backend in &stage.backends {
        backend.behave(HttpBehaviour::slow(delay));
    }
    let mut raw = Raw::connect(stage.port.address()).await.unwrap();
    raw.send("GET /slow HTTP/1.1\r\nHost: web.example\r\nX-Request-Id: 1\r\n\r\n")
        .await
        .unwrap();
    let arrived = || {
        let status = stage
            .backends
            .iter()
            .map(|backend| backend.seen().len())
            .sum::<usize>();
        status > 0
    };
    // The backends note a request once it is read, and answer it later.
    assert!(wait_until_async(SOON, arrived).await);
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_answered_before_the_end() {
    let mut stage = Stage::new().await;
    let mut raw = request_in_flight(&stage, SLOW).await;
    stage.daemon.term().unwrap();
    stage.until_logged("told to stop").await;
    // Nothing new is taken; those who ask hear why.
    let refused = async || Raw::connect(stage.port.address()).await.is_err();
    stage.until(refused).await;
    let readiness = stage.daemon.admin_get("/readyz").await.unwrap();
    assert_eq!(readiness.head.status().unwrap(), 503);
    assert!(
        readiness.text().contains("\"draining\":true"),
        "{}",
        readiness.text()
    );
    let answer = raw.read_response(SOON).await.unwrap();
    assert_eq!(answer.head.status().unwrap(), 200);
    let status = stage.daemon.wait(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", stage.daemon.log());
    assert!(
        stage.daemon.log().contains("all has ended"),
        "{}",
        stage.daemon.log()
    );
    assert!(!stage.daemon.admin_path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_is_bounded() {
    let mut stage = Stage::with("drain = \"300ms\"").await;
    let _raw = request_in_flight(&stage, Duration::from_secs(60)).await;
    let started = Instant::now();
    stage.daemon.term().unwrap();
    let status = stage.daemon.wait(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert!(
        stage.daemon.log().contains("cuts what is left"),
        "{}",
        stage.daemon.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once() {
    let mut stage = Stage::new().await;
    let _raw = request_in_flight(&stage, Duration::from_secs(60)).await;
    stage.daemon.term().unwrap();
    stage.until_logged("told to stop").await;
    assert!(
        stage.daemon.ended().unwrap().is_none(),
        "it waits for what is in flight"
    );
    stage.daemon.signal(rustix::process::Signal::INT).unwrap();
    let status = stage.daemon.wait(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(
        stage.daemon.log().contains("told to stop again"),
        "{}",
        stage.daemon.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_daemon_stops_at_once() {
    let mut stage = Stage::new().await;
    let mut idle = Raw::connect(stage.port.address()).await.unwrap();
    idle.get("web.example", "/", SOON).await.unwrap();
    let started = Instant::now();
    stage.daemon.signal(rustix::process::Signal::INT).unwrap();
    assert_eq!(stage.daemon.wait(SOON).await.unwrap().code(), Some(0));
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "the idle connection holds nothing up"
    );
}

/// The CPU time that a process has had, in clock ticks (proc(5), /proc/pid/stat, fields 14, 15).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The second field is the name in brackets, and may hold blanks.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_drain_costs_hardly_any_cpu_time() {
    // Longer than the time between two audits: there are no more of them, nor waits for one.
    const DRAIN: Duration = Duration::from_secs(7);
    let mut stage = Stage::with("drain = \"30s\"").await;
    let mut raw = request_in_flight(&stage, DRAIN).await;
    stage.daemon.term().unwrap();
    stage.until_logged("told to stop").await;
    let before = cpu_ticks(stage.daemon.id());
    let answer = raw.read_response(DRAIN + SOON).await.unwrap();
    assert_eq!(answer.head.status().unwrap(), 200);
    // 100 ticks are a second.
    let used = cpu_ticks(stage.daemon.id()) - before;
    assert!(used < 50, "{used} ticks of CPU time in {DRAIN:?}");
    assert_eq!(stage.daemon.wait(SOON).await.unwrap().code(), Some(0));
}
