//! The socket that speaks as HAProxy's: its commands, and those who are neither polite nor patient.

use std::path::PathBuf;
use std::time::Duration;

use plimsoll_admin::haproxy::serve_stats;
use plimsoll_admin::{Access, Report, Socket};
use plimsoll_control::Command;
use plimsoll_testkit::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::stats::service_of;
use crate::{Did, SOON, answer, report};

/// A socket with a control that answers at once.
struct Stats {
    _dir: TempDir,
    path: PathBuf,
    did: mpsc::UnboundedReceiver<Did>,
}

impl Stats {
    fn start() -> Self {
        Self::showing(report())
    }

    fn showing(report: Report) -> Self {
        let (asks, mut inbox) = mpsc::channel(16);
        let (tell, did) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(ask) = inbox.recv().await {
                match ask {
                    plimsoll_admin::Ask::Status(reply) => drop(reply.send(report.clone())),
                    ask => answer(ask, true, &tell),
                }
            }
        });
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("stats.sock");
        let mut socket = Socket::bind(&path, Access::default()).unwrap();
        let listener = UnixListener::from_std(socket.take().unwrap()).unwrap();
        tokio::spawn(async move {
            let _kept = socket;
            serve_stats(listener, asks).await;
        });
        Self {
            _dir: dir,
            path,
            did,
        }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.unwrap()
    }

    /// Sends this, nothing more, and reads to the end.
    async fn ask(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        stream.shutdown().await.unwrap();
        to_end(&mut stream).await
    }
}

async fn to_end(stream: &mut UnixStream) -> String {
    let mut text = String::new();
    timeout(SOON, stream.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    text
}

/// Reads until the prompt.
async fn to_prompt(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\n> ") {
        // One at a time: the next answer may follow at once.
        let byte = timeout(SOON, stream.read_u8()).await.unwrap();
        bytes.push(byte.expect("closed before the prompt"));
    }
    bytes.truncate(bytes.len() - 3);
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn one_line_is_answered_and_the_connection_ends() {
    let stats = Stats::start();
    let mut stream = stats.connect().await;
    stream.write_all(b"show version\n").await.unwrap();
    assert_eq!(to_end(&mut stream).await, "1.2.3\n\n");
    assert_eq!(
        stats.ask("show version\r\nshow version\n").await,
        "1.2.3\n\n1.2.3\n\n"
    );
    assert_eq!(
        stats.ask("show backend;quit;show version\n").await,
        "# name\napi\nweb\n\n"
    );
    let info = stats.ask("show info\n").await;
    for line in [
        "Name: plimsoll\n",
        "Version: 1.2.3\n",
        "Pid: 42\n",
        "Uptime: 0d 0h00m01s\n",
        "CurrConns: 7\n",
        "CumConns: 9\n",
        "CumReq: 16\n",
        "Nbthread: 2\n",
        "Stopping: 0\n",
        "Listeners: 1\n",
    ] {
        assert!(info.contains(line), "{line} in {info}");
    }
    let state = stats.ask("show servers state web\n").await;
    let lines: Vec<&str> = state.lines().collect();
    assert_eq!(lines[0], "1");
    assert_eq!(
        lines[2],
        "2 web 1 10.0.0.1:80 10.0.0.1 2 0 3 0 0 1 0 0 0 0 0 0 - 80 - 0 0 - - 0"
    );
    assert!(
        lines[3].starts_with("2 web 2 unix:-run-a_b_c_d.sock - 0 0 3 "),
        "{state}"
    );
    let columns = lines[1].trim_start_matches("# ").split(' ').count();
    assert!(
        lines[2..4]
            .iter()
            .all(|line| line.split(' ').count() == columns),
        "{state}"
    );
    assert_eq!(
        stats.ask("show servers state nope\n").await,
        "Can't find backend.\n\n"
    );
}

#[tokio::test]
async fn commands_reach_control_and_mistakes_do_not() {
    let mut stats = Stats::start();
    let web = "10.0.0.1:80";
    for (line, command) in [
        ("disable server web/10.0.0.1:80", Command::Maintain),
        ("enable server #2/#1", Command::Ready),
        ("set server web/#1 state drain", Command::Drain),
        ("set server web/10.0.0.1:80 state maint", Command::Maintain),
        ("set server web/10.0.0.1:80 state ready", Command::Ready),
        ("set weight web/10.0.0.1:80 7", Command::Weight(Some(7))),
        (
            "set server web/10.0.0.1:80 weight 100%",
            Command::Weight(None),
        ),
        (
            "set server web/10.0.0.1:80 weight 50%",
            Command::Weight(Some(0)),
        ),
    ] {
        assert_eq!(stats.ask(format!("{line}\n")).await, "\n", "{line}");
        let did = stats.did.recv().await.unwrap();
        assert_eq!(
            did,
            Did::Command("web".into(), web.into(), command),
            "{line}"
        );
    }
    assert_eq!(
        stats.ask("get weight web/10.0.0.1:80\n").await,
        "3 (initial 0)\n\n"
    );
    for (line, right) in [
        (
            "disable server wbe/x",
            "No such backend. There are: api, web.\n\n",
        ),
        (
            "disable server web/x",
            "No such server. web has: 10.0.0.1:80, unix:-run-a_b_c_d.sock.\n\n",
        ),
        ("disable server web", "Require 'backend/server'.\n\n"),
        ("show stat nope 4 1", "No such proxy.\n\n"),
    ] {
        assert_eq!(stats.ask(format!("{line}\n")).await, right);
    }
    // What was not finished may not have been meant.
    assert_eq!(stats.ask("disable server web/10.0.0.1:80").await, "");
    assert!(stats.did.try_recv().is_err());
}

#[tokio::test]
async fn the_prompt_stays_until_quit() {
    let stats = Stats::start();
    let mut stream = stats.connect().await;
    stream.write_all(b"prompt\n").await.unwrap();
    assert_eq!(to_prompt(&mut stream).await, "");
    stream.write_all(b"set timeout cli 60\n").await.unwrap();
    assert_eq!(to_prompt(&mut stream).await, "");
    // In pieces, as a slow hand types.
    for part in ["show ", "ver", "sion\n"] {
        stream.write_all(part.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(to_prompt(&mut stream).await, "1.2.3\n");
    stream.write_all(b"nonsense\n").await.unwrap();
    assert!(
        to_prompt(&mut stream)
            .await
            .starts_with("Unknown command.\n")
    );
    stream
        .write_all(b"show version;show backend\n")
        .await
        .unwrap();
    assert_eq!(to_prompt(&mut stream).await, "1.2.3\n");
    assert_eq!(to_prompt(&mut stream).await, "# name\napi\nweb\n");
    stream.write_all(b"quit\n").await.unwrap();
    assert_eq!(to_end(&mut stream).await, "");
}

#[tokio::test]
async fn garbage_and_long_lines_end_with_a_reason() {
    let stats = Stats::start();
    assert_eq!(
        stats.ask(b"\xff\xfe\x00\n").await,
        "The line is not UTF-8.\n\n"
    );
    assert!(
        stats
            .ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .starts_with("Unknown command.\n")
    );
    let long = "x".repeat(20_000);
    let mut stream = stats.connect().await;
    stream.write_all(long.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    // What was not read of the line ends the connection by a reset, behind the answer.
    let _ = timeout(SOON, stream.read_to_end(&mut text)).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text, "The line is longer than 16384 bytes.\n\n");
    let nearly = format!("{}\n", "x".repeat(16_000));
    assert!(stats.ask(nearly).await.starts_with("Unknown command.\n"));
    assert_eq!(stats.ask("").await, "");
}

#[tokio::test]
async fn who_waits_longest_gives_way_and_others_are_answered() {
    let stats = Stats::start();
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(stats.connect().await);
    }
    assert_eq!(stats.ask("show version\n").await, "1.2.3\n\n");
    assert_eq!(to_end(&mut silent[0]).await, "", "the first has given way");
    let last = silent.last_mut().unwrap();
    last.write_all(b"show version\n").await.unwrap();
    assert_eq!(to_end(last).await, "1.2.3\n\n");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_closed_after_a_while() {
    let stats = Stats::start();
    let mut stream = stats.connect().await;
    stream.write_all(b"show vers").await.unwrap();
    let started = tokio::time::Instant::now();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), started.elapsed().as_secs()), ("", 10));
    let mut stream = stats.connect().await;
    stream
        .write_all(b"prompt\nset timeout cli 60\n")
        .await
        .unwrap();
    let started = tokio::time::Instant::now();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(
        (text.as_str(), started.elapsed().as_secs()),
        ("\n> \n> ", 60)
    );
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody() {
    let backends: Vec<(String, String)> = (0..2000u16)
        .map(|n| (format!("10.0.{}.{}:80", n / 250, n % 250), String::new()))
        .collect();
    let stats = Stats::showing(service_of(&backends));
    // More than the places for answers that are being read.
    let mut lazy = Vec::new();
    for _ in 0..3 {
        let mut stream = stats.connect().await;
        stream.write_all(b"show stat\n").await.unwrap();
        // It has begun to be answered, so it has a place.
        let mut first = [0; 1];
        timeout(SOON, stream.read_exact(&mut first))
            .await
            .unwrap()
            .unwrap();
        lazy.push(stream);
    }
    let text = stats.ask("show stat\n").await;
    assert_eq!(text.lines().count(), 1 + 2000 + 1 + 1);
    for stream in &mut lazy {
        assert_eq!(to_end(stream).await.lines().count(), 1 + 2000 + 1 + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn who_never_reads_is_given_up() {
    let backends: Vec<(String, String)> = (0..8000u16)
        .map(|n| (format!("10.0.{}.{}:80", n / 250, n % 250), String::new()))
        .collect();
    let stats = Stats::showing(service_of(&backends));
    let mut lazy = Vec::new();
    for _ in 0..8 {
        let mut stream = stats.connect().await;
        stream.write_all(b"show stat\n").await.unwrap();
        lazy.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(stats.ask("show version\n").await, "\n\n");
}
