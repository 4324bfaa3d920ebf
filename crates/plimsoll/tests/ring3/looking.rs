//! `plimsoll docker-proxy` between the daemon and the engine.

use std::path::Path;
use std::process::Command;

use plimsoll_testkit::{Client, Daemon, DaemonPlan, Ready, finish};
use serde_json::Value;

use crate::dock::{Dock, SOON};
use crate::lb::{BINARY, text};

/// Asks a socket with curl: the status and the body.
fn curl(socket: &Path, args: &[&str]) -> (String, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "10", "-w", "\n%{http_code}"]);
    command.arg("--unix-socket").arg(socket).args(args);
    let output = finish(command, SOON).unwrap();
    let out = text(&output.stdout);
    let (body, status) = out.rsplit_once('\n').unwrap_or_default();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        text(&output.stderr)
    );
    (status.to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_what_is_needed_and_nothing_else() {
    let Some(dock) = Dock::new("it_shows_what_is_needed_and_nothing_else") else {
        return;
    };
    let mut plan = DaemonPlan::new(BINARY, "");
    let host = dock.0.host();
    let args = [
        "docker-proxy",
        "--listen",
        "{dir}/look.sock",
        "--engine",
        &host,
    ];
    plan.args = args.map(str::to_owned).into();
    plan.ready = Ready::Spawned;
    let proxy = Daemon::start(plan).await.unwrap();
    let socket = proxy.dir().join("look.sock");
    dock.until("it listens", || socket.exists()).await;

    let secret = "--env PASSWORD=swordfish --env VIRTUAL_HOST=web.example";
    dock.start("web", secret, "");
    let mut plan = dock.plan(&[]);
    plan.env = vec![(
        "DOCKER_HOST".to_owned(),
        format!("unix://{}", socket.display()),
    )];
    let lb = dock.run_plan(plan).await;
    dock.until_answer("web.example", 200, &[502, 503]).await;
    let load = Client::start(dock.load("web.example"));
    // Events come through, too. It serves on when told to stop, since a POST that it leaves unread
    // could not be sent again.
    dock.start("more", "--env VIRTUAL_HOST=web.example", "--linger 300");
    lb.until_state("web.example", "more", "ready").await;
    dock.until("it serves", || load.answered_by("more") > 0)
        .await;
    dock.docker("stop more");
    lb.until("it is gone", async || {
        lb.backend("web.example", "more").await.is_null()
    })
    .await;
    load.stop().await.assert_clean();

    let shown = [
        "http://e/containers/web/json",
        "http://e/v1.41/containers/web/json",
    ];
    for url in shown {
        let (status, body) = curl(&socket, &[url]);
        assert_eq!(status, "200", "{body}");
        assert!(!body.contains("swordfish"), "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            body["Config"]["Env"],
            serde_json::json!(["VIRTUAL_HOST=web.example"])
        );
    }
    let refused: [&[&str]; 9] = [
        &["http://e/containers/web/archive?path=/"],
        &["http://e/containers/web/logs?stdout=1"],
        &["http://e/containers/web/export"],
        &["http://e/v1.41/containers/web/archive?path=/"],
        &[
            "http://e/containers/web/json/../logs?stdout=1",
            "--path-as-is",
        ],
        &["http://e/images/json"],
        &["-XPOST", "http://e/containers/web/stop"],
        &["-XDELETE", "http://e/containers/web?force=1"],
        &["-XPOST", "-d{}", "http://e/containers/web/exec"],
    ];
    for args in refused {
        let (status, body) = curl(&socket, args);
        assert!(
            matches!(status.as_str(), "403" | "404" | "405"),
            "{args:?}: {status} {body}"
        );
        assert!(!body.contains("swordfish"), "{args:?}: {body}");
    }
    let still = dock.0.api_get("/containers/web/json");
    assert_eq!(still["State"]["Running"], true);
    drop(proxy);
    dock.close(lb);
}
