//! `status`, `drain`, `ready`, `weight`, `explain` and `flows`.

use std::process::{Command, Stdio};
use std::time::Duration;

use plimsoll_testkit::{Client, ClientPlan, HttpBehaviour, Raw};
use serde_json::Value;

use crate::{BINARY, SOON, Stage, ended, plimsoll, text};

fn json(stage: &Stage, args: &[&str]) -> Value {
    let ended = stage.ask(args);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    serde_json::from_str(&ended.out).unwrap()
}

fn backend<'a>(status: &'a Value, addr: &str) -> &'a Value {
    let backends = status["services"][0]["backends"].as_array().unwrap();
    backends
        .iter()
        .find(|backend| backend["addr"] == addr)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_what_there_is() {
    let stage = Stage::new().await;
    let target = stage.port.address();
    Client::run(ClientPlan::http(target, "web.example"), 100)
        .await
        .assert_clean();
    let status = json(&stage, &["status", "--json"]);
    assert_eq!(status["ready"], true);
    assert_eq!(status["pid"], stage.daemon.id());
    let service = &status["services"][0];
    assert_eq!(service["total"], 100);
    assert_eq!(service["plane"], "proxy");
    assert_eq!(service["listens"][0]["listen"], format!("{target}/http"));
    for at in 0..2 {
        let backend = backend(&status, &stage.address(at));
        assert_eq!(backend["counters"]["requests"], 50);
        assert_eq!(backend["state"], "ready");
    }
    stage
        .until(async || {
            let status = json(&stage, &["status", "--json"]);
            status["services"][0]["rates"]["requests"]
                .as_f64()
                .is_some_and(|rate| rate > 1.0)
        })
        .await;

    let table = stage.ask(&["status"]).out;
    assert!(!table.contains('\u{1b}'), "no colour into a pipe: {table}");
    for part in [
        "service web  rr  plane proxy",
        "STATE",
        "ready",
        &stage.address(1),
        "100 in all",
    ] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let one = stage.ask(&["status", "web"]).out;
    assert!(
        one.contains("service web") && !one.contains("source file:"),
        "{one}"
    );
    let none = stage.ask(&["status", "wbe"]);
    assert_eq!(none.code, Some(1));
    assert!(none.err.contains("did you mean `web`?"), "{}", none.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_error() {
    let stage = Stage::new().await;
    let admin = stage.daemon.admin_path();
    for args in ["status", "status --watch", "flows", "status --json"] {
        let line = format!(
            "set -o pipefail; {BINARY} {args} --admin {} | true",
            text(&admin)
        );
        let mut command = Command::new("bash");
        command.args(["-c", &line]);
        let ended = ended(command);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{args}");
    }
    let line = format!(
        "set -o pipefail; {BINARY} status --admin {} | head -1",
        text(&admin)
    );
    let mut command = Command::new("bash");
    command.args(["-c", &line]);
    let ended = ended(command);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert!(ended.out.starts_with("plimsoll ") && ended.out.lines().count() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_shows_it_again_and_again() {
    let stage = Stage::new().await;
    let admin = stage.daemon.admin_path();
    let mut child = Command::new(BINARY)
        .args(["status", "--watch", "--admin", text(&admin)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let heads = lines
        .by_ref()
        .filter(|line| line.as_ref().unwrap().starts_with("plimsoll "));
    assert_eq!(heads.take(2).count(), 2);
    drop(lines);
    // It ends by itself, now that nobody reads.
    let gone = plimsoll_testkit::wait_until(SOON, || child.try_wait().unwrap().is_some());
    if !gone {
        child.kill().unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_ready_and_weight_lose_nothing() {
    let stage = Stage::new().await;
    let first = stage.address(0);
    let client = Client::start(ClientPlan::http(stage.port.address(), "web.example"));
    assert!(client.more(50, SOON).await);
    let drained = stage.ask(&["drain", "web", &first, "--wait"]);
    assert_eq!(drained.code, Some(0), "{}", drained.err);
    assert!(drained.out.contains("nothing in flight"), "{}", drained.out);
    let status = json(&stage, &["status", "--json"]);
    assert_eq!(backend(&status, &first)["state"], "draining");
    assert_eq!(backend(&status, &first)["reason"], "drained by an admin");
    let served = client.answered_by("a");
    let before = client.answered();
    assert!(client.more(before + 100, SOON).await);
    assert_eq!(client.answered_by("a"), served, "it gets nothing new");

    let ready = stage.ask(&["ready", "web", &first]);
    assert!(ready.out.contains("is ready"), "{ready:?}");
    stage
        .until(async || client.answered_by("a") > served + 10)
        .await;

    let weighed = stage.ask(&["weight", "web", &first, "7"]);
    assert!(weighed.out.contains("has weight 7"), "{weighed:?}");
    let status = json(&stage, &["status", "--json"]);
    assert_eq!(backend(&status, &first)["weight"], 7);
    assert_eq!(backend(&status, &first)["weight_configured"], 1);
    let auto = stage.ask(&["weight", "web", &first, "auto"]);
    assert!(auto.out.contains("has weight 1"), "{auto:?}");
    client.stop().await.assert_clean();
    let log = stage.daemon.log();
    assert_eq!(log.matches("backend is draining").count(), 1, "{log}");
    assert_eq!(log.matches("backend is ready").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_drain_is_bounded() {
    let stage = Stage::new().await;
    for backend in &stage.backends {
        backend.behave(HttpBehaviour::slow(Duration::from_secs(60)));
    }
    let mut raw = Raw::connect(stage.port.address()).await.unwrap();
    raw.send("GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .await
        .unwrap();
    let flows = async || json(&stage, &["flows", "--service", "web", "--json"]);
    stage
        .until(async || flows().await[0]["phase"] == "request")
        .await;
    let busy = flows().await[0]["backend"].as_str().unwrap().to_owned();
    let table = stage.ask(&["flows", "--backend", &busy]);
    assert!(
        table.out.contains("CLIENT") && table.out.contains(&busy),
        "{table:?}"
    );
    let ended = stage.ask(&["drain", "web", &busy, "--wait", "--timeout", "200ms"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("still has 1 in flight after 200ms"),
        "{}",
        ended.err
    );
    let status = json(&stage, &["status", "--json"]);
    assert_eq!(
        backend(&status, &busy)["state"],
        "draining",
        "it stays drained"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_what_is_known() {
    let stage = Stage::new().await;
    let ended = stage.ask(&["drain", "wbe", "x"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("no service `wbe`: did you mean `web`?"),
        "{}",
        ended.err
    );
    let ended = stage.ask(&["ready", "web", "10.9.9.9:1"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("10.9.9.9:1") && ended.err.contains(&stage.address(0)),
        "{ended:?}"
    );
    let ended = plimsoll(&["status", "--admin", "/nonexistent/admin.sock"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("plimsoll run"), "{}", ended.err);
    let ended = stage.ask(&["explain", "nobody", "127.0.0.1:80"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("client"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_where_and_why() {
    let stage = Stage::new().await;
    let to = stage.port.address().to_string();
    let args = [
        "explain",
        "192.0.2.7",
        &to,
        "--host",
        "web.example",
        "--path",
        "/x",
    ];
    let ended = stage.ask(&args);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended.out.contains("service web") || ended.out.contains("service `web`"),
        "{}",
        ended.out
    );
    let mut args = args.to_vec();
    args.push("--json");
    let report = json(&stage, &args);
    assert_eq!(report["service"], "web");
    assert_eq!(report["client"], "192.0.2.7:0");
    let ended = stage.ask(&["explain", "192.0.2.7", "127.0.0.1:1"]);
    assert!(
        ended.out.contains("nothing listens on 127.0.0.1:1"),
        "{}",
        ended.out
    );
}
