//! What else a backend may do to requests under load, besides breaking off and vanishing: it is put out
//! if it has failed, and what fails is what must.

use std::time::Duration;

use plimsoll_testkit::{Answer, Client, ClientPlan, HttpBackend, HttpBehaviour, Report};

use crate::config::{self, DAEMON};
use crate::lab::{HTTP, Lab, SOON};
use crate::stage::Stage;

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Refuses,
    Hangs,
    IsSlow,
    TalksNonsense,
    TalksAlmostHttp,
    SendsAHugeField,
    SendsTooLittle,
}

impl Mode {
    const ALL: [Mode; 7] = [
        Mode::Refuses,
        Mode::Hangs,
        Mode::IsSlow,
        Mode::TalksNonsense,
        Mode::TalksAlmostHttp,
        Mode::SendsAHugeField,
        Mode::SendsTooLittle,
    ];

    async fn begin(self, victim: &HttpBackend) {
        let garbage = |bytes: &[u8]| HttpBehaviour::answering(Answer::Garbage(bytes.to_vec()));
        victim.behave(match self {
            Mode::Refuses => {
                victim.refuse().await;
                // Kept connections are no connections to it any more, either.
                HttpBehaviour {
                    announce_close: true,
                    ..HttpBehaviour::default()
                }
            }
            Mode::Hangs => HttpBehaviour::answering(Answer::Never),
            Mode::IsSlow => HttpBehaviour::slow(Duration::from_millis(300)),
            Mode::TalksNonsense => garbage(b"220 mail.example ESMTP ready\r\n"),
            Mode::TalksAlmostHttp => {
                garbage(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")
            }
            Mode::SendsAHugeField => {
                let head = b"HTTP/1.1 200 OK\r\nX-Huge: ".to_vec();
                garbage(&[head, vec![b'x'; 4 << 20]].concat())
            }
            Mode::SendsTooLittle => HttpBehaviour::answering(Answer::TooLittle(10)),
        });
    }

    /// What those have to see who are lost; none if nobody is.
    fn told(self) -> Option<&'static str> {
        match self {
            Mode::Refuses | Mode::IsSlow => None,
            Mode::Hangs => Some("status 504"),
            Mode::TalksNonsense | Mode::TalksAlmostHttp | Mode::SendsAHugeField => {
                Some("status 502")
            }
            // The head was passed on by then.
            Mode::SendsTooLittle => Some(""),
        }
    }

    /// Whether it is a failure at all.
    fn is_failure(self) -> bool {
        self != Mode::IsSlow
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_fails_in_any_way_under_load_costs_only_what_it_had() {
    let test = "a_backend_that_fails_in_any_way_under_load_costs_only_what_it_had";
    let more = "timeouts = { response = \"1s\", connect = \"1s\" }";
    let Some(stage) = Stage::with(test, more).await else {
        return;
    };
    let quiet = stage.lb.memory();
    for mode in Mode::ALL {
        let clients = stage.plans().map(Client::start);
        assert!(clients[0].more(50, SOON).await && clients[1].more(20, SOON).await);
        let ejections = stage.status().await["ejections"].as_u64().unwrap();
        mode.begin(&stage.victim).await;
        if mode.is_failure() {
            stage.until("down").await;
            let status = stage.status().await;
            assert_ne!(status["reason"], "", "{mode:?}: {status}");
        } else {
            let before = stage.victim.stats().requests;
            let served = async || stage.victim.stats().requests > before + 10;
            stage.lb.until("it is asked", served).await;
        }
        // The others serve on.
        assert!(clients[0].more(100, SOON).await && clients[1].more(20, SOON).await);
        let mut report = Report::default();
        for client in clients {
            report = report.merge(client.stop().await);
        }
        let lost = report.failures.len();
        eprintln!("{mode:?}: {lost} lost, slowest {:?}", report.slowest);
        match mode.told() {
            None => report.assert_clean(),
            Some(words) => {
                for failure in &report.failures {
                    let reason = &failure.reason;
                    let status = reason.contains("status");
                    let told = reason.contains(words) && status != words.is_empty();
                    assert!(told, "{mode:?}: {failure:?}");
                }
            }
        }
        // Three in a row put it out; so many tasks have one each on their way by then.
        assert!(lost <= 20, "{mode:?}: {report}");
        if !mode.is_failure() {
            assert_eq!(stage.status().await["ejections"], ejections, "{mode:?}");
        }
        stage.victim.behave(HttpBehaviour::default());
        stage.victim.listen_again().unwrap();
        stage.pardon();
        stage.until("ready").await;
    }
    let after = stage.lb.memory();
    assert!(after < quiet + 32 * 1024, "from {quiet} to {after} KiB");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_fails_its_checks_under_load_costs_nothing() {
    let test = "a_backend_that_fails_its_checks_under_load_costs_nothing";
    let Some(lab) = Lab::new(test, &["servers"]) else {
        return;
    };
    let all = [8001, 8002].map(|port| lab.http("servers", port));
    let addresses = all.each_ref().map(HttpBackend::address);
    let check = "check = { kind = \"http\", path = \"/health\", interval = \"200ms\", \
                 timeout = \"1s\", rise = 1, fall = 2 }";
    let web = config::web(lab.at("lb", HTTP), &addresses).with(check);
    let lb = lab.start(&format!("{DAEMON}{}", web.text())).await;
    let victim = &all[1];
    let unwell = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let says = std::sync::Arc::clone(&unwell);
    victim.adjust(move |head, behaviour| {
        let asked = head.target() == "/health";
        if asked && says.load(std::sync::atomic::Ordering::SeqCst) {
            behaviour.status = 500;
        }
    });
    let state = async |wanted: &str| lb.backend("web", victim.address()).await["state"] == wanted;
    lb.until("it passes", async || state("ready").await).await;
    let posts = ClientPlan {
        post_every: 2,
        ..lab.requests("web.example")
    };
    let client = Client::start(posts);
    for _ in 0..5 {
        let before = client.answered_by(victim.id());
        let served = async || client.answered_by(victim.id()) > before + 10;
        lb.until("it serves", served).await;
        unwell.store(true, std::sync::atomic::Ordering::SeqCst);
        lb.until("it is out", async || state("down").await).await;
        let status = lb.backend("web", victim.address()).await;
        assert!(
            status["reason"].as_str().unwrap().contains("500"),
            "{status}"
        );
        // What was on its way to it ends; then it gets nothing.
        let idle = async || {
            let status = lb.backend("web", victim.address()).await;
            status["counters"]["active"] == 0
        };
        lb.until("it has nothing left", idle).await;
        let quiet = client.answered_by(victim.id());
        assert!(client.more(100, SOON).await);
        assert_eq!(client.answered_by(victim.id()), quiet);
        unwell.store(false, std::sync::atomic::Ordering::SeqCst);
        lb.until("it is back", async || state("ready").await).await;
    }
    client.stop().await.assert_clean();
    lb.until_idle().await;
    lab.close(lb);
}
