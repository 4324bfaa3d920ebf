//! hatop, which was written for HAProxy: first with that, then with plimsoll, the same keys.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_testkit::{Client, ClientPlan, HttpBackend, TempDir};

use crate::lab::{HTTP, Lab, SOON};

/// hatop asks every second and gives up itself when an answer takes as long: it gets several goes.
const LONG: Duration = Duration::from_secs(60);

/// What the cursor has to go down by to the first server: a heading, the frontend, an empty line and
/// another heading.
const TO_FIRST: &[u8] = b"\x1bOB\x1bOB\x1bOB\x1bOB";
const F4: &[u8] = b"\x1bOS";
const F7: &[u8] = b"\x1b[18~";
const F9: &[u8] = b"\x1b[20~";
const F10: &[u8] = b"\x1b[21~";

/// A process that does not outlive what has it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // A terminal goes with who holds it, and what runs there with that.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// hatop in a terminal of its own.
struct Hatop {
    child: Running,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Hatop {
    fn start(socket: &Path) -> Self {
        let run = format!(
            "stty rows 40 cols 150; exec hatop -s {} -i 1",
            socket.display()
        );
        let mut child = Command::new("script")
            .args(["-qfc", &run, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let drawn = screen.clone();
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(read @ 1..) = out.read(&mut part) {
                let mut drawn = drawn.lock().unwrap_or_else(PoisonError::into_inner);
                drawn.extend_from_slice(&part[..read]);
            }
        });
        let child = Running(child);
        Self { child, screen }
    }

    fn screen(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&screen).into_owned()
    }

    fn press(&mut self, keys: &[u8]) {
        // One that has given up is seen below.
        let _ = self.child.0.stdin.as_mut().unwrap().write_all(keys);
    }

    fn has_ended(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_some()
    }
}

/// What is answered to a line on this socket.
fn ask(socket: &Path, line: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A column of the line of this server.
fn stat(socket: &Path, server: &str, column: &str) -> String {
    let answer = ask(socket, "show stat");
    let mut lines = answer.lines();
    let header = lines.next().unwrap().trim_start_matches("# ").split(',');
    let at = header.into_iter().position(|name| name == column).unwrap();
    let line = lines.find(|line| line.split(',').nth(1) == Some(server));
    line.unwrap().split(',').nth(at).unwrap().to_owned()
}

/// Presses these keys on the first server until this holds, once in each hatop.
async fn press(socket: &Path, keys: &[u8], holds: impl Fn() -> bool) {
    let started = Instant::now();
    while started.elapsed() < LONG {
        let mut hatop = Hatop::start(socket);
        let begun = Instant::now();
        let mut pressed = false;
        while begun.elapsed() < 2 * SOON && !hatop.has_ended() {
            if !pressed && hatop.screen().contains("BACKEND") {
                hatop.press(&[TO_FIRST, keys].concat());
                pressed = true;
            }
            if pressed && holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    panic!("{keys:?} did not do it: {}", ask(socket, "show stat"));
}

/// Waits until hatop shows all of these words.
async fn shows(socket: &Path, words: &[&str]) {
    let started = Instant::now();
    let mut screen = String::new();
    while started.elapsed() < LONG {
        let mut hatop = Hatop::start(socket);
        let begun = Instant::now();
        while begun.elapsed() < 2 * SOON && !hatop.has_ended() {
            screen = hatop.screen();
            if words.iter().all(|word| screen.contains(word)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    panic!("not all of {words:?}: {screen}");
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LONG, "not within {LONG:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Takes server `one` out and back, and changes its weight, while it is asked for.
async fn scenario(socket: &Path, plan: ClientPlan, servers: &[HttpBackend; 2]) {
    until("both are up", || {
        ["one", "two"].map(|server| stat(socket, server, "status")) == ["UP", "UP"]
    })
    .await;
    shows(socket, &["web", "one", "two", "UP"]).await;
    let client = Client::start(plan);
    let requests = |nth: usize| servers[nth].stats().requests;
    until("both serve", || requests(0) > 10 && requests(1) > 10).await;

    press(socket, F10, || stat(socket, "one", "status") == "MAINT").await;
    assert_eq!(stat(socket, "two", "status"), "UP");
    shows(socket, &["web", "one", "MAINT"]).await;
    until("nothing is in flight", || {
        stat(socket, "one", "scur") == "0"
    })
    .await;
    let more_of_two = async || {
        let before = requests(1);
        until("the other serves", || requests(1) > before + 50).await;
    };
    more_of_two().await;
    let before = requests(0);
    more_of_two().await;
    assert_eq!(requests(0), before, "it still gets requests");

    press(socket, F9, || stat(socket, "one", "status") == "UP").await;
    until("it serves again", || requests(0) > before + 50).await;
    client.stop().await.assert_clean();

    press(socket, F7, || stat(socket, "one", "weight") != "1").await;
    let weight = ask(socket, "get weight web/one");
    assert!(weight.ends_with(" (initial 1)\n\n"), "{weight}");
    press(socket, F4, || stat(socket, "one", "weight") == "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hatop_takes_servers_out_of_haproxy_and_of_plimsoll() {
    let test = "hatop_takes_servers_out_of_haproxy_and_of_plimsoll";
    let Some(lab) = Lab::new(test, &["servers"]) else {
        return;
    };
    let servers = [lab.http("servers", 8001), lab.http("servers", 8002)];
    let dir = TempDir::new().unwrap();
    let addresses = servers.each_ref().map(HttpBackend::address);
    let plan = |port| ClientPlan {
        target: lab.at("lb", port),
        ..lab.requests("web.example")
    };

    let (theirs, ours) = (
        dir.path().join("haproxy.sock"),
        dir.path().join("ours.sock"),
    );
    let config = dir.path().join("haproxy.cfg");
    let text = format!(
        "global\n stats socket {} level admin\ndefaults\n mode http\n timeout connect 10s\n \
         timeout client 60s\n timeout server 60s\nfrontend front\n bind {}\n default_backend web\n\
         backend web\n server one {} check inter 500ms\n server two {} check inter 500ms\n",
        theirs.display(),
        lab.at("lb", HTTP + 1),
        addresses[0],
        addresses[1],
    );
    std::fs::write(&config, text).unwrap();
    let mut haproxy = lab.net().namespace("lb").unwrap().command("haproxy");
    let haproxy = Running(haproxy.arg("-db").arg("-f").arg(&config).spawn().unwrap());
    until("HAProxy listens", || UnixStream::connect(&theirs).is_ok()).await;
    scenario(&theirs, plan(HTTP + 1), &servers).await;
    let header = |socket: &Path| ask(socket, "show stat").lines().next().unwrap().to_owned();
    let their_header = header(&theirs);
    drop(haproxy);

    let text = format!(
        "[daemon]\nworkers = 2\nstats = \"{}\"\n[[service]]\nname = \"web\"\nlisten = \"{}/http\"\n\
         check = \"tcp\"\nscheduler = \"rr\"\nbackends = [\n\
         {{ address = \"{}\", name = \"one\" }}, {{ address = \"{}\", name = \"two\" }} ]\n",
        ours.display(),
        lab.at("lb", HTTP),
        addresses[0],
        addresses[1],
    );
    let lb = lab.start(&text).await;
    scenario(&ours, plan(HTTP), &servers).await;
    // Behind the dash are the columns of HAProxy's modules.
    let ours = header(&ours);
    assert!(
        their_header.starts_with(&format!("{ours}-,")),
        "{their_header}\n{ours}"
    );
    lb.until_idle().await;
    lab.close(lb);
}
