//! `healthcheck`: of a daemon, and of a URL.

use plimsoll_testkit::{HttpBackend, Port};

use crate::{Stage, plimsoll, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_well_also_when_not_all_is_in_force() {
    let stage = Stage::new().await;
    assert_eq!(stage.ask(&["healthcheck"]).code, Some(0));
    assert_eq!(stage.ask(&["healthcheck", "--ready"]).code, Some(0));
    let taken = Port::take().unwrap();
    let _squatter = std::net::TcpListener::bind(taken.address()).unwrap();
    let config = std::fs::read_to_string(stage.daemon.config_path()).unwrap();
    let more = format!(
        "{config}[[service]]\nname = \"b\"\nlisten = \"{}/tcp\"\nbackends = []\n",
        taken.address()
    );
    stage.daemon.replace_config(&more).unwrap();
    stage
        .until(async || stage.ask(&["healthcheck", "--ready"]).code == Some(1))
        .await;
    let ended = stage.ask(&["healthcheck"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_answer_is_not_well() {
    let backend = HttpBackend::start("a").unwrap();
    let url = format!("http://{}/x", backend.address());
    assert_eq!(plimsoll(&["healthcheck", &url]).code, Some(0));
    let port = Port::take().unwrap();
    let url = format!("http://{}/x", port.address());
    let ended = plimsoll(&["healthcheck", &url]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains(&url) && ended.err.contains("refused"),
        "{}",
        ended.err
    );

    // One that accepts and says nothing.
    let _silent = std::net::TcpListener::bind(port.address()).unwrap();
    let ended = plimsoll(&["healthcheck", "--timeout", "100ms", &url]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("no answer within 100ms"),
        "{}",
        ended.err
    );

    let dir = plimsoll_testkit::TempDir::new().unwrap();
    let socket = dir.path().join("no.sock");
    let ended = plimsoll(&["healthcheck", "--admin", text(&socket)]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("no.sock"), "{}", ended.err);
    for (wrong, why) in [
        (&["https://x/"][..], "TLS"),
        (&["http://x:99999/"], "65535"),
        (&["--timeout", "0"], "1ms"),
    ] {
        let ended = plimsoll(&[&["healthcheck"], wrong].concat());
        assert_eq!(ended.code, Some(2), "{wrong:?}");
        assert!(ended.err.contains(why), "{wrong:?}: {}", ended.err);
    }
}
