//! `run`: start, reload, and what goes wrong.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use plimsoll_testkit::{
    Client, ClientPlan, Daemon, DaemonPlan, HttpBackend, Port, Raw, Ready, wait_until_async,
};

use crate::{BINARY, SOON, Stage, plimsoll, text, web};

/// Waits until somebody listens there.
async fn open(address: SocketAddr) {
    let started = Instant::now();
    while Raw::connect(address).await.is_err() {
        assert!(started.elapsed() < SOON, "nobody listens on {address}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn balances_and_follows_the_file() {
    let stage = Stage::new().await;
    let target = stage.port.address();
    let report = Client::run(ClientPlan::http(target, "web.example"), 200).await;
    report.assert_clean();
    assert_eq!((report.of("a"), report.of("b")), (100, 100));

    // The file is watched: no signal.
    let client = Client::start(ClientPlan::http(target, "web.example"));
    let third = HttpBackend::start("c").unwrap();
    let all = [
        stage.backends[0].address(),
        stage.backends[1].address(),
        third.address(),
    ];
    stage.daemon.replace_config(&web(target, &all)).unwrap();
    stage.until(async || client.answered_by("c") > 10).await;
    stage
        .daemon
        .replace_config(&web(target, &all[2..]))
        .unwrap();
    let status = async || stage.daemon.admin_get("/v1/status").await.unwrap().text();
    let gone = all[0].to_string();
    stage.until(async || !status().await.contains(&gone)).await;
    let before = client.answered_by("c");
    stage
        .until(async || client.answered_by("c") > before + 50)
        .await;
    client.stop().await.assert_clean();
    let log = stage.daemon.log();
    assert!(
        log.contains("backends=\"+1 ~0 -0\"") && log.contains("backends=\"+0 ~0 -2\""),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_changes_nothing_and_is_shown() {
    let stage = Stage::new().await;
    let target = stage.port.address();
    let client = Client::start(ClientPlan::http(target, "web.example"));
    stage
        .daemon
        .overwrite_config("[[service]\nname = 5")
        .unwrap();
    stage.daemon.hup().unwrap();
    stage.until_logged("SIGHUP").await;
    stage.until_logged("cannot be used").await;
    let before = client.answered();
    assert!(client.more(before + 200, SOON).await);
    client.stop().await.assert_clean();
    let status = stage.ask(&["status"]);
    assert_eq!(status.code, Some(0), "{}", status.err);
    let shown = status.out.contains("stale for") && status.out.contains("config.toml:1:");
    assert!(
        shown,
        "the source, with the place of the error: {}",
        status.out
    );
    assert!(
        status.out.contains(&stage.address(0)),
        "what was known stays: {}",
        status.out
    );

    // The same text as before is as good as before.
    let good = web(target, &[stage.backends[0].address()]);
    stage.daemon.replace_config(&good).unwrap();
    stage.daemon.hup().unwrap();
    stage
        .until(async || !stage.ask(&["status"]).out.contains("stale"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_log_that_is_stuck_holds_nothing_up() {
    let (port, backend) = (Port::take().unwrap(), HttpBackend::start("a").unwrap());
    let config = web(port.address(), &[backend.address()]);
    let script = "mkfifo \"$1/err\" && exec 3<>\"$1/err\" 2>&3 && shift && exec \"$@\"";
    let words = ["sh", "-c", script, "sh", "{dir}", BINARY, "run"];
    let options = ["--config", "{config}", "--admin", "{admin}"];
    let plan = DaemonPlan {
        args: words[1..]
            .iter()
            .chain(&options)
            .map(|s| (*s).to_owned())
            .collect(),
        ..DaemonPlan::new(words[0], config)
    };
    // Nobody reads the FIFO that is its standard error.
    let mut daemon = Daemon::start(plan).await.unwrap();
    for _ in 0..2000 {
        let answer = daemon.admin("POST", "/v1/reload", "").await.unwrap();
        assert_eq!(answer.head.status().unwrap(), 202);
    }
    let report = Client::run(ClientPlan::http(port.address(), "web.example"), 100).await;
    report.assert_clean();
    daemon.term().unwrap();
    assert_eq!(daemon.wait(SOON).await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_file_does_not_start() {
    let dir = plimsoll_testkit::TempDir::new().unwrap();
    let path = dir.path().join("lb.toml");
    std::fs::write(
        &path,
        "[[service]]\nname = \"x\"\nlisten = \"127.0.0.1:0/http\"\n",
    )
    .unwrap();
    let socket = dir.path().join("admin.sock");
    let ended = plimsoll(&["run", "--config", text(&path), "--admin", text(&socket)]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("lb.toml:3:10: error: "), "{}", ended.err);
    assert!(!socket.exists());
    let ended = plimsoll(&["run", "--config", "/nonexistent/lb.toml"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.err.contains("/nonexistent/lb.toml: cannot be read"),
        "{}",
        ended.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_listen_at_all_is_1_and_some_are_retried() {
    let (taken, free) = (Port::take().unwrap(), Port::take().unwrap());
    let squatter = std::net::TcpListener::bind(taken.address()).unwrap();
    let backend = HttpBackend::start("a").unwrap();
    let config = web(taken.address(), &[backend.address()]);
    let plan = DaemonPlan {
        ready: Ready::Spawned,
        ..DaemonPlan::new(BINARY, config.clone())
    };
    let mut daemon = Daemon::start(plan).await.unwrap();
    let status = daemon.wait(SOON).await.unwrap();
    assert_eq!(status.code(), Some(1));
    let log = daemon.log();
    assert!(
        log.contains("address in use") && log.contains(&taken.address().to_string()),
        "{log}"
    );

    // With another that can be had, it goes on, says so, and takes the first when it is free.
    let second = web(free.address(), &[backend.address()]).replace("\"web\"", "\"web2\"");
    let daemon = Daemon::start(DaemonPlan::new(BINARY, config + &second))
        .await
        .unwrap();
    open(free.address()).await;
    Client::run(ClientPlan::http(free.address(), "x"), 10)
        .await
        .assert_clean();
    let answer = daemon.admin_get("/readyz").await.unwrap();
    assert_eq!(answer.head.status().unwrap(), 503);
    assert!(
        answer.text().contains("address in use"),
        "{}",
        answer.text()
    );
    drop(squatter);
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
        assert!(started.elapsed() < 2 * SOON, "{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Client::run(ClientPlan::http(taken.address(), "x"), 10)
        .await
        .assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_plane_carries_is_put_aside_and_the_rest_runs() {
    let port = Port::take().unwrap();
    let backend = HttpBackend::start("a").unwrap();
    let good = web(port.address(), &[backend.address()]);
    let bad = "[[service]]\nname = \"dns\"\nlisten = \"127.0.0.1:53/sctp\"\nbackends = []\n";
    let plan = DaemonPlan {
        ready: Ready::Port(plimsoll_testkit::Place::Here, port.address()),
        ..DaemonPlan::new(BINARY, good + bad)
    };
    let daemon = Daemon::start(plan).await.unwrap();
    Client::run(ClientPlan::http(port.address(), "x"), 10)
        .await
        .assert_clean();
    // Lines are written when there is time.
    let aside = || daemon.log().contains("service `dns` is put aside: ");
    assert!(wait_until_async(SOON, aside).await, "{}", daemon.log());
    let status = plimsoll(&["status", "--admin", text(&daemon.admin_path())]);
    assert!(
        status.out.contains("put aside") && status.out.contains("SCTP"),
        "{}",
        status.out
    );
    let aside = plimsoll(&["status", "dns", "--admin", text(&daemon.admin_path())]);
    assert_eq!(aside.code, Some(1));
    assert!(
        aside.err.contains("service `dns` is put aside: "),
        "{}",
        aside.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_socket_is_private_and_exclusive() {
    let stage = Stage::new().await;
    let socket = stage.daemon.admin_path();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let config = stage.daemon.config_path();
    let ended = plimsoll(&["run", "--config", text(&config), "--admin", text(&socket)]);
    assert_eq!(ended.code, Some(1));
    let pid = stage.daemon.id().to_string();
    assert!(
        ended.err.contains(&pid) && ended.err.contains(text(&socket)),
        "{}",
        ended.err
    );
    assert!(socket.exists(), "the socket of the living one stays");

    // A dead one's socket is in nobody's way.
    stage.daemon.kill().unwrap();
    let mut stage = stage;
    stage.daemon.wait(SOON).await.unwrap();
    assert!(socket.exists());
    let plan = DaemonPlan {
        args: ["run", "--config", "{config}", "--admin", text(&socket)]
            .map(str::to_owned)
            .into(),
        ready: Ready::Port(plimsoll_testkit::Place::Here, stage.port.address()),
        ..DaemonPlan::new(
            BINARY,
            web(stage.port.address(), &[stage.backends[0].address()]),
        )
    };
    let mut second = Daemon::start(plan).await.unwrap();
    assert_eq!(
        plimsoll(&["status", "--admin", text(&socket)]).code,
        Some(0)
    );
    second.term().unwrap();
    assert_eq!(second.wait(SOON).await.unwrap().code(), Some(0));
    assert!(!socket.exists(), "removed at the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_file_are_used() {
    let metrics = Port::take().unwrap();
    let address = metrics.address();
    let stage = Stage::with(&format!("log = \"json\"\nmetrics = \"{address}\"")).await;
    let line = stage.daemon.log().lines().next().unwrap().to_owned();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["level"], &line["workers"]),
        (&"INFO".into(), &2.into())
    );
    let mut raw = Raw::connect(address).await.unwrap();
    let answer = raw.get("metrics", "/metrics", SOON).await.unwrap();
    assert_eq!(answer.head.status().unwrap(), 200);
    assert!(
        answer.text().contains("plimsoll_workers 2\n"),
        "{}",
        answer.text()
    );
    let mut raw = Raw::connect(address).await.unwrap();
    let answer = raw.get("metrics", "/v1/status", SOON).await.unwrap();
    assert_eq!(
        answer.head.status().unwrap(),
        404,
        "TCP shows metrics and health only"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_daemon_is_said_to_wait_for_the_next_start() {
    let stage = Stage::with("drain = \"7s\"").await;
    let config = std::fs::read_to_string(stage.daemon.config_path()).unwrap();
    let more = config.replace("\"7s\"", "\"8s\"");
    stage.daemon.replace_config(&more).unwrap();
    stage.until_logged("[daemon] has changed").await;
    // Other changes are no news of it.
    stage
        .daemon
        .replace_config(&format!("{more}# more\n"))
        .unwrap();
    stage.daemon.hup().unwrap();
    stage.daemon.replace_config(&config).unwrap();
    stage.until_logged("as it was at the start").await;
    let log = stage.daemon.log();
    assert_eq!(log.matches("[daemon] has changed").count(), 1, "{log}");
    let packets = format!("{config}\n[ebpf]\nflows = 10_000\n");
    stage.daemon.replace_config(&packets).unwrap();
    stage.until_logged("[ebpf] has changed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn warns_of_an_engine_that_may_be_anybody() {
    let dir = plimsoll_testkit::TempDir::new().unwrap();
    let port = Port::take().unwrap();
    let engine = format!("tcp://{}", port.address());
    let certs = ("DOCKER_CERT_PATH".to_owned(), text(dir.path()).to_owned());
    let verify = ("DOCKER_TLS_VERIFY".to_owned(), "1".to_owned());
    let warning = "certificate is not verified";
    for (env, warned) in [(vec![certs.clone()], true), (vec![certs, verify], false)] {
        let admin = dir.path().join("a.sock");
        let args = ["run", "--docker", &engine, "--admin", text(&admin)];
        let plan = DaemonPlan {
            args: args.map(str::to_owned).into(),
            env,
            ready: Ready::Spawned,
            ..DaemonPlan::new(BINARY, "")
        };
        let daemon = Daemon::start(plan).await.unwrap();
        let started = Instant::now();
        while !daemon.log().contains("plimsoll starts") {
            assert!(started.elapsed() < SOON, "{}", daemon.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(daemon.log().contains(warning), warned, "{}", daemon.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_their_files() {
    let stage = Stage::new().await;
    let target = stage.port.address();
    let page = stage.daemon.config_path().with_file_name("lost.html");
    std::fs::write(&page, "<p>{{status}} one").unwrap();
    let config = format!(
        "{}[[route]]\nhost = \"web.example\"\nservice = \"web\"\n\
         [error-pages]\n404 = \"lost.html\"\n",
        web(target, &[stage.backends[0].address()]),
    );
    stage.daemon.replace_config(&config).unwrap();
    let lost = async || {
        let mut client = Raw::connect(target).await.unwrap();
        client.get("other.example", "/", SOON).await.unwrap()
    };
    stage
        .until(async || lost().await.text() == "<p>404 one")
        .await;
    let answer = lost().await;
    assert_eq!(answer.status, 404);
    let html = Some("text/html; charset=utf-8");
    assert_eq!(answer.head.get("content-type"), html);
    std::fs::write(&page, "two").unwrap();
    stage.until(async || lost().await.text() == "two").await;

    // Without the file nothing changes, and it is said where it is missed.
    std::fs::remove_file(&page).unwrap();
    stage.daemon.hup().unwrap();
    stage.until_logged("lost.html: cannot be read").await;
    assert_eq!(lost().await.text(), "two");
    let status = stage.ask(&["status"]);
    assert!(status.out.contains("error-pages.404"), "{}", status.out);
    let config = stage.daemon.config_path();
    let ended = plimsoll(&["check", text(&config)]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.err.contains(": error: error-pages.404: "),
        "{}",
        ended.err
    );
}
