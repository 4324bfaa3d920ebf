//! Engines that are not there, not allowed, too old, or none at all: each is told so that one
//! knows what to do, and none stops the source.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use plimsoll_discover::docker::host::EngineHost;
use plimsoll_discover::docker::whereami::Traces;
use plimsoll_testkit::{
    Ask, EngineBehaviour, FakeContainer, FakeEngine, Fault, TempDir, have_root,
};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::running::{Running, calm, host};

/// Why the source is stale, with an engine that behaves so. It is well once the engine is.
async fn why(behaviour: EngineBehaviour) -> String {
    let engine = FakeEngine::start().unwrap();
    engine.world(|world| world.run(FakeContainer::web("web", "web.example")));
    engine.behave(behaviour);
    let source = Running::start(&engine, calm());
    let why = source.stale().await;
    let name = format!("unix://{}: ", engine.socket().display());
    let why = why
        .strip_prefix(&name)
        .unwrap_or_else(|| panic!("{why}"))
        .to_owned();
    assert!(!why.contains(['\n', '\r']), "{why}");
    engine.behave(EngineBehaviour::default());
    source.until("well", |heard| heard.is_ready("web")).await;
    why
}

/// Why the source is stale with an engine at this address.
async fn why_at(host: EngineHost) -> String {
    Running::start_at(host, calm(), Traces::default())
        .stale()
        .await
}

fn fault(ask: Ask, fault: Fault) -> EngineBehaviour {
    EngineBehaviour::default().fault(ask, fault)
}

fn status(status: u16, body: &str) -> Fault {
    Fault::Status(status, body.into())
}

#[tokio::test]
async fn too_old() {
    let why = why(EngineBehaviour {
        api: "1.39".into(),
        ..Default::default()
    })
    .await;
    assert!(
        why.contains("Docker 20.10.24 is too old") && why.contains("1.39"),
        "{why}"
    );
    assert!(
        why.contains("1.40 is needed") && why.contains("update it"),
        "{why}"
    );
}

#[tokio::test]
async fn too_new() {
    let newer = EngineBehaviour {
        api: "1.70".into(),
        min_api: "1.60".into(),
        ..Default::default()
    };
    let why = why(newer).await;
    assert!(
        why.contains("no longer speaks API 1.55, only 1.60"),
        "{why}"
    );
    assert!(why.contains("update plimsoll"), "{why}");
}

#[tokio::test]
async fn too_old_for_the_version_that_is_wanted() {
    let engine = FakeEngine::start().unwrap();
    let vars = |name: &str| (name == "DOCKER_API_VERSION").then(|| "1.45".to_owned());
    let why = why_at(host(&engine).with_env(vars).unwrap()).await;
    assert!(
        why.contains("DOCKER_API_VERSION is 1.45, but the engine speaks 1.41"),
        "{why}"
    );
}

#[tokio::test]
async fn windows_containers() {
    for says_version in [true, false] {
        let windows = EngineBehaviour {
            os: "windows".into(),
            says_version,
            ..Default::default()
        };
        let why = why(windows).await;
        assert!(why.contains("runs windows containers"), "{why}");
    }
}

#[tokio::test]
async fn errors_of_the_engine() {
    let why = why(fault(
        Ask::List,
        status(500, r#"{"message":"database is\r\n locked"}"#),
    ))
    .await;
    assert_eq!(why, "/v1.41/containers/json?all=1: 500: database is locked");
}

#[tokio::test]
async fn a_filter_that_lets_too_little_through() {
    for ask in [Ask::Ping, Ask::List, Ask::Networks, Ask::Events] {
        let why = why(fault(ask, status(403, "<html>\n<h1>403 Forbidden</h1>"))).await;
        assert!(
            why.contains("403: <html> <h1>403 Forbidden</h1>: a filter"),
            "{why}"
        );
        assert!(why.contains("/networks"), "{why}");
    }
    // Without this one we can do.
    let engine = FakeEngine::start().unwrap();
    engine.behave(fault(Ask::Version, status(403, "")));
    Running::start(&engine, calm()).up().await;
}

#[tokio::test]
async fn what_is_no_engine() {
    for (broken, expected) in [
        (fault(Ask::Ping, Fault::Garbage), "does not answer in HTTP"),
        (fault(Ask::Ping, Fault::Nothing), "closed the connection"),
        (fault(Ask::Version, Fault::Half), "broke off"),
        (fault(Ask::List, Fault::Half), "broke off"),
        (
            fault(Ask::Version, Fault::Body("hello".into())),
            "cannot be read",
        ),
        (fault(Ask::List, Fault::Body("{}".into())), "cannot be read"),
        (
            fault(Ask::Networks, Fault::Body("7".into())),
            "cannot be read",
        ),
        (
            fault(
                Ask::Networks,
                Fault::Body(format!("[{}", " ".repeat(64 << 20))),
            ),
            "longer than",
        ),
    ] {
        let why = why(broken).await;
        assert!(why.contains(expected), "{expected}: {why}");
    }
}

#[tokio::test]
async fn an_engine_that_ends_every_stream_is_not_asked_for_ever() {
    let engine = FakeEngine::start().unwrap();
    let source = Running::start(&engine, calm());
    source.up().await;
    engine.end_streams();
    let why = source.stale().await;
    assert!(why.contains("ended the stream of events"), "{why}");
    source.until("well", |heard| heard.stale.is_none()).await;
}

#[tokio::test]
async fn no_socket() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("none.sock");
    let why = why_at(EngineHost::unix(&path)).await;
    assert!(
        why.starts_with(&format!(
            "unix://{}: there is no such socket",
            path.display()
        )),
        "{why}"
    );
    assert!(
        why.contains("-v /var/run/docker.sock") && why.contains("DOCKER_HOST"),
        "{why}"
    );
}

#[tokio::test]
async fn a_folder_or_a_file_instead_of_a_socket() {
    let folder = TempDir::new().unwrap();
    let why = why_at(EngineHost::unix(folder.path())).await;
    assert!(why.contains("a folder, not a socket"), "{why}");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let why = why_at(EngineHost::unix(file)).await;
    assert!(why.contains("is not a socket"), "{why}");
}

#[tokio::test]
async fn nobody_listens() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let why = why_at(EngineHost::unix(path)).await;
    assert!(
        why.contains("nobody listens") && why.contains("systemctl start docker"),
        "{why}"
    );
    let port = plimsoll_testkit::Port::take().unwrap();
    let why =
        why_at(EngineHost::parse(&format!("tcp://127.0.0.1:{}", port.number())).unwrap()).await;
    assert!(
        why.contains("nobody listens") && why.contains("dockerd -H"),
        "{why}"
    );
}

#[tokio::test]
async fn no_such_name() {
    let why = why_at(EngineHost::parse("tcp://no-such-host.invalid:2375").unwrap()).await;
    assert!(
        why.contains("`no-such-host.invalid` cannot be resolved"),
        "{why}"
    );
}

/// What a user without rights reads. Root may do anything: where the test runs as root, the thread
/// becomes somebody else (on Linux each thread has its own user).
#[test]
fn no_permission() {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("docker.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    let group = fs::metadata(&path).unwrap().gid();
    let root = have_root();
    if root {
        std::os::unix::fs::chown(&path, None, Some(4242)).unwrap();
    }
    let group = if root { 4242 } else { group };
    let thread = std::thread::spawn(move || {
        if root {
            let (nobody, nogroup) = (Uid::from_raw(65534), Gid::from_raw(65534));
            set_thread_groups(&[]).unwrap();
            set_thread_gid(nogroup).unwrap();
            set_thread_uid(nobody).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(why_at(EngineHost::unix(path)))
    });
    let why = thread.join().unwrap();
    assert!(why.contains("permission denied: "), "{why}");
    assert!(why.contains(&format!("gid {group}")), "{why}");
    if root {
        assert!(why.contains("--group-add 4242"), "{why}");
    }
}
