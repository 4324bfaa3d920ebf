//! `demo dr`, in containers.

use std::process::{Child, Command, Stdio};

use plimsoll_testkit::{finish, wait_until};

use crate::dock::{Dock, SOON};
use crate::lb::{BINARY, text};
use crate::pty::Pty;

const NAME: &str = "dr-demo";

fn command(dock: &Dock, args: &[&str]) -> Command {
    let mut command = dock.0.command(BINARY);
    command.env("DOCKER_HOST", dock.0.host());
    command.args(["demo", "dr", "--containers"]);
    // Engines in different tests share the host's /run.
    command.args(["--name", &format!("{NAME}-{}", std::process::id())]);
    command.args(args);
    command
}

fn nothing_is_left(dock: &Dock) {
    assert_eq!(dock.docker("ps -aq"), "");
    assert_eq!(dock.docker("images -q --filter label=plimsoll-demo"), "");
    assert_eq!(
        dock.docker("network ls -q --filter label=plimsoll-demo"),
        ""
    );
}

fn wait(child: &mut Child) -> Option<i32> {
    let ended = wait_until(2 * SOON, || child.try_wait().unwrap().is_some());
    if !ended {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    assert!(ended, "it does not end");
    status.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_of_direct_routing() {
    let Some(dock) = Dock::new("the_demo_of_direct_routing") else {
        return;
    };
    for vip in ["172.20.10.1", "2001:db8::1"] {
        let ended = finish(command(&dock, &[vip, "--requests", "300"]), 3 * SOON).unwrap();
        let (out, err) = (text(&ended.stdout), text(&ended.stderr));
        assert!(ended.status.success(), "{out}{err}");
        assert!(out.contains("In containers, named dr-demo-"), "{out}");
        assert!(out.contains("\n300 answered, 0 failed"), "{out}");
        assert!(out.contains("(replies that pass it): 0\n"), "{out}");
        nothing_is_left(&dock);
    }
    // Without the command `docker` it goes on in namespaces, and says so.
    let line = format!(
        "PATH=/usr/sbin:/sbin exec {BINARY} demo dr --requests 3 --name {NAME}-{}",
        std::process::id()
    );
    let mut without = dock.shell(&line);
    without.env("DOCKER_HOST", dock.0.host());
    let without = finish(without, 3 * SOON).unwrap();
    let (out, err) = (text(&without.stdout), text(&without.stderr));
    assert!(without.status.success(), "{out}{err}");
    assert!(
        out.contains("not in containers: `docker` is not installed"),
        "{out}"
    );
    assert!(out.contains("\n3 answered, 0 failed"), "{out}");
    // An address of the engine's host, which would answer for it.
    let own = finish(command(&dock, &["172.17.0.1", "--requests", "1"]), SOON).unwrap();
    assert_eq!(own.status.code(), Some(1));
    assert!(
        text(&own.stderr).contains("an address of this host"),
        "{own:?}"
    );
    // A container is killed under load.
    let mut pty = Pty::open();
    let start = |pty: &Pty| {
        let mut command = command(&dock, &[]);
        command.env("TERM", "xterm");
        command
            .stdin(pty.end())
            .stdout(pty.end())
            .stderr(pty.end())
            .spawn()
            .unwrap()
    };
    let mut child = start(&pty);
    tokio::task::block_in_place(|| {
        pty.until("requests/s");
        pty.key("k");
        pty.until("one: killed: checks take it out");
        pty.until("down");
        pty.key("r");
        pty.until("one: started, and ready");
        pty.until("failed: 0");
        pty.key("q");
        pty.until(" answered, 0 failed");
        assert_eq!(wait(&mut child), Some(0));
    });
    nothing_is_left(&dock);
    // The demo itself is killed: the next one takes away what it left.
    let mut pty = Pty::open();
    let mut child = start(&pty);
    tokio::task::block_in_place(|| pty.until("requests/s"));
    // Its own child is the program that brought it to the engine's host.
    let id = dock.shell(&format!(
        "kill -9 $(cat /run/plimsoll/{NAME}-{}/pid)",
        std::process::id()
    ));
    assert!(finish(id, SOON).unwrap().status.success());
    child.wait().unwrap();
    assert_eq!(dock.docker("ps -q").lines().count(), 5);
    let mut next = command(&dock, &["--requests", "10"]);
    next.stdin(Stdio::null());
    let next = finish(next, 3 * SOON).unwrap();
    assert!(next.status.success(), "{}", text(&next.stderr));
    nothing_is_left(&dock);
    dock.0.close().unwrap();
}
