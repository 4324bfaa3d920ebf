//! Containers that are paused, renamed, moved between networks and recreated with other labels.

use plimsoll_testkit::{Client, ClientPlan, Reuse};

use crate::dock::{Dock, SOON, WEB};
use crate::lb::names;

const LABELS: &str = "--label plimsoll.service=web --label plimsoll.host=web.example";

#[tokio::test(flavor = "multi_thread")]
async fn the_paused_drain_and_the_renamed_go_on() {
    let Some(dock) = Dock::new("the_paused_drain_and_the_renamed_go_on") else {
        return;
    };
    let lb = dock.run().await;
    for name in ["one", "two"] {
        dock.start(name, LABELS, "");
        lb.until_state("web", name, "ready").await;
    }
    let load = Client::start(dock.load("web.example"));
    dock.until("both serve", || {
        load.answered_by("one") > 0 && load.answered_by("two") > 0
    })
    .await;

    dock.docker("pause two");
    let seen = lb.until_state("web", "two", "draining").await;
    assert_eq!(seen["reason"], "paused");
    let before = load.answered_by("two");
    // What it was asked before waits for it, and keeps those clients busy.
    let fresh = Client::run(dock.load("web.example"), 100).await;
    fresh.assert_clean();
    assert_eq!((fresh.of("one"), load.answered_by("two")), (100, before));
    dock.docker("unpause two");
    lb.until_state("web", "two", "ready").await;
    dock.until("it serves again", || load.answered_by("two") > before + 10)
        .await;

    dock.docker("rename two three");
    let renamed = async || names(&lb.service("web").await) == ["one", "three"];
    lb.until("it has its new name", renamed).await;
    let seen = lb.backend("web", "three").await;
    assert_eq!(seen["origin"]["entry"], "container three");
    // It is the same as before: what it counts goes on.
    assert!(seen["counters"]["requests"].as_u64().unwrap() > before);
    assert!(load.more(50, SOON).await);
    load.stop().await.assert_clean();
    dock.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_remaining_network_serves() {
    let Some(dock) = Dock::new("the_remaining_network_serves") else {
        return;
    };
    for network in ["back", "front"] {
        dock.docker(&format!("network create {network}"));
    }
    let lb = dock.run().await;
    for name in ["one", "two"] {
        dock.start(name, &format!("{LABELS} --network front"), "");
        lb.until_state("web", name, "ready").await;
    }
    let place = |network: &str| format!("{}:8080", dock.0.address("two", network));
    let at = async |place: &str, reason: &str| {
        let there = async || {
            let seen = lb.backend("web", "two").await;
            seen["addr"] == place && seen["reason"] == reason
        };
        lb.until(&format!("it is at {place} {reason}"), there).await;
    };
    let load = Client::start(dock.load("web.example"));
    let serves = async || {
        let before = load.answered_by("two");
        dock.until("it serves", || load.answered_by("two") > before + 10)
            .await;
    };
    at(&place("front"), "").await;

    // By their names, `back` comes first.
    dock.docker("network connect back two");
    at(&place("back"), "on network back (also in front)").await;
    serves().await;
    // What was asked by the other one is answered by now.
    dock.docker("network disconnect front two");
    at(&place("back"), "").await;
    serves().await;
    dock.docker("network connect front two");
    at(&place("back"), "on network back (also in front)").await;
    assert!(load.more(50, SOON).await);
    load.stop().await.assert_clean();

    // Whatever is on its way in a network that is taken away never comes back, so nothing is.
    for (from, to) in [("back", "front"), ("front", "bridge")] {
        dock.docker(&format!("network disconnect {from} two"));
        if to == "bridge" {
            let gone = async || names(&lb.service("web").await) == ["one"];
            lb.until("it serves no more", gone).await;
            let reason = lb.aside("container two").await["reason"].to_string();
            let mends = "docker network connect bridge two\"";
            assert!(reason.ends_with(mends), "{reason}");
            dock.docker("network connect bridge two");
        }
        at(&place(to), "").await;
        let report = Client::run(dock.load("web.example"), 40).await;
        report.assert_clean();
        assert!(report.of("two") > 0, "{to}: {report}");
        assert!(lb.aside("container two").await.is_null());
    }
    dock.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn recreated_with_other_labels() {
    let Some(dock) = Dock::new("recreated_with_other_labels") else {
        return;
    };
    let lb = dock.run().await;
    let service = "--label plimsoll.service=web --label plimsoll.scheduler";
    dock.start(
        "web",
        &format!("{service}=rr --label plimsoll.host=old.example"),
        "",
    );
    dock.start("other", "--label plimsoll.host=other.example", "");
    dock.until_answer("old.example", 200, &[0, 404, 502, 503])
        .await;
    dock.until_answer("other.example", 200, &[404, 502, 503])
        .await;
    let load = Client::start(ClientPlan {
        reuse: Reuse::Times(5),
        ..dock.load("other.example")
    });
    assert_eq!(lb.service("web").await["scheduler"], "rr");
    let renewed = "--label plimsoll.host=new.example --label plimsoll.path=/";
    dock.docker("rm -f web");
    dock.start("web", &format!("{service}=lc {renewed}"), "");
    dock.until_answer("new.example", 200, &[404, 502, 503])
        .await;
    assert_eq!(lb.service("web").await["scheduler"], "lc");
    // Another container has its service now: what it said is gone with it.
    assert_eq!(dock.answer(WEB, "old.example").await, 404);
    load.stop().await.assert_clean();
    dock.close(lb);
}
