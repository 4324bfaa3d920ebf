//! `run` in front of containers: what is watched, and what goes wrong with it. The engine is a fake
//! one, its containers are on the network of the host.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use plimsoll_testkit::{
    Client, ClientPlan, Daemon, DaemonPlan, FakeContainer, FakeEngine, HttpBackend, Port, Ready,
};

use crate::{BINARY, Ended, SOON, ended, plimsoll, text, web};

/// A container with this backend for `HOST.example`.
fn container(name: &str, backend: &HttpBackend) -> FakeContainer {
    let port = backend.address().port().to_string();
    let container = FakeContainer::web(name, &format!("{name}.example"));
    container.mode("host").label("plimsoll.port", &port)
}

/// A daemon with these arguments behind `run` and `--admin`.
async fn daemon(args: &[&str], config: &str) -> Daemon {
    let plan = DaemonPlan {
        args: ["run", "--admin", "{admin}"]
            .iter()
            .chain(args)
            .map(|s| (*s).to_owned())
            .collect(),
        ..DaemonPlan::new(BINARY, config)
    };
    Daemon::start(plan).await.unwrap()
}

async fn until(daemon: &Daemon, holds: impl AsyncFn() -> bool) {
    let started = std::time::Instant::now();
    while !holds().await {
        assert!(started.elapsed() < SOON, "{}", daemon.log());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn ready(daemon: &Daemon) -> u16 {
    let answer = daemon.admin_get("/readyz").await.unwrap();
    answer.head.status().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_balanced_beside_a_file() {
    let engine = FakeEngine::start().unwrap();
    let backends = ["file", "one"].map(|name| HttpBackend::start(name).unwrap());
    engine.world(|world| world.run(container("one", &backends[1])));
    let (port, listen) = (Port::take().unwrap(), Port::take().unwrap());
    let config = web(port.address(), &[backends[0].address()]);
    let (at, socket) = (listen.address().to_string(), engine.socket());
    let args = [
        "--config",
        "{config}",
        "--docker",
        text(&socket),
        "--listen",
        &at,
    ];
    let mut daemon = daemon(&args, &config).await;
    until(&daemon, async || ready(&daemon).await == 200).await;
    let report = Client::run(ClientPlan::http(port.address(), "x"), 10).await;
    report.assert_clean();
    assert_eq!(report.of("file"), 10);
    let report = Client::run(ClientPlan::http(listen.address(), "one.example"), 10).await;
    report.assert_clean();
    assert_eq!(report.of("one"), 10);
    daemon.term().unwrap();
    assert_eq!(daemon.wait(SOON).await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_the_file_asks_for_an_engine() {
    let engine = FakeEngine::start().unwrap();
    let backend = HttpBackend::start("one").unwrap();
    engine.world(|world| world.run(container("one", &backend)));
    let listen = Port::take().unwrap();
    let config = format!(
        "[docker]\nhost = \"unix://{}\"\nlisten = \"{}/http\"\n",
        engine.socket().display(),
        listen.address()
    );
    let daemon = daemon(&["--config", "{config}"], &config).await;
    until(&daemon, async || ready(&daemon).await == 200).await;
    let report = Client::run(ClientPlan::http(listen.address(), "one.example"), 10).await;
    report.assert_clean();
    daemon
        .replace_config(&config.replace("unix://", "unix:///other"))
        .unwrap();
    until(&daemon, async || {
        daemon.log().contains("[docker] has changed")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_away_is_waited_for_and_holds_nothing_up() {
    let engine = FakeEngine::start().unwrap();
    let socket = engine.socket();
    engine.stop();
    let backends = ["file", "one"].map(|name| HttpBackend::start(name).unwrap());
    let (port, listen) = (Port::take().unwrap(), Port::take().unwrap());
    let config = web(port.address(), &[backends[0].address()]);
    let at = listen.address().to_string();
    let args = [
        "--config",
        "{config}",
        "--docker",
        text(&socket),
        "--listen",
        &at,
    ];
    let mut daemon = daemon(&args, &config).await;
    until(&daemon, async || daemon.log().contains("cannot be used")).await;
    let said = daemon.log();
    assert!(said.contains(text(&socket)), "{said}");
    let open = async || std::net::TcpStream::connect(port.address()).is_ok();
    until(&daemon, open).await;
    // What the file says is in force, and the daemon is well, but not all is there.
    Client::run(ClientPlan::http(port.address(), "x"), 10)
        .await
        .assert_clean();
    let admin = daemon.admin_path();
    let health = |args: &[&str]| {
        let all = [&["healthcheck", "--admin", text(&admin)], args].concat();
        plimsoll(&all).code
    };
    assert_eq!((health(&[]), health(&["--ready"])), (Some(0), Some(1)));
    let status = plimsoll(&["status", "--admin", text(&admin)]).out;
    assert!(
        status.contains("stale for") && status.contains(text(&socket)),
        "{status}"
    );

    engine.start_again().unwrap();
    engine.world(|world| world.run(container("one", &backends[1])));
    until(&daemon, async || ready(&daemon).await == 200).await;
    until(&daemon, async || {
        let mut plan = ClientPlan::http(listen.address(), "one.example");
        plan.requests = Some(1);
        Client::start(plan).finished().await.of("one") == 1
    })
    .await;
    // It drains also if it never heard of the engine again.
    engine.stop();
    daemon.term().unwrap();
    assert_eq!(daemon.wait(SOON).await.unwrap().code(), Some(0));
    assert!(daemon.log().contains("all has ended"), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_port_is_taken_ends_nothing() {
    let engine = FakeEngine::start().unwrap();
    let backend = HttpBackend::start("one").unwrap();
    engine.world(|world| world.run(container("one", &backend)));
    let listen = Port::take().unwrap();
    let squatter = std::net::TcpListener::bind(listen.address()).unwrap();
    let (at, socket) = (listen.address().to_string(), engine.socket());
    let daemon = daemon(&["--docker", text(&socket), "--listen", &at], "").await;
    until(&daemon, async || daemon.log().contains("address in use")).await;
    drop(squatter);
    until(&daemon, async || ready(&daemon).await == 200).await;
    Client::run(ClientPlan::http(listen.address(), "one.example"), 10)
        .await
        .assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_balanced_without_an_engine() {
    let backend = HttpBackend::start("one").unwrap();
    let (address, listen) = (backend.address(), Port::take().unwrap());
    let dir = plimsoll_testkit::TempDir::new().unwrap();
    let admin = dir.path().join("admin.sock");
    let at = listen.address().to_string();
    let link = format!("WEB_1_PORT_80_TCP=tcp://{address}");
    let words = [
        &link,
        BINARY,
        "run",
        "--config",
        "{config}",
        "--admin",
        text(&admin),
    ];
    let plan = DaemonPlan {
        args: words
            .iter()
            .chain(&["--links", "--listen", &at])
            .map(|s| (*s).to_owned())
            .collect(),
        ready: Ready::Port(plimsoll_testkit::Place::Here, listen.address()),
        ..DaemonPlan::new("env", "# nothing\n")
    };
    let _daemon = Daemon::start(plan).await.unwrap();
    Client::run(ClientPlan::http(listen.address(), "any"), 10)
        .await
        .assert_clean();
}

/// Runs it with one more variable in its environment.
fn with(variable: (&str, &str), args: &[&str]) -> Ended {
    let mut command = Command::new(BINARY);
    command.args(args).env(variable.0, variable.1);
    ended(command)
}

#[test]
fn what_names_no_engine_is_2() {
    let dir = plimsoll_testkit::TempDir::new().unwrap();
    let path = dir.path().join("lb.toml");
    std::fs::write(&path, "# nothing\n").unwrap();
    let config = ["run", "--config", text(&path)];
    let run = |more: &[&str]| plimsoll(&[&config, more].concat());

    let wrong = run(&["--docker", "ssh://host"]);
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.err.contains("--docker: ") && wrong.err.contains("ssh -nNT"),
        "{}",
        wrong.err
    );
    let wrong = with(
        ("DOCKER_HOST", "npipe:////./pipe/x"),
        &["run", "--config", text(&path), "--docker"],
    );
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("npipe"), "{}", wrong.err);
    let wrong = run(&["--listen", "*:8080"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("--docker"), "{}", wrong.err);
    for (option, value, why) in [
        ("--listen", "a:80", "ADDR:PORT"),
        ("--listen", "*:80-90", "one port"),
        ("--listen", "*:80/tcp", "ADDR:PORT"),
        ("--user", "no such user", "UID:GID"),
        ("--user", "0", "root"),
    ] {
        let wrong = run(&["--docker", option, value]);
        assert_eq!(wrong.code, Some(2), "{option} {value}");
        assert!(wrong.err.contains(why), "{option} {value}: {}", wrong.err);
    }

    std::fs::write(&path, "[docker]\n\nhost = \"ssh://host\"\n").unwrap();
    for command in [&["check", text(&path)][..], &config] {
        let wrong = plimsoll(command);
        assert_eq!(wrong.code, Some(2));
        assert!(
            wrong.err.contains("lb.toml:3:8: error: docker.host: "),
            "{}",
            wrong.err
        );
    }
    std::fs::write(
        &path,
        "[docker]\nhost = \"tcp://10.0.0.5\"\ntls = \"/nowhere\"\n",
    )
    .unwrap();
    let good = plimsoll(&["check", text(&path)]);
    assert_eq!(good.code, Some(0), "{}", good.err);
    let socket = "[docker]\nhost = \"unix:///a\"\ntls = \"/nowhere\"\n";
    std::fs::write(&path, socket).unwrap();
    let wrong = plimsoll(&["check", text(&path)]);
    assert_eq!(wrong.code, Some(2));
    let said = wrong.err.contains("lb.toml:3:7: error: docker.tls: ");
    assert!(said, "{}", wrong.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_root_stays_who_it_is() {
    let dir = plimsoll_testkit::TempDir::new().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (admin, engine) = (dir.path().join("a.sock"), dir.path().join("engine.sock"));
    let run = [
        "run",
        "--docker",
        text(&engine),
        "--admin",
        text(&admin),
        "--user",
        "65531:65531",
    ];
    let other = [
        "--pdeathsig=KILL",
        "--reuid=65530",
        "--regid=65530",
        "--clear-groups",
        BINARY,
    ];
    let (program, before) = match rustix::process::geteuid().is_root() {
        true => ("setpriv", &other[..]),
        false => (BINARY, &[][..]),
    };
    let plan = DaemonPlan {
        args: before.iter().chain(&run).map(|s| (*s).to_owned()).collect(),
        ready: Ready::Spawned,
        ..DaemonPlan::new(program, "")
    };
    let daemon = Daemon::start(plan).await.unwrap();
    let status = ["status", "--admin", text(&admin)];
    until(&daemon, async || plimsoll(&status).code == Some(0)).await;
    let log = daemon.log();
    assert!(log.contains("only root becomes user 65531"), "{log}");
}

#[test]
fn configurations_in_the_manual_are_valid() {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/docker.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let dir = plimsoll_testkit::TempDir::new().unwrap();
    let path = dir.path().join("lb.toml");
    let blocks: Vec<&str> = manual.split("```toml\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        std::fs::write(&path, block.split("```").next().unwrap()).unwrap();
        let ended = plimsoll(&["check", "--strict", text(&path)]);
        assert_eq!(ended.code, Some(0), "{block}{}", ended.err);
    }
}
