//! `demo`.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use plimsoll_testkit::{Port, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::tcgetattr;

use crate::pty::Pty;
use crate::{BINARY, SOON, plimsoll};

#[test]
fn requests_are_counted_and_all_answered() {
    let ended = plimsoll(&["demo", "--requests", "301", "--instances", "3"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert!(lines[0].starts_with("INSTANCE  REQUESTS"), "{}", ended.out);
    let count = |line: &str| {
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let counts: Vec<u64> = lines[1..4].iter().map(|line| count(line)).collect();
    assert_eq!(counts.iter().sum::<u64>(), 301);
    assert!(counts.iter().all(|n| (95..=106).contains(n)), "{counts:?}");
    assert_eq!(lines[4], "301 answered, 0 failed");
}

#[test]
fn an_address_in_use_is_1() {
    let port = Port::take().unwrap();
    let _squatter = std::net::TcpListener::bind(port.address()).unwrap();
    let listen = port.address().to_string();
    let ended = plimsoll(&["demo", "--requests", "10", "--listen", &listen]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("address in use") && ended.err.contains(&listen),
        "{}",
        ended.err
    );
}

#[test]
fn requests_that_are_not_answered_are_1() {
    // Too few descriptors for its connections.
    let line = format!("ulimit -n 50; exec {BINARY} demo --requests 8 --instances 9");
    let mut command = Command::new("bash");
    command.args(["-c", &line]);
    let ended = crate::ended(command);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.err.contains(" of 8 requests were not answered: "),
        "{ended:?}"
    );
    assert!(ended.out.contains(" failed\n"), "{ended:?}");
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn wait(child: &mut Child) -> Option<i32> {
    let ended = wait_until(SOON, || child.try_wait().unwrap().is_some());
    if !ended {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    assert!(ended, "it does not end");
    status.code()
}

#[test]
fn without_a_terminal_it_prints_lines_until_told_to_stop() {
    let mut child = Command::new(BINARY)
        .args(["demo"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let first = out.next().unwrap().unwrap();
    assert!(first.starts_with("balances http://127.0.0.1:"), "{first}");
    let line = out
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains("2s  one"));
    let line = line.unwrap();
    assert!(
        line.contains("failed 0") && !line.contains('\u{1b}'),
        "{line}"
    );
    signal(&child, Signal::TERM);
    let rest: Vec<String> = out.map(Result::unwrap).collect();
    assert_eq!(wait(&mut child), Some(0));
    assert!(
        rest.last().unwrap().ends_with(" answered, 0 failed"),
        "{rest:?}"
    );
}

#[test]
fn keys_act_and_the_terminal_is_put_back() {
    let mut pty = Pty::open();
    let before = tcgetattr(&pty.theirs).unwrap();
    let mut child = Command::new(BINARY)
        .arg("demo")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(pty.end())
        .stdout(pty.end())
        .stderr(pty.end())
        .spawn()
        .unwrap();
    pty.until("requests/s");
    assert_ne!(
        tcgetattr(&pty.theirs).unwrap().local_modes,
        before.local_modes
    );
    pty.key("2");
    pty.until("▸2");
    for (key, shown) in [
        ("s", "two: drained in"),
        ("r", "two: started, and ready"),
        ("d", "two: draining"),
        ("d", "two: ready again"),
        ("+", "two: weight 2"),
        ("-", "two: weight 1"),
    ] {
        pty.key(key);
        pty.until(shown);
        pty.until("failed: 0");
    }
    let one_second_of_load = Duration::from_secs(1);
    std::thread::sleep(one_second_of_load);
    pty.text.clear();
    signal(&child, Signal::INT);
    pty.until(" answered, 0 failed");
    assert_eq!(wait(&mut child), Some(0));
    assert!(
        pty.text.contains("\u{1b}[?25h"),
        "the cursor is shown again"
    );
    let after = tcgetattr(&pty.theirs).unwrap();
    assert_eq!(after.local_modes, before.local_modes);
}

#[test]
fn a_killed_instance_is_taken_out_and_q_ends() {
    let mut pty = Pty::open();
    let mut child = Command::new(BINARY)
        .arg("demo")
        .env("TERM", "xterm")
        .stdin(pty.end())
        .stdout(pty.end())
        .stderr(pty.end())
        .spawn()
        .unwrap();
    pty.until("requests/s");
    pty.key("k");
    pty.until("one: killed");
    pty.until("down");
    pty.key("r");
    pty.until("one: started, and ready");
    pty.key("q");
    pty.until(" answered, ");
    assert_eq!(wait(&mut child), Some(0));
}
