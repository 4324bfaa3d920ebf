//! `demo dr`, in network namespaces.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use plimsoll_testkit::{root_or_skip, unique_id, wait_until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::lab::{BINARY, Ended, SOON, ended};
use crate::pty::Pty;

/// The names of one test's demo.
struct Names(String);

impl Names {
    /// None if there is no root and leave to skip.
    fn new(test: &str) -> Option<Self> {
        root_or_skip(test).then(|| Self(format!("dr-{}-{}", std::process::id(), unique_id())))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["demo", "dr", "--namespaces", "--name", &self.0]);
        command.args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args))
    }

    fn namespaces(&self) -> Vec<String> {
        let all = fs::read_dir("/run/netns").into_iter().flatten();
        let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(&self.0)).collect()
    }

    fn folder(&self) -> String {
        format!("/run/plimsoll/{}", self.0)
    }

    /// The processes that the demo has started.
    fn processes(&self) -> Vec<String> {
        let mark = format!("PLIMSOLL_DEMO={} ", self.folder()).into_bytes();
        let all = fs::read_dir("/proc").unwrap();
        let ids = all.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        ids.filter(|id| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            variables.any(|variable| variable.starts_with(&mark))
        })
        .collect()
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(self.namespaces(), Vec::<String>::new());
        assert_eq!(self.processes(), Vec::<String>::new());
        let folder = self.folder();
        assert!(!fs::exists(&folder).unwrap(), "{folder} is left");
    }
}

/// A demo that is ended with its test, however that ends.
struct Running(Child);

impl Running {
    fn wait(mut self) -> Option<i32> {
        let ended = wait_until(2 * SOON, || self.0.try_wait().unwrap().is_some());
        assert!(ended, "it does not end");
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            signal(&self.0, Signal::TERM);
            if !wait_until(SOON, || !matches!(self.0.try_wait(), Ok(None))) {
                let _gone = self.0.kill();
            }
        }
        let _ended = self.0.wait();
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// A live demo on a terminal.
fn live(names: &Names, pty: &Pty) -> Running {
    let mut command = names.command(&[]);
    command.env("TERM", "xterm");
    command.stdin(pty.end()).stdout(pty.end()).stderr(pty.end());
    Running(command.spawn().unwrap())
}

/// The figure behind these words.
fn figure(text: &str, words: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(words)).unwrap();
    line.rsplit_once(": ").unwrap().1.parse().unwrap()
}

fn requests_are_spread(names: &Names, vip: &str, client: &str) {
    let ended = names.run(&[vip, "--requests", "301"]);
    let out = &ended.out;
    assert_eq!(ended.code, Some(0), "{out}{}", ended.err);
    for host in ["one", "two", "three"] {
        let line = out.lines().find(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Name, requests, share, %, and the client as it saw it.
            words.len() == 5 && words[0] == host && words[4] == client
        });
        let count = line.unwrap_or_else(|| panic!("{host} in\n{out}"));
        let count: u64 = count.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!((95..=106).contains(&count), "{out}");
    }
    assert!(out.contains("\n301 answered, 0 failed"), "{out}");
    assert!(
        out.contains(&format!("director# ip address add {vip}/")),
        "{out}"
    );
    let forth = figure(out, "packets client → director");
    assert!(forth >= 4 * 301, "{out}");
    assert!(figure(out, "packets director → nodes") >= 4 * 301, "{out}");
    assert!(
        figure(out, "packets nodes → client directly") >= 3 * 301,
        "{out}"
    );
    assert_eq!(figure(out, "packets nodes → director"), 0, "{out}");
    names.assert_nothing_is_left();
}

#[test]
fn the_director_forwards_and_nodes_answer_past_it() {
    let Some(names) = Names::new("the_director_forwards_and_nodes_answer_past_it") else {
        return;
    };
    requests_are_spread(&names, "172.20.10.1", "10.83.0.2");
    requests_are_spread(&names, "2001:db8::1", "fd70:6c69:6d73::2");
    // Of the network that the demo would take.
    requests_are_spread(&names, "10.83.0.11", "10.83.1.2");
}

#[test]
fn a_node_is_killed_and_nothing_fails() {
    let Some(names) = Names::new("a_node_is_killed_and_nothing_fails") else {
        return;
    };
    let mut pty = Pty::open();
    let demo = live(&names, &pty);
    pty.until("requests/s");
    pty.key("2");
    pty.until("▸2");
    pty.key("k");
    pty.until("two: killed: checks take it out");
    pty.until("down");
    pty.until("failed: 0");
    for (key, shown) in [
        ("r", "two: started, and ready"),
        ("d", "two: draining"),
        ("d", "two: ready again"),
        ("+", "two: weight 2"),
        ("s", "two: drained in"),
        ("r", "two: started, and ready"),
    ] {
        pty.key(key);
        pty.until(shown);
        pty.until("failed: 0");
    }
    pty.key("");
    pty.until("packets nodes → director (replies that pass it): 0");
    pty.key("q");
    pty.until(" answered, 0 failed");
    assert_eq!(demo.wait(), Some(0));
    names.assert_nothing_is_left();
}

#[test]
fn ctrl_c_leaves_nothing_also_without_a_director() {
    let Some(names) = Names::new("ctrl_c_leaves_nothing") else {
        return;
    };
    let mut pty = Pty::open();
    let demo = live(&names, &pty);
    pty.until("requests/s");
    assert_eq!(names.namespaces().len(), 6);
    assert_eq!(names.processes().len(), 4);
    // Its director's process dies: packets go on, and what a dead node refuses is asked of others.
    let director = names.processes().into_iter().find(|id| {
        let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == b"run")
    });
    let director = Pid::from_raw(director.unwrap().parse().unwrap()).unwrap();
    kill_process(director, Signal::KILL).unwrap();
    pty.key("3k");
    pty.until("three: killed");
    pty.until("sent again");
    pty.until("failed: 0");
    pty.key("r");
    pty.until("three: the balancer does not answer");
    signal(&demo.0, Signal::INT);
    pty.until(" answered, 0 failed");
    assert_eq!(demo.wait(), Some(0));
    names.assert_nothing_is_left();
}

#[test]
fn the_next_one_takes_away_what_a_killed_one_left() {
    let Some(names) = Names::new("the_next_one_takes_away_what_a_killed_one_left") else {
        return;
    };
    let child = names.command(&[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut demo = Running(child);
    let mut out = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let line = out.by_ref().map(Result::unwrap);
    let line = line.into_iter().find(|line| line.contains("s  one "));
    assert!(line.is_some(), "load runs");
    // One of the same name does not touch it.
    let second = names.run(&["--requests", "1"]);
    assert_eq!(second.code, Some(1), "{}", second.out);
    let told = format!("runs already (process {})", demo.0.id());
    assert!(second.err.contains(&told), "{}", second.err);
    assert_eq!(names.processes().len(), 4);
    signal(&demo.0, Signal::KILL);
    assert_eq!(demo.wait(), None);
    assert_eq!(names.namespaces().len(), 6);
    assert_eq!(names.processes().len(), 4);
    let next = names.run(&["--requests", "30"]);
    assert_eq!(next.code, Some(0), "{}", next.err);
    names.assert_nothing_is_left();
}

#[test]
fn one_of_the_same_name_elsewhere_is_left_alone() {
    let Some(names) = Names::new("one_of_the_same_name_elsewhere") else {
        return;
    };
    // Folders of the same path, which are not the same.
    let inside = |words: &str| {
        let line = format!(
            "mount -t tmpfs tmpfs /run && exec {BINARY} demo dr --namespaces --name {} {words}",
            names.0
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &line]);
        command
    };
    let child = inside("").stdout(Stdio::piped()).spawn().unwrap();
    let mut demo = Running(child);
    let mut out = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let mut lines = out.by_ref().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("s  one ")), "load runs");
    let before = names.processes();
    assert_eq!(before.len(), 4);
    let second = ended(inside("--requests 30"));
    assert_eq!(second.code, Some(0), "{}", second.err);
    assert_eq!(names.processes(), before);
    signal(&demo.0, Signal::TERM);
    let rest: Vec<String> = out.map(Result::unwrap).collect();
    assert_eq!(demo.wait(), Some(0), "{rest:#?}");
    names.assert_nothing_is_left();
}

#[test]
fn ctrl_c_during_set_up_leaves_nothing() {
    let Some(names) = Names::new("ctrl_c_during_set_up_leaves_nothing") else {
        return;
    };
    for made in 1..=5 {
        let mut command = names.command(&[]);
        // A terminal's Ctrl-C goes to all of the group.
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.process_group(0).spawn().unwrap();
        let mut demo = Running(child);
        let mut err = demo.0.stderr.take().unwrap();
        assert!(wait_until(6 * SOON, || names.namespaces().len() >= made));
        let group = Pid::from_raw(i32::try_from(demo.0.id()).unwrap()).unwrap();
        kill_process_group(group, Signal::INT).unwrap();
        let mut told = String::new();
        err.read_to_string(&mut told).unwrap();
        match demo.wait() {
            Some(1) => assert_eq!(told, "plimsoll: told to stop before all was ready\n"),
            // It was quicker.
            code => assert_eq!((code, told.as_str()), (Some(0), "")),
        }
        names.assert_nothing_is_left();
    }
}

#[test]
fn what_is_not_its_own_stays() {
    let Some(names) = Names::new("what_is_not_its_own_stays") else {
        return;
    };
    let other = format!("{}-two", names.0);
    let ip = |words: &[&str]| {
        let done = Command::new("ip").args(words).status().unwrap();
        assert!(done.success(), "{words:?}");
    };
    ip(&["netns", "add", &other]);
    let refused = names.run(&["--requests", "1"]);
    let left = names.namespaces();
    ip(&["netns", "delete", &other]);
    assert_eq!(refused.code, Some(1), "{}", refused.out);
    let told = format!("there is a network namespace {other} that is not the demo's");
    assert!(refused.err.contains(&told), "{}", refused.err);
    assert_eq!(left, [other]);
    names.assert_nothing_is_left();
}

#[test]
fn what_cannot_be_is_said() {
    let Some(names) = Names::new("what_cannot_be_is_said") else {
        return;
    };
    for (vip, why) in [
        ("0.0.0.0", "no address"),
        ("127.0.0.1", "own address"),
        ("224.0.0.1", "group"),
        ("172.20.10.1:80", "did you mean 172.20.10.1?"),
        ("web", "such as 192.0.2.1"),
    ] {
        let ended = names.run(&[vip, "--requests", "1"]);
        assert_eq!(ended.code, Some(2), "{vip}: {}", ended.out);
        assert!(ended.err.contains(why), "{vip}: {}", ended.err);
    }
    let ended = names.run(&["--name", "A/B"]);
    assert_eq!(ended.code, Some(2), "{}", ended.out);
    // Without an engine there are no containers, and namespaces do as well.
    let without_engine = |args: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(["demo", "dr", "--requests", "3", "--name", &names.0]);
        command
            .args(args)
            .env("DOCKER_HOST", "unix:///nowhere.sock");
        crate::lab::ended(command)
    };
    let why = "there is no Docker engine at /nowhere.sock";
    let asked = without_engine(&["--containers"]);
    assert_eq!(asked.code, Some(1), "{}", asked.out);
    assert!(asked.err.contains(why), "{}", asked.err);
    let other = without_engine(&[]);
    assert_eq!(other.code, Some(0), "{}", other.err);
    assert!(other.out.contains(why), "{}", other.out);
    // As somebody else, if the binary is where others get at it.
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", BINARY, "demo", "dr"]);
    let nobody = ended_or_no_access(command);
    if let Some(nobody) = nobody {
        assert_eq!(nobody.code, Some(1), "{}", nobody.out);
        assert!(
            nobody.err.contains("sudo plimsoll demo dr"),
            "{}",
            nobody.err
        );
    }
    names.assert_nothing_is_left();
}

/// None if the binary cannot be started by that user.
fn ended_or_no_access(command: Command) -> Option<Ended> {
    let ended = ended(command);
    (ended.code != Some(126) && ended.code != Some(127)).then_some(ended)
}
