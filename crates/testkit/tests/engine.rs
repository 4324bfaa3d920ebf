//! A private engine: images, containers, Compose, restarts, and nothing left afterwards. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use plimsoll_testkit::{
    Client, ClientPlan, Engine, EnginePlan, Reuse, TempDir, engine_or_skip, finish, wait_until,
};

const SOON: Duration = Duration::from_secs(20);

/// Requests from the engine's host.
fn requests(engine: &Engine, address: SocketAddr) -> ClientPlan {
    ClientPlan {
        place: engine.place(),
        tasks: 2,
        pause: Duration::from_millis(2),
        ..ClientPlan::http(address, "a")
    }
}

/// Requests once it listens.
async fn answers(engine: &Engine, address: SocketAddr) -> ClientPlan {
    let place = engine.place();
    let plan = requests(engine, address);
    let listens = async {
        while place.connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, listens).await.unwrap();
    plan
}

fn health(engine: &Engine, container: &str) -> String {
    let found = engine.api_get(&format!("/containers/{container}/json"));
    let health = found.pointer("/State/Health/Status").unwrap();
    health.as_str().unwrap().to_owned()
}

/// What an engine might leave on its host.
fn names() -> BTreeSet<String> {
    let folders = ["/sys/class/net", "/run", "/opt", "/etc/docker", "/var/lib"];
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    entries
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_run_and_nothing_is_left() {
    if !engine_or_skip("containers_run_and_nothing_is_left") {
        return;
    }
    let before = names();
    let engine = Engine::start(EnginePlan::default()).unwrap();
    engine.build_instance().unwrap();

    let id = engine.docker(&["run", "-d", "--name", "one", "instance", "--http", "80"]);
    let address = (engine.address("one", "bridge"), 80).into();
    let plan = answers(&engine, address).await;
    let report = Client::run(plan, 20).await;
    report.assert_clean();
    assert_eq!(report.of(id.get(..12).unwrap()), 20);

    // From the engine's host, as a user there: the programs of the machine, and the usual socket.
    let mut curl = engine.command("curl");
    curl.args([
        "-sS",
        "--unix-socket",
        "/var/run/docker.sock",
        "http://docker/_ping",
    ]);
    assert_eq!(finish(curl, SOON).unwrap().stdout, b"OK");

    // Told to stop it finishes what it has.
    let slow = ClientPlan {
        requests: Some(2),
        ..requests(&engine, address).path("/slow?ms=500")
    };
    let slow = Client::start(slow);
    let connected = || {
        let mut ss = engine.namespace().command("ss");
        let to = address.ip().to_string();
        ss.args(["-Htn", "state", "established", "dst", &to]);
        let out = finish(ss, SOON).unwrap().stdout;
        String::from_utf8(out).unwrap().lines().count() == 2
    };
    assert!(wait_until(SOON, connected));
    engine.docker(&["stop", "one"]);
    slow.finished().await.assert_clean();
    let ended = engine.api_get("/containers/one/json");
    assert_eq!(ended.pointer("/State/ExitCode").unwrap(), 0);

    // What the engine refuses is said.
    let error = engine
        .try_docker(&["run", "nothing"])
        .unwrap_err()
        .to_string();
    assert!(error.contains("nothing"), "{error}");
    engine.close().unwrap();
    assert_eq!(names(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_turns_and_memory_ends() {
    if !engine_or_skip("health_turns_and_memory_ends") {
        return;
    }
    let engine = Engine::start(EnginePlan::default()).unwrap();
    engine.build_instance().unwrap();
    engine.docker(&["run", "-d", "--name", "one", "-m", "64m", "checked"]);
    assert!(wait_until(SOON, || health(&engine, "one") == "healthy"));
    let address = (engine.address("one", "bridge"), 8080).into();
    let plan = requests(&engine, address);
    Client::run(plan.clone().path("/control?health=down"), 1)
        .await
        .assert_clean();
    assert!(wait_until(SOON, || health(&engine, "one") == "unhealthy"));
    Client::run(plan.clone().path("/control?health=up"), 1)
        .await
        .assert_clean();
    assert!(wait_until(SOON, || health(&engine, "one") == "healthy"));

    let eaten = Client::run(plan.path("/control?eat=200"), 1).await;
    assert_eq!(eaten.failures.len(), 1);
    let killed = || {
        let found = engine.api_get("/containers/one/json");
        found.pointer("/State/OOMKilled").unwrap() == true
    };
    assert!(wait_until(SOON, killed));
    engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn compose_scales() {
    if !engine_or_skip("compose_scales") {
        return;
    }
    let engine = Engine::start(EnginePlan::default()).unwrap();
    engine.build_instance().unwrap();
    let dir = TempDir::new().unwrap();
    let text = "version: '3'\nservices:\n  web:\n    image: instance\n    command: --http 80\n";
    fs::write(dir.path().join("docker-compose.yml"), text).unwrap();
    let running = || engine.api_get("/containers/json").as_array().unwrap().len();
    for count in [1, 3, 2] {
        let scale = format!("web={count}");
        engine.compose(dir.path(), &["-p", "shop", "up", "-d", "--scale", &scale]);
        assert_eq!(running(), count);
    }
    let ids = engine.compose(dir.path(), &["-p", "shop", "ps", "-q", "web"]);
    let first = ids.lines().next().unwrap();
    let address = (engine.address(first, "shop_default"), 80).into();
    let plan = answers(&engine, address).await;
    Client::run(plan, 10).await.assert_clean();
    engine.compose(dir.path(), &["-p", "shop", "down", "-t", "5"]);
    assert_eq!(running(), 0);
    engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_go_on_while_the_engine_is_away() {
    if !engine_or_skip("containers_go_on_while_the_engine_is_away") {
        return;
    }
    let engine = Engine::start(EnginePlan {
        live_restore: true,
        ..EnginePlan::default()
    })
    .unwrap();
    engine.build_instance().unwrap();
    engine.docker(&["run", "-d", "--name", "one", "instance"]);
    let address = (engine.address("one", "bridge"), 8080).into();
    let plan = ClientPlan {
        reuse: Reuse::Times(5),
        ..answers(&engine, address).await
    };
    let client = Client::start(plan);
    assert!(client.more(20, SOON).await);
    engine.restart().unwrap();
    assert!(client.more(20, SOON).await);
    engine.kill().unwrap();
    assert!(engine.try_docker(&["ps"]).is_err());
    assert!(engine.stop().is_err());
    assert!(client.more(20, SOON).await);
    engine.resume().unwrap();
    assert!(engine.resume().is_err());
    assert!(client.more(20, SOON).await);
    client.stop().await.assert_clean();
    // It is still the engine's container.
    engine.docker(&["stop", "one"]);
    engine.close().unwrap();
}

#[test]
fn an_engine_that_does_not_start_says_why() {
    if !engine_or_skip("an_engine_that_does_not_start_says_why") {
        return;
    }
    let plan = EnginePlan {
        args: vec!["--no-such-option".to_owned()],
        ..EnginePlan::default()
    };
    let error = Engine::start(plan).unwrap_err().to_string();
    assert!(error.contains("no-such-option"), "{error}");
}

/// Says to the child of [`a_killed_test_leaves_nothing`] who it is.
const CHILD: &str = "PLIMSOLL_TEST_KILLED";

#[test]
fn a_killed_test_leaves_nothing() {
    const NAME: &str = "a_killed_test_leaves_nothing";
    if !engine_or_skip(NAME) {
        return;
    }
    if std::env::var_os(CHILD).is_some() {
        let engine = Engine::start(EnginePlan::default()).unwrap();
        engine.build_instance().unwrap();
        engine.docker(&["run", "-d", "instance"]);
        // Standard output belongs to the harness.
        let names = format!("{} {}", engine.namespace().name(), engine.dir().display());
        fs::write(std::env::var_os(CHILD).unwrap(), names).unwrap();
        std::thread::sleep(SOON * 10);
        panic!("nobody kills this test");
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("names");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env(CHILD, &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut names = String::new();
    let started = wait_until(SOON, || {
        names = fs::read_to_string(&file).unwrap_or_default();
        !names.is_empty()
    });
    let (name, dir) = names.split_once(' ').unwrap_or_default();
    // Of the second version, and of the first.
    let cgroups = ["", "memory/"].map(|folder| format!("/sys/fs/cgroup/{folder}{name}"));
    let left = [
        vec![dir.to_owned(), format!("/run/netns/{name}")],
        cgroups.into(),
    ]
    .concat();
    let there = || left.iter().filter(|path| fs::exists(path).unwrap()).count();
    let before = there();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(started && before == 3, "{left:?}");
    assert!(wait_until(SOON, || there() == 0), "{left:?}");
}
