//! From a container's start to its removal, and every other end. A second service is under load all
//! the time, and never disturbed.

use plimsoll_testkit::Client;

use crate::dock::{Dock, SOON, WEB};

const WEB_LABEL: &str = "--label plimsoll.host=web.example";
const OTHER_LABEL: &str = "--label plimsoll.host=other.example";

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_served_from_start_to_removal() {
    let Some(dock) = Dock::new("a_container_is_served_from_start_to_removal") else {
        return;
    };
    let lb = dock.run().await;
    assert_eq!(dock.answer(WEB, "other.example").await, 0, "nobody listens");
    dock.start("other", OTHER_LABEL, "");
    dock.until_answer("other.example", 200, &[0, 404, 503])
        .await;
    let load = Client::start(dock.load("other.example"));
    assert_eq!(dock.answer(WEB, "web.example").await, 404);

    dock.start("web", WEB_LABEL, "");
    // The engine has started its process; that may take a moment to listen.
    dock.until_answer("web.example", 200, &[404, 502, 503])
        .await;
    let seen = lb.backend("web.example", "web").await;
    assert_eq!(seen["addr"], dock.at("web").to_string());
    assert_eq!(seen["origin"]["entry"], "container web");
    for stop in ["stop", "kill"] {
        dock.docker(&format!("{stop} web"));
        // The host is known as long as its container is there.
        dock.until_answer("web.example", 503, &[200, 502, 504])
            .await;
        dock.docker("start web");
        dock.until_answer("web.example", 200, &[502, 503]).await;
    }
    dock.docker("restart web");
    dock.until_answer("web.example", 200, &[502, 503]).await;
    dock.docker("rm -f web");
    // Whoever replaces a container removes it first: its host is known for a while longer.
    dock.until_answer("web.example", 503, &[200, 502, 504])
        .await;
    assert_eq!(dock.answer(WEB, "web.example").await, 503);
    // Under another name it is a backend of the same service, since it has the same host.
    dock.start("again", WEB_LABEL, "");
    dock.until_answer("web.example", 200, &[502, 503]).await;
    assert_eq!(lb.backend("web.example", "again").await["state"], "ready");
    dock.start("beside", WEB_LABEL, "");
    lb.until_state("web.example", "beside", "ready").await;
    assert!(load.more(50, SOON).await);
    load.stop().await.assert_clean();
    dock.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_a_container_is_seen() {
    let Some(dock) = Dock::new("whatever_ends_a_container_is_seen") else {
        return;
    };
    dock.start("other", OTHER_LABEL, "");
    dock.start(
        "web",
        &format!("{WEB_LABEL} --memory 48m --memory-swap 48m"),
        "",
    );
    dock.start(
        "always",
        "--label plimsoll.host=always.example --restart always",
        "",
    );
    // All this was there before.
    let lb = dock.run().await;
    for host in ["web.example", "always.example", "other.example"] {
        assert_eq!(dock.answer(WEB, host).await, 200, "{host}");
    }
    let load = Client::start(dock.load("other.example"));

    dock.tell("web", "exit=1").await;
    dock.until_answer("web.example", 503, &[200, 502, 504])
        .await;
    assert_eq!(
        dock.0.api_get("/containers/web/json")["State"]["ExitCode"],
        1
    );
    dock.docker("start web");
    dock.until_answer("web.example", 200, &[502, 503]).await;

    dock.tell("web", "eat=96").await;
    dock.until_answer("web.example", 503, &[200, 502, 504])
        .await;
    let ended = dock.0.api_get("/containers/web/json");
    assert_eq!(ended["State"]["OOMKilled"], true, "{}", ended["State"]);
    dock.docker("start web");
    dock.until_answer("web.example", 200, &[502, 503]).await;

    let started = || dock.0.api_get("/containers/always/json")["State"]["StartedAt"].clone();
    let first = started();
    dock.tell("always", "exit=1").await;
    dock.until("the engine starts it again", || started() != first)
        .await;
    dock.until_answer("always.example", 200, &[502, 503]).await;
    assert!(load.more(50, SOON).await);
    load.stop().await.assert_clean();
    dock.close(lb);
}
