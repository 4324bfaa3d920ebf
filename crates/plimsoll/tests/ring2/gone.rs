//! Backends whose process is killed: they are put out for a growing while, never all of them, and
//! come back when they serve again.

use std::time::{Duration, Instant};

use plimsoll_testkit::{
    Client, ClientPlan, Ending, HttpBackend, HttpBehaviour, Reuse, TunnelPlan, Tunnels, list,
};
use serde_json::Value;

use crate::config;
use crate::lab::{Lab, SOON, TCP};
use crate::stage::Stage;

/// How long a backend is put out for, by the reason that it has.
fn length(reason: &str) -> f64 {
    let words = reason.rsplit_once("out for ").unwrap().1;
    words.trim_end_matches(" s").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backend_is_out_for_longer_and_longer_and_comes_back() {
    let test = "a_killed_backend_is_out_for_longer_and_longer_and_comes_back";
    let Some(stage) = Stage::new(test).await else {
        return;
    };
    // So that every request has a long middle.
    for backend in stage.good.iter().chain([&stage.victim]) {
        backend.behave(HttpBehaviour::slow(Duration::from_millis(20)));
    }
    let tunnels = Tunnels::open(stage.lab.tunnels("web.example", 8))
        .await
        .unwrap();
    let started = Instant::now();
    let [gets, kept, fresh] = stage.plans().map(Client::start);
    assert!(gets.more(100, SOON).await);
    stage.victim.kill(Ending::Reset).await;
    let killed = started.elapsed();

    // It is tried again and again, less and less often.
    let mut lengths = Vec::new();
    for nth in 1..=3 {
        let out = async || {
            let status = stage.status().await;
            status["state"] == "down" && status["ejections"] == nth
        };
        stage.lb.until("it is put out once more", out).await;
        let status = stage.status().await;
        let reason = status["reason"].as_str().unwrap();
        lengths.push(length(reason));
        assert!(status["since"].as_f64().unwrap() < 2.0, "{status}");
        if nth > 1 {
            assert!(reason.contains("connection refused"), "{status}");
        }
    }
    for (length, full) in lengths.iter().zip([1.0, 2.0, 4.0]) {
        assert!(*length > 0.79 * full && *length <= full, "{lengths:?}");
    }
    let served = stage.victim.stats().requests;
    stage.victim.listen_again().unwrap();
    stage.until("ready").await;
    let back = async || stage.victim.stats().requests > served + 20;
    stage.lb.until("it serves again", back).await;
    let good = async || stage.status().await["reason"] == "";
    stage.lb.until("all is forgotten", good).await;

    gets.stop().await.assert_clean();
    let posts = kept.stop().await.merge(fresh.stop().await);
    // What was at the victim at that moment, one for each task at most; nothing is lost by trying.
    eprintln!("lost {}, out for {lengths:?} s", posts.failures.len());
    assert!(posts.failures.len() <= 4, "{posts}");
    for failure in &posts.failures {
        let after = failure.at.saturating_sub(killed);
        assert!(
            after < Duration::from_millis(500),
            "{failure:?}, killed at {killed:?}"
        );
    }
    let tunnels = tunnels.stop().await;
    for tunnel in &tunnels.tunnels {
        let broken = tunnel.broken.is_some();
        assert_eq!(broken, tunnel.backend == stage.victim.id(), "{tunnel:?}");
    }
    assert_eq!(tunnels.of(stage.victim.id()).count(), 2);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn never_all_are_put_out() {
    let Some(stage) = Stage::new("never_all_are_put_out").await else {
        return;
    };
    let all: Vec<&HttpBackend> = stage.good.iter().chain([&stage.victim]).collect();
    let client = Client::start(stage.lab.requests("web.example"));
    assert!(client.more(100, SOON).await);
    for backend in &all {
        backend.kill(Ending::Close).await;
    }
    // For as long as it takes for the first of them to be tried a third time.
    let third = async || {
        let status = stage.lb.status().await;
        let backends = list(&status["services"][0]["backends"]);
        let ready = backends.iter().filter(|b| b["state"] == "ready").count();
        assert!(ready > 0, "all are out: {backends:#?}");
        let count = |key: &str| {
            backends
                .iter()
                .map(|b| b[key].as_u64().unwrap())
                .sum::<u64>()
        };
        // It says so until another one is back on probation.
        let last = |b: &Value| {
            let reason = b["reason"].as_str().unwrap();
            reason.contains("kept, it is the last")
        };
        count("ejections") >= 4 && count("spared") >= 1 && backends.iter().any(last)
    };
    stage.lb.until("each was put out", third).await;

    // The host is known: that nothing serves it is no 404.
    let failed = client.failed();
    let goes_on = async || client.failed() > failed + 20;
    stage.lb.until("requests are answered", goes_on).await;
    let report = client.stop().await;
    for failure in &report.failures {
        let reason = &failure.reason;
        assert!(
            reason.contains("status 502") || reason.contains("status 503"),
            "{failure:?}"
        );
    }

    // As soon as they are back requests are served, whoever is still out.
    for backend in &all {
        backend.listen_again().unwrap();
    }
    Client::run(stage.lab.requests("web.example"), 100)
        .await
        .assert_clean();
    let ready = async || {
        let status = stage.lb.status().await;
        let backends = list(&status["services"][0]["backends"]);
        backends.iter().all(|backend| backend["state"] == "ready")
    };
    stage.lb.until("all are back", ready).await;
    let report = Client::run(stage.lab.requests("web.example"), 100).await;
    report.assert_clean();
    assert_eq!(report.by_backend.len(), 4, "{report}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_tcp_backend_takes_its_own_connections_with_it_and_no_others() {
    let test = "a_killed_tcp_backend_takes_its_own_connections_with_it_and_no_others";
    let Some(lab) = Lab::new(test, &["good", "bad"]) else {
        return;
    };
    let (good, victim) = (
        [lab.tcp("good", 9001), lab.tcp("good", 9002)],
        lab.tcp("bad", 9001),
    );
    let all = [good[0].address(), good[1].address(), victim.address()];
    let lb = lab
        .start(&config::tcp(lab.at("lb", TCP), &all).text())
        .await;
    for ending in [Ending::Close, Ending::Reset] {
        let plan = TunnelPlan {
            place: lab.place("client"),
            ..TunnelPlan::tcp(lab.at("lb", TCP), 9)
        };
        let tunnels = Tunnels::open(plan).await.unwrap();
        let fresh = Client::start(ClientPlan {
            reuse: Reuse::Never,
            ..lab.exchanges()
        });
        assert!(fresh.more(50, SOON).await && tunnels.more(50, SOON).await);
        victim.kill(ending).await;
        let down = async || lb.backend("tcp", victim.address()).await["state"] == "down";
        lb.until("it is put out", down).await;
        assert!(fresh.more(100, SOON).await && tunnels.more(50, SOON).await);
        let (report, tunnels) = (fresh.stop().await, tunnels.stop().await);
        // A new connection each: those that were at the victim when it was killed.
        assert!(report.failures.len() <= 4, "{report}");
        for tunnel in &tunnels.tunnels {
            let broken = tunnel.broken.is_some();
            assert_eq!(broken, tunnel.backend == victim.id(), "{tunnel:?}");
        }
        assert_eq!(tunnels.of(victim.id()).count(), 3);
        lb.until_idle().await;
        victim.listen_again().unwrap();
        lb.tell(&["ready", "tcp", &victim.address().to_string()]);
    }
    Client::run(lab.exchanges(), 50).await.assert_clean();
    lab.close(lb);
}
