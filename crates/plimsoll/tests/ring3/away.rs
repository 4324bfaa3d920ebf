//! The engine goes away and comes back, under load.

use plimsoll_testkit::{Client, ClientPlan, EnginePlan};

use crate::dock::{Dock, SOON, WEB};

const LABELS: &str = "--label plimsoll.service=web --label plimsoll.host=web.example";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_engine_is_away() {
    let plan = EnginePlan {
        live_restore: true,
        ..EnginePlan::default()
    };
    let Some(dock) = Dock::with("nothing_is_lost_while_the_engine_is_away", plan) else {
        return;
    };
    let lb = dock.run().await;
    for name in ["one", "two"] {
        dock.start(name, LABELS, "");
        lb.until_state("web", name, "ready").await;
    }
    // What is cut may be sent again.
    let load = Client::start(ClientPlan {
        post_every: 0,
        ..dock.load("web.example")
    });
    let stale = async || {
        lb.until("the source is stale", async || {
            lb.source().await["state"] == "stale"
        })
        .await;
        let source = lb.source().await;
        assert_ne!(source["reason"], "", "{source}");
        assert_eq!(lb.backend("web", "two").await["state"], "ready");
        assert!(load.more(100, SOON).await);
    };
    let fresh = async || {
        lb.until("the source is fresh", async || {
            lb.source().await["state"] == "fresh"
        })
        .await;
        assert_eq!(lb.source().await["reason"], "");
    };

    dock.0.stop().unwrap();
    stale().await;
    dock.0.resume().unwrap();
    fresh().await;
    dock.start("three", LABELS, "");
    lb.until_state("web", "three", "ready").await;
    dock.until("it serves", || load.answered_by("three") > 0)
        .await;

    let three = dock.at("three");
    dock.0.kill().unwrap();
    stale().await;
    // One of them ends, and there is nobody to tell it.
    dock.tell_at(three, "exit=0").await;
    assert!(load.more(100, SOON).await);
    dock.0.resume().unwrap();
    fresh().await;
    lb.until("it is gone", async || {
        lb.backend("web", "three").await.is_null()
    })
    .await;
    dock.start("four", LABELS, "");
    lb.until_state("web", "four", "ready").await;
    dock.until("it serves", || load.answered_by("four") > 0)
        .await;
    dock.docker("rm -f one");
    lb.until("it is gone", async || {
        lb.backend("web", "one").await.is_null()
    })
    .await;
    let report = load.stop().await;
    report.assert_clean();
    dock.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_takes_its_containers_along() {
    let Some(dock) = Dock::new("an_engine_that_takes_its_containers_along") else {
        return;
    };
    let lb = dock.run().await;
    dock.start("always", &format!("{LABELS} --restart always"), "");
    dock.start("once", "--label plimsoll.host=once.example", "");
    dock.until_answer("web.example", 200, &[0, 404, 502, 503])
        .await;
    dock.until_answer("once.example", 200, &[404, 502, 503])
        .await;
    dock.0.restart().unwrap();
    dock.until_answer("web.example", 200, &[502, 503]).await;
    dock.until_answer("once.example", 503, &[502]).await;
    dock.docker("start once");
    dock.until_answer("once.example", 200, &[502, 503]).await;
    assert_eq!(dock.answer(WEB, "web.example").await, 200);
    dock.close(lb);
}
