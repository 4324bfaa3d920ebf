//! `docker-proxy` as a process; what it passes on is tested in its own room.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use plimsoll_testkit::{Daemon, DaemonPlan, Ready, TempDir, wait_until};

use crate::{BINARY, SOON, plimsoll, text};

async fn proxy(listen: &Path, engine: &Path, more: &[&str]) -> Daemon {
    let engine = format!("unix://{}", engine.display());
    let words = [
        "docker-proxy",
        "--listen",
        text(listen),
        "--engine",
        &engine,
    ];
    let plan = DaemonPlan {
        args: words.iter().chain(more).map(|s| (*s).to_owned()).collect(),
        ready: Ready::Spawned,
        ..DaemonPlan::new(BINARY, String::new())
    };
    let daemon = Daemon::start(plan).await.unwrap();
    let up = wait_until(SOON, || UnixStream::connect(listen).is_ok());
    assert!(up, "{}", daemon.log());
    daemon
}

fn get(socket: &Path, target: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// An engine that answers every request with this, until it is asked for `count` of them.
fn engine(path: PathBuf, answer: &'static str, count: usize) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for _ in 0..count {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let length = answer.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all((head + answer).as_bytes()).unwrap();
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_its_list_on_a_socket_of_the_given_mode() {
    let dir = TempDir::new().unwrap();
    let (listen, behind) = (
        dir.path().join("proxy.sock"),
        dir.path().join("engine.sock"),
    );
    let answer = r#"{"Id":"a","Config":{"Env":["PASSWORD=x"]}}"#;
    let asked = engine(behind.clone(), answer, 2);
    // What a dead one has left is in nobody's way.
    drop(UnixListener::bind(&listen).unwrap());
    let group = rustix::process::getgid().as_raw().to_string();
    let mut daemon = proxy(&listen, &behind, &["--mode", "0666", "--group", &group]).await;
    assert_eq!(std::fs::metadata(&listen).unwrap().mode() & 0o777, 0o666);
    let got = get(&listen, "/containers/a/json");
    assert!(
        got.starts_with("HTTP/1.1 200 ") && got.contains("\"Id\":\"a\""),
        "{got}"
    );
    assert!(!got.contains("PASSWORD"), "{got}");
    let got = get(&listen, "/containers/a/logs");
    assert!(
        got.starts_with("HTTP/1.1 403 ") && got.contains("{\"message\":"),
        "{got}"
    );

    // A living one is not taken over.
    let host = format!("unix://{}", behind.display());
    let ended = plimsoll(&["docker-proxy", "--listen", text(&listen), "--engine", &host]);
    assert_eq!(ended.code, Some(1));
    let named = ended.err.contains(&daemon.id().to_string()) && ended.err.contains("--listen");
    assert!(named, "{}", ended.err);
    assert!(get(&listen, "/_ping").starts_with("HTTP/1.1 200 "));
    asked.join().unwrap();

    // The engine is gone now.
    let got = get(&listen, "/version");
    assert!(
        got.starts_with("HTTP/1.1 502 ") && got.contains("engine.sock"),
        "{got}"
    );
    daemon.term().unwrap();
    assert_eq!(daemon.wait(SOON).await.unwrap().code(), Some(0));
    assert!(!listen.exists(), "removed at the end");
    assert!(
        daemon.log().contains("cannot be reached"),
        "{}",
        daemon.log()
    );
}

#[test]
fn wrong_usage_is_2() {
    for (args, why) in [
        (
            &["--engine", "tcp://10.0.0.1:2375"][..],
            "no socket of this host",
        ),
        (&["--engine", "ssh://host"], "ssh"),
        (&["--mode", "4777"], "octal"),
        (&["--mode", "rw"], "octal"),
        (&["--group", "no such group"], "no such group"),
    ] {
        let mut all = vec!["docker-proxy", "--listen", "/nonexistent/x.sock"];
        all.extend(args);
        let ended = plimsoll(&all);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.err);
        assert!(ended.err.contains(why), "{args:?}: {}", ended.err);
    }
    for (listen, why) in [
        ("127.0.0.1:2375", "a socket only, on purpose"),
        ("tcp://127.0.0.1:2375", "a socket only, on purpose"),
        (":2375", "a socket only, on purpose"),
        ("unix://", "expected a path"),
        ("unix:///nonexistent/../nonexistent/e.sock", "engine's own"),
    ] {
        let engine = "unix:///nonexistent/../nonexistent/e.sock";
        let ended = plimsoll(&["docker-proxy", "--listen", listen, "--engine", engine]);
        assert_eq!(ended.code, Some(2), "{listen}: {}", ended.err);
        assert!(ended.err.contains(why), "{listen}: {}", ended.err);
    }
    let ended = plimsoll(&["docker-proxy", "--listen", "unix:///nonexistent/x.sock"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("/nonexistent/x.sock") && ended.err.contains("--listen"),
        "{}",
        ended.err
    );
}
