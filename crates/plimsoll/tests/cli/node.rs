//! `node`: what it says to what it cannot do. What it does is in ring 2.

use plimsoll_testkit::{FakeContainer, FakeEngine};

use crate::{plimsoll, text};

#[test]
fn wrong_usage_is_2_and_says_what_is_expected() {
    for (args, part) in [
        (&["node"][..], "--vip"),
        (
            &["node", "--vip", "192.0.2.1/24"],
            "did you mean 192.0.2.1?",
        ),
        (&["node", "--vip", "127.0.0.1"], "every host's own address"),
        (
            &["node", "--vip", "192.0.2.1", "--docker", "x"],
            "--container",
        ),
        (
            &["node", "--vip", "192.0.2.1", "--once", "--undo"],
            "--undo",
        ),
        (
            &["node", "--vip", "192.0.2.1", "--container", "0"],
            "0 is no process",
        ),
        (
            &[
                "node",
                "--vip",
                "192.0.2.1",
                "--container",
                "web",
                "--docker",
                "tcp://192.0.2.9",
            ],
            "not on this host",
        ),
    ] {
        let ended = plimsoll(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}{}", ended.out, ended.err);
        assert!(ended.err.contains(part), "{args:?}: {}", ended.err);
    }
}

#[test]
fn namespaces_that_are_not_there_are_named() {
    for (container, part) in [
        (
            "/run/netns/there-is-none",
            "no network namespace /run/netns/there-is-none",
        ),
        ("2147483647", "process 2147483647: there is no such process"),
    ] {
        let ended = plimsoll(&[
            "node",
            "--vip",
            "192.0.2.1",
            "--check",
            "--container",
            container,
        ]);
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        assert!(ended.err.contains(part), "{}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_do_not_run_are_named() {
    let engine = FakeEngine::start().unwrap();
    engine.world(|world| world.create(FakeContainer::new("made")));
    let socket = engine.socket();
    let node = |container: &str| {
        let args = [
            "node",
            "--vip",
            "192.0.2.1",
            "--check",
            "--container",
            container,
        ];
        let docker = format!("unix://{}", text(&socket));
        let args = [&args[..], &["--docker", &docker]].concat();
        tokio::task::block_in_place(|| plimsoll(&args))
    };
    for (container, part) in [
        ("made", "container made: it does not run"),
        ("other", "container other: there is no such container"),
    ] {
        let ended = node(container);
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        assert!(ended.err.contains(part), "{}", ended.err);
    }
    engine.stop();
    let ended = node("made");
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains(text(&socket)), "{}", ended.err);
}
