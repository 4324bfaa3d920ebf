//! A container's HEALTHCHECK says whether it serves.

use plimsoll_testkit::Client;

use crate::dock::{Dock, SOON, WEB};

#[tokio::test(flavor = "multi_thread")]
async fn only_the_healthy_serve() {
    let Some(dock) = Dock::new("only_the_healthy_serve") else {
        return;
    };
    let label = "--label plimsoll.service=web --label plimsoll.host=web.example";
    // As long as its start period lasts, a failed check leaves it as it is.
    let late = format!("{label} --health-start-period 1h");
    dock.start_of("checked", "late", &late, "--health down");
    let lb = dock.run().await;
    let seen = lb.until_state("web", "late", "starting").await;
    assert_eq!(seen["reason"], "health: starting");
    assert_eq!(dock.answer(WEB, "web.example").await, 503);
    // It could answer, and is not asked.
    assert_eq!(dock.answer(dock.at("late"), "web.example").await, 200);
    assert_eq!(lb.backend("web", "late").await["counters"]["requests"], 0);

    dock.start_of("checked", "sound", label, "");
    lb.until_state("web", "sound", "ready").await;
    let load = Client::start(dock.load("web.example"));
    assert!(load.more(50, SOON).await);
    assert_eq!(load.answered_by("late"), 0);
    dock.tell("late", "health=up").await;
    lb.until_state("web", "late", "ready").await;
    dock.until("it gets its share", || load.answered_by("late") > 0)
        .await;

    dock.tell("late", "health=down").await;
    let seen = lb.until_state("web", "late", "down").await;
    let reason = seen["reason"].as_str().unwrap();
    // What the check wrote.
    assert!(
        reason.starts_with("unhealthy: ") && reason.contains("503"),
        "{reason}"
    );
    // What it has may end; then it gets nothing more.
    lb.until("it has nothing", async || {
        lb.backend("web", "late").await["counters"]["active"] == 0
    })
    .await;
    let before = load.answered_by("late");
    assert!(load.more(100, SOON).await);
    assert_eq!(load.answered_by("late"), before);

    dock.tell("late", "health=up").await;
    lb.until_state("web", "late", "ready").await;
    dock.until("it gets its share again", || {
        load.answered_by("late") > before
    })
    .await;
    load.stop().await.assert_clean();

    for name in ["late", "sound"] {
        dock.tell(name, "health=down").await;
    }
    dock.until_answer("web.example", 503, &[200]).await;
    dock.tell("sound", "health=up").await;
    dock.until_answer("web.example", 200, &[503]).await;
    dock.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_check_whoever_listens_late_costs_nothing() {
    let Some(dock) = Dock::new("without_a_check_whoever_listens_late_costs_nothing") else {
        return;
    };
    let lb = dock.run().await;
    let label = "--label plimsoll.service=web --label plimsoll.host=web.example";
    dock.start("one", label, "");
    dock.until_answer("web.example", 200, &[0, 404, 502, 503])
        .await;
    let load = Client::start(dock.load("web.example"));
    // It runs, and refuses for a while.
    dock.start("late", label, "--wait 1500");
    let seen = lb.until_state("web", "late", "down").await;
    let reason = seen["reason"].as_str().unwrap();
    assert!(reason.starts_with("connection refused"), "{reason}");
    dock.until("it serves", || load.answered_by("late") > 0)
        .await;
    load.stop().await.assert_clean();
    dock.close(lb);
}
