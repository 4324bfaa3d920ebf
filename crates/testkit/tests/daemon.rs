//! Programs in the background: started, ready, told, ended.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::fs;
use std::time::Duration;

use plimsoll_testkit::{
    Daemon, DaemonPlan, HttpBackend, Namespace, Place, Port, Ready, TempDir, root_or_skip,
    wait_until_async,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

const BOUND: Duration = Duration::from_secs(10);

/// A shell that runs this script.
fn script(text: &str, ready: Ready) -> DaemonPlan {
    DaemonPlan {
        args: vec!["-c".to_owned(), text.to_owned()],
        ready,
        ..DaemonPlan::new("/bin/sh", "name = 1\n")
    }
}

async fn logged(daemon: &Daemon, words: &str) -> bool {
    wait_until_async(BOUND, || daemon.log().contains(words)).await
}

#[tokio::test]
async fn signals_and_configurations_arrive() {
    let text = "trap 'echo again; cat {config}' HUP; trap 'echo bye >&2; exit 3' TERM; echo up
        while :; do sleep 0.02; done";
    let mut daemon = Daemon::start(script(text, Ready::Spawned)).await.unwrap();
    assert!(logged(&daemon, "up").await);
    daemon.replace_config("name = 2\n").unwrap();
    daemon.hup().unwrap();
    assert!(logged(&daemon, "again\nname = 2").await);
    daemon.overwrite_config("name = 3\n").unwrap();
    daemon.hup().unwrap();
    assert!(logged(&daemon, "again\nname = 3").await);
    assert!(daemon.wait(Duration::from_millis(50)).await.is_err());
    daemon.term().unwrap();
    assert_eq!(daemon.wait(BOUND).await.unwrap().code(), Some(3));
    assert!(daemon.log().contains("bye"));
    assert!(daemon.term().is_err());
}

#[tokio::test]
async fn nothing_is_left_when_it_is_dropped() {
    let daemon = Daemon::start(script("exec sleep 1000", Ready::Spawned))
        .await
        .unwrap();
    let (process, dir) = (format!("/proc/{}", daemon.id()), daemon.dir().to_owned());
    assert!(fs::exists(&process).unwrap() && dir.exists());
    drop(daemon);
    assert!(!fs::exists(&process).unwrap() && !dir.exists());
}

#[tokio::test]
async fn the_program_is_killed_with_the_process_not_with_a_thread() {
    let start = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(Daemon::start(script("exec sleep 1000", Ready::Spawned)))
    };
    let mut daemon = std::thread::spawn(start).join().unwrap().unwrap();
    let ended = daemon.wait(Duration::from_millis(200)).await;
    assert!(ended.is_err(), "{ended:?}");
}

#[tokio::test]
async fn readiness_is_a_port_or_the_admin_socket() {
    let backend = HttpBackend::start("b1").unwrap();
    let ready = Ready::Port(Place::Here, backend.address());
    Daemon::start(script("exec sleep 1000", ready))
        .await
        .unwrap();

    // The program's admin socket is one of this test's, which it puts there after a while.
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 1000];
            let count = stream.read(&mut request).await.unwrap();
            let first = String::from_utf8_lossy(&request[..count]).into_owned();
            let first = first.lines().next().unwrap_or_default().to_owned();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", first.len());
            stream.write_all((head + &first).as_bytes()).await.unwrap();
        }
    });
    let text = format!(
        "sleep 0.1; ln -s {} {{admin}}; exec sleep 1000",
        socket.display()
    );
    let daemon = Daemon::start(script(&text, Ready::Admin)).await.unwrap();
    let answer = daemon.admin_get("/v1/x").await.unwrap();
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "GET /v1/x HTTP/1.1")
    );
}

#[tokio::test]
async fn a_failed_start_says_why() {
    let error = Daemon::start(script("echo no such thing >&2; exit 2", Ready::Admin)).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("no such thing") && error.contains("exit status: 2"),
        "{error}"
    );

    let port = Port::take().unwrap();
    let plan = DaemonPlan {
        bound: Duration::from_millis(200),
        ..script(
            "echo waiting; exec sleep 1000",
            Ready::Port(Place::Here, port.address()),
        )
    };
    let error = Daemon::start(plan).await.unwrap_err().to_string();
    assert!(
        error.contains("not ready") && error.contains("waiting"),
        "{error}"
    );

    // Somebody else's port does not make a dead program ready.
    let backend = HttpBackend::start("b1").unwrap();
    let ready = Ready::Port(Place::Here, backend.address());
    let plan = DaemonPlan::new("/nonexistent/program", "");
    let started = Daemon::start(DaemonPlan { ready, ..plan }).await;
    // Either it is dead when the port is looked at, or shortly after.
    match started {
        Ok(mut daemon) => assert!(!daemon.wait(BOUND).await.unwrap().success()),
        Err(error) => assert!(error.to_string().contains("ended"), "{error}"),
    }
}

#[tokio::test]
async fn it_runs_in_a_namespace() {
    if !root_or_skip("it_runs_in_a_namespace") {
        return;
    }
    let namespace = Namespace::new("daemon").unwrap();
    let inside = namespace
        .run(|| fs::read_link("/proc/thread-self/ns/net").unwrap())
        .unwrap();
    let plan = DaemonPlan {
        namespace: Some(namespace.name().to_owned()),
        ..script(
            "readlink /proc/self/ns/net; exec sleep 1000",
            Ready::Spawned,
        )
    };
    let mut daemon = Daemon::start(plan).await.unwrap();
    assert!(logged(&daemon, inside.to_str().unwrap()).await);
    // The signal reaches the program itself, not a wrapper.
    daemon.term().unwrap();
    assert!(!daemon.wait(BOUND).await.unwrap().success());
}
