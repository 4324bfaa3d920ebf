//! The socket that answers HAProxy's commands.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use plimsoll_testkit::{Client, ClientPlan, TempDir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::{SOON, Stage, plimsoll, text};

/// What is answered to this line.
async fn ask(path: &Path, line: &str) -> String {
    let exchange = async {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    timeout(SOON, exchange).await.unwrap()
}

/// The status of each server in `show stat`.
async fn states(path: &Path) -> Vec<String> {
    let answer = ask(path, "show stat -1 4 -1").await;
    let lines = answer
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty());
    lines
        .map(|line| line.split(',').nth(17).unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_there_is_done_and_shown_everywhere() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("stats.sock");
    let stage = Stage::with(&format!("stats = \"{}\"", path.display())).await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(states(&path).await, ["no check", "no check"]);

    let target = stage.port.address();
    let client = Client::start(ClientPlan::http(target, "web.example"));
    stage.until(async || client.answered_by("a") > 10).await;
    let a = stage.backends[0].address();
    assert_eq!(ask(&path, &format!("disable server web/{a}")).await, "\n");
    assert!(states(&path).await.contains(&"MAINT".to_owned()));
    let status = stage.daemon.admin_get("/v1/status").await.unwrap().text();
    assert!(status.contains("\"halted\":\"maintenance\""), "{status}");
    // Those in flight may end there, and none comes after them.
    let in_flight = async || {
        let stat = ask(&path, "show stat -1 4 -1").await;
        let line = stat.lines().find(|line| line.contains("MAINT")).unwrap();
        line.split(',').nth(4).unwrap().to_owned()
    };
    stage.until(async || in_flight().await == "0").await;
    let more_of_b = async || {
        let others = client.answered_by("b");
        stage
            .until(async || client.answered_by("b") > others + 50)
            .await;
    };
    more_of_b().await;
    let before = stage.backends[0].stats().requests;
    more_of_b().await;
    let after = stage.backends[0].stats().requests;
    assert_eq!(after, before, "it still gets requests");
    assert_eq!(ask(&path, &format!("enable server web/{a}")).await, "\n");
    let before = client.answered_by("a");
    stage
        .until(async || client.answered_by("a") > before + 10)
        .await;
    client.stop().await.assert_clean();

    assert_eq!(ask(&path, &format!("set weight web/{a} 7")).await, "\n");
    let weight = ask(&path, &format!("get weight web/{a}")).await;
    assert_eq!(weight, "7 (initial 1)\n\n");
    assert_eq!(ask(&path, &format!("set weight web/{a} 100%")).await, "\n");
    let weight = ask(&path, &format!("get weight web/{a}")).await;
    assert_eq!(weight, "1 (initial 1)\n\n");
    let refused = ask(&path, &format!("set weight web/{a} 2147483648")).await;
    assert!(refused.contains("above the greatest"), "{refused}");

    drop(stage);
    assert!(ask_none(&path).await, "somebody still listens on {path:?}");
}

async fn ask_none(path: &Path) -> bool {
    UnixStream::connect(path).await.is_err()
}

#[test]
fn it_cannot_be_where_the_admin_api_is() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("one.sock");
    let config = dir.path().join("plimsoll.toml");
    std::fs::write(&config, "").unwrap();
    let (config, path) = (text(&config), text(&path));
    let ended = plimsoll(&["run", "--config", config, "--admin", path, "--stats", path]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .err
            .contains("the admin API listens there: choose another socket with --stats"),
        "{}",
        ended.err
    );
}
