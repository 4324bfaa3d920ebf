//! Which signals drain, and for how long.

use plimsoll_testkit::Client;

use crate::dock::{Dock, SOON};

#[tokio::test(flavor = "multi_thread")]
async fn only_a_signal_that_stops_drains_and_only_for_its_time() {
    let Some(dock) = Dock::new("only_a_signal_that_stops_drains_and_only_for_its_time") else {
        return;
    };
    let lb = dock.run().await;
    let labels = "--label plimsoll.service=web --label plimsoll.host=web.example";
    dock.start("one", labels, "");
    dock.start(
        "two",
        &format!("{labels} --stop-timeout 2"),
        "--term ignore",
    );
    for name in ["one", "two"] {
        lb.until_state("web", name, "ready").await;
    }
    let load = Client::start(dock.load("web.example"));
    dock.until("both serve", || {
        load.answered_by("one") > 0 && load.answered_by("two") > 0
    })
    .await;
    let since = async |name| lb.backend("web", name).await["since"].as_f64().unwrap();

    let quiet = since("one").await;
    dock.docker("kill -s HUP one");
    dock.docker("kill -s TERM two");
    let seen = lb.until_state("web", "two", "draining").await;
    assert_eq!(seen["reason"], "told to stop (SIGTERM)");
    // The other signal came before.
    assert_eq!(lb.backend("web", "one").await["state"], "ready");
    assert!(since("one").await >= quiet);
    lb.until("it has nothing", async || {
        lb.backend("web", "two").await["counters"]["active"] == 0
    })
    .await;
    let before = load.answered_by("two");
    assert!(load.more(50, SOON).await);
    assert_eq!(load.answered_by("two"), before);
    // It should be dead by now.
    lb.until_state("web", "two", "ready").await;
    dock.until("it serves again", || load.answered_by("two") > before)
        .await;
    load.stop().await.assert_clean();
    dock.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_label_outlasts_the_stop_time_out() {
    let Some(dock) = Dock::new("the_drain_label_outlasts_the_stop_time_out") else {
        return;
    };
    let lb = dock.run().await;
    // Services of their own: what a service is drained in, its containers have to agree on.
    dock.start(
        "patient",
        "--label plimsoll.host=patient.example --label plimsoll.drain=1h --stop-timeout 1 \
         --stop-signal QUIT",
        "--term ignore",
    );
    dock.start(
        "brief",
        "--label plimsoll.host=brief.example --stop-timeout 1",
        "--term ignore",
    );
    for name in ["patient", "brief"] {
        lb.until_state(&format!("{name}.example"), name, "ready")
            .await;
    }
    dock.docker("kill -s QUIT patient");
    let seen = lb
        .until_state("patient.example", "patient", "draining")
        .await;
    assert_eq!(seen["reason"], "told to stop (SIGQUIT)");
    // Told later, and ready again before.
    dock.docker("kill -s TERM brief");
    lb.until_state("brief.example", "brief", "draining").await;
    lb.until_state("brief.example", "brief", "ready").await;
    let seen = lb.backend("patient.example", "patient").await;
    assert_eq!(seen["state"], "draining");
    // A new start ends the drain.
    dock.docker("restart -t 0 patient");
    lb.until_state("patient.example", "patient", "ready").await;
    dock.until_answer("patient.example", 200, &[502, 503]).await;
    dock.close(lb);
}
