//! `run --user`: root is given up for good, and what is needed is kept.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::{Duration, Instant};

use plimsoll_testkit::{Client, Daemon, DaemonPlan, FakeContainer, FakeEngine, HttpBackend, Ready};

use crate::lab::{Lab, SOON};

/// A user and a group that nobody has.
const USER: u32 = 64_421;
const GROUP: u32 = 64_422;
/// The bit of CAP_NET_BIND_SERVICE in the sets of capabilities.
const NET_BIND_SERVICE: &str = "0000000000000400";

/// The words behind a key in the status of every thread of a process.
fn threads(pid: u32, key: &str) -> Vec<Vec<String>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let values = tasks.map(|task| {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let words = line.unwrap().split_whitespace();
        words.map(str::to_owned).collect()
    });
    values.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn root_is_given_up_and_ports_and_the_engine_are_kept() {
    let test = "root_is_given_up_and_ports_and_the_engine_are_kept";
    let Some(lab) = Lab::new(test, &[]) else {
        return;
    };
    let engine = FakeEngine::start().unwrap();
    let (place, address) = (lab.place("lb"), ([127, 0, 0, 1], 3001).into());
    let backend = HttpBackend::start_at("one", &place, address).unwrap();
    let container = FakeContainer::web("one", "one.example");
    engine.world(|world| world.run(container.mode("host").label("plimsoll.port", "3001")));
    let socket = engine.socket();
    chown(&socket, Some(0), Some(GROUP)).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o660)).unwrap();
    let at = lab.at("lb", 80);
    let (user, listen) = (USER.to_string(), at.to_string());
    let args = [
        "run",
        "--config",
        "{config}",
        "--admin",
        "{admin}",
        "--docker",
        socket.to_str().unwrap(),
        "--listen",
        &listen,
        "--user",
        &user,
    ];
    let plan = DaemonPlan {
        args: args.map(str::to_owned).into(),
        ..lab.plan("# nothing\n")
    };
    let mut daemon = Daemon::start(plan).await.unwrap();
    let started = Instant::now();
    while daemon
        .admin_get("/readyz")
        .await
        .unwrap()
        .head
        .status()
        .unwrap()
        != 200
    {
        assert!(started.elapsed() < SOON, "{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut requests = lab.requests("one.example");
    requests.target = at;
    Client::run(requests, 20).await.assert_clean();
    let pid = daemon.id();
    for (key, wanted) in [
        ("Uid:", vec![user.as_str(); 4]),
        ("Gid:", vec![user.as_str(); 4]),
        ("Groups:", vec![GROUP.to_string().as_str()]),
        ("CapEff:", vec![NET_BIND_SERVICE]),
        ("CapPrm:", vec![NET_BIND_SERVICE]),
        ("NoNewPrivs:", vec!["1"]),
    ] {
        let all = threads(pid, key);
        assert!(
            all.len() > 1 && all.iter().all(|words| *words == wanted),
            "{key} {all:?}"
        );
    }
    daemon.term().unwrap();
    assert_eq!(daemon.wait(SOON).await.unwrap().code(), Some(0));

    // Who could not use the engine afterwards is told so at once.
    fs::set_permissions(&socket, Permissions::from_mode(0o600)).unwrap();
    let plan = DaemonPlan {
        args: args.map(str::to_owned).into(),
        ready: Ready::Spawned,
        ..lab.plan("# nothing\n")
    };
    let mut daemon = Daemon::start(plan).await.unwrap();
    assert_eq!(daemon.wait(SOON).await.unwrap().code(), Some(1));
    let log = daemon.log();
    assert!(
        log.contains(&format!("let group {GROUP} write to it")),
        "{log}"
    );
    drop((daemon, backend, lab));
}
