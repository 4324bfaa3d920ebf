//! Clients that send nothing, send slowly or read nothing, in masses, beside others that behave.

use std::time::{Duration, Instant};

use plimsoll_testkit::{Client, Raw, Reuse, Tunnels, WANT_HEADER, list};
use tokio::time::timeout;

use crate::lab::{HTTP, SOON};
use crate::stage::Stage;

/// So many of each kind.
const CROWD: usize = 1000;

/// Those who read nothing are fewer: the system's buffers hold some megabytes of each.
const DEAF: usize = 12;

/// What one of the crowd may cost, in KiB: the project promises 12 for an idle connection, and this
/// is a build without optimisation.
const EACH: u64 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_peers_that_do_not_go_on_disturbs_nobody() {
    let test = "a_flood_of_peers_that_do_not_go_on_disturbs_nobody";
    let more = "timeouts = { header = \"3s\", keepalive = \"5s\", idle = \"5s\" }";
    let Some(stage) = Stage::with(test, more).await else {
        return;
    };
    let lb = &stage.lb;
    let (place, address) = (stage.lab.place("client"), stage.lab.at("lb", HTTP));
    let kept = Client::start(stage.lab.requests("web.example"));
    let fresh = Client::start(plimsoll_testkit::ClientPlan {
        reuse: Reuse::Never,
        tasks: 2,
        ..stage.lab.requests("web.example")
    });
    let tunnels = Tunnels::open(stage.lab.tunnels("web.example", 4))
        .await
        .unwrap();
    assert!(kept.more(200, SOON).await);
    let before = lb.memory();

    let started = Instant::now();
    let (mut silent, mut slow, mut deaf) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..CROWD {
        silent.push(Raw::connect_from(&place, address).await.unwrap());
        let mut raw = Raw::connect_from(&place, address).await.unwrap();
        raw.send("GET / HTTP/1.1\r\nHost: web.example\r\nX-Slow: ")
            .await
            .unwrap();
        slow.push(raw);
    }
    for _ in 0..DEAF {
        let mut raw = Raw::connect_from(&place, address).await.unwrap();
        let want =
            format!("GET / HTTP/1.1\r\nHost: web.example\r\n{WANT_HEADER}: 20000000\r\n\r\n");
        raw.send(want).await.unwrap();
        deaf.push(raw);
    }
    // A byte now and then does not help them: the time is that for the whole head.
    for _ in 0..3 {
        assert!(kept.more(100, SOON).await && fresh.more(50, SOON).await);
        // Once they are told to go, what they still send would reset what they are told.
        if started.elapsed() < Duration::from_secs(2) {
            for raw in &mut slow {
                raw.send("x").await.unwrap();
            }
        }
    }
    let during = lb.memory();
    let crowd = u64::try_from(2 * CROWD + DEAF).unwrap();
    eprintln!("{crowd} peers: from {before} to {during} KiB");
    assert!(
        during - before < EACH * crowd,
        "from {before} to {during} KiB"
    );
    assert_eq!((kept.failed(), fresh.failed(), tunnels.broken()), (0, 0, 0));
    for raw in &mut slow {
        let answer = timeout(SOON, raw.read_response(SOON))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((answer.status, answer.closes()), (408, true));
    }
    for raw in &mut silent {
        let (bytes, _) = raw.read_to_end(SOON).await.unwrap();
        assert!(bytes.is_empty(), "nothing was asked: {bytes:?}");
    }
    drop((slow, silent, deaf));
    let gone = async || {
        let listen = &lb.status().await["services"][0]["listens"][0];
        listen["connections"].as_u64().unwrap() < 20
    };
    lb.until("the crowd is gone", gone).await;

    // The same once more: nothing has leaked.
    let settled = lb.memory();
    for _ in 0..2 {
        let mut again = Vec::new();
        for _ in 0..CROWD {
            again.push(Raw::connect_from(&place, address).await.unwrap());
        }
        drop(again);
        lb.until("the crowd is gone", gone).await;
    }
    let after = lb.memory();
    eprintln!("{settled} KiB when they are gone, {after} after two floods more");
    assert!(after < settled + 4096, "from {settled} to {after} KiB");
    assert!(kept.more(100, SOON).await && fresh.more(50, SOON).await);
    kept.stop().await.assert_clean();
    let report = fresh.stop().await;
    report.assert_clean();
    assert!(report.slowest < Duration::from_secs(2), "{report}");
    tunnels.stop().await.assert_clean();
    let status = lb.status().await;
    for backend in list(&status["services"][0]["backends"]) {
        assert!(
            backend["state"] == "ready" && backend["ejections"] == 0,
            "{backend}"
        );
    }
    stage.close().await;
}
