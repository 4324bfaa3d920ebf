//! Backends under check: who fails gets nothing, who passes is back, and nothing of a check
//! outlives it.

use std::net::SocketAddr;

use plimsoll_testkit::{
    Client, ClientPlan, Daemon, DaemonPlan, HttpBackend, HttpBehaviour, Place, Port, Raw,
};

use crate::{BINARY, SOON, Stage, web};

/// Two backends, each with another server that answers its checks, at the same port of both
/// addresses.
struct Checked {
    stage: Stage,
    health: [HttpBackend; 2],
}

fn status(status: u16) -> HttpBehaviour {
    HttpBehaviour {
        status,
        ..HttpBehaviour::default()
    }
}

impl Checked {
    async fn new() -> Self {
        let (port, checks) = (Port::take().unwrap(), Port::take().unwrap());
        let at = |last: u8, port: u16| SocketAddr::from(([127, 0, 0, last], port));
        let server = |id: &str, addr| HttpBackend::start_at(id, &Place::Here, addr).unwrap();
        let backends = vec![server("a", at(1, 0)), server("b", at(2, 0))];
        let health = [1, 2].map(|last| server("health", at(last, checks.number())));
        let addresses = [backends[0].address(), backends[1].address()];
        let check = format!(
            "check = {{ kind = \"http\", path = \"/health\", port = {}, interval = \"100ms\", \
             rise = 2, fall = 2 }}\n",
            checks.number()
        );
        let config = web(port.address(), &addresses) + &check;
        let plan = DaemonPlan::new(BINARY, config);
        let daemon = Daemon::start(plan).await.unwrap();
        let stage = Stage {
            daemon,
            port,
            backends,
        };
        stage.until_ready().await;
        Self { stage, health }
    }

    /// State and reason of a backend.
    async fn backend(&self, at: usize) -> (String, String) {
        let answer = self.stage.daemon.admin_get("/v1/status").await.unwrap();
        let status: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
        let backends = status["services"][0]["backends"].as_array();
        let backends = backends.unwrap_or_else(|| panic!("{status}"));
        let address = self.stage.address(at);
        let backend = backends.iter().find(|b| b["addr"] == address).unwrap();
        let text = |key: &str| backend[key].as_str().unwrap().to_owned();
        (text("state"), text("reason"))
    }

    async fn until(&self, at: usize, state: &str, reason: &str) {
        let wanted = (state, reason);
        let holds = async || {
            let (state, reason) = self.backend(at).await;
            (state.as_str(), reason.as_str()) == wanted
        };
        self.stage.until(holds).await;
    }

    fn failed(&self) -> String {
        let port = self.health[0].address().port();
        format!("check http:/health at port {port}: status 500")
    }

    async fn answer(&self) -> u16 {
        let mut client = Raw::connect(self.stage.port.address()).await.unwrap();
        let answer = client.get("web.example", "/", SOON).await.unwrap();
        answer.head.status().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fails_gets_nothing_and_comes_back() {
    let checked = Checked::new().await;
    let stage = &checked.stage;
    for at in [0, 1] {
        checked.until(at, "ready", "").await;
    }
    let client = Client::start(ClientPlan::http(stage.port.address(), "web.example"));
    let both = async || client.answered_by("a") > 10 && client.answered_by("b") > 10;
    stage.until(both).await;

    checked.health[1].behave(status(500));
    checked.until(1, "down", &checked.failed()).await;
    let shown = stage.ask(&["status"]);
    assert!(shown.out.contains(&checked.failed()), "{}", shown.out);
    // What was on its way there has ended when some more have been answered.
    assert!(client.more(client.answered() + 50, SOON).await);
    let before = stage.backends[1].stats().requests;
    assert!(client.more(client.answered() + 200, SOON).await);
    assert_eq!(stage.backends[1].stats().requests, before);

    checked.health[1].behave(status(204));
    checked.until(1, "ready", "").await;
    let before = client.answered_by("b");
    stage
        .until(async || client.answered_by("b") > before + 10)
        .await;
    client.stop().await.assert_clean();
    let seen = checked.health[0].seen();
    assert!(
        seen.iter()
            .all(|seen| seen.head.start == "GET /health HTTP/1.1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn if_all_fail_none_is_used_until_the_check_is_gone() {
    let checked = Checked::new().await;
    let stage = &checked.stage;
    for at in [0, 1] {
        checked.until(at, "ready", "").await;
    }
    assert_eq!(checked.answer().await, 200);
    for at in [0, 1] {
        checked.health[at].behave(status(500));
    }
    for at in [0, 1] {
        checked.until(at, "down", &checked.failed()).await;
    }
    assert_eq!(checked.answer().await, 503);
    let addresses = [stage.backends[0].address(), stage.backends[1].address()];
    let plain = web(stage.port.address(), &addresses);
    stage.daemon.replace_config(&plain).unwrap();
    stage.daemon.hup().unwrap();
    for at in [0, 1] {
        checked.until(at, "ready", "").await;
    }
    assert_eq!(checked.answer().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_passed_yet_is_starting() {
    let (port, slow) = (Port::take().unwrap(), HttpBackend::start("a").unwrap());
    slow.refuse().await;
    let config = web(port.address(), &[slow.address()]) + "check = \"tcp\"\n";
    let daemon = Daemon::start(DaemonPlan::new(BINARY, config))
        .await
        .unwrap();
    let stage = Stage {
        daemon,
        port,
        backends: vec![slow],
    };
    let checked = Checked {
        stage,
        health: [
            HttpBackend::start("unused").unwrap(),
            HttpBackend::start("unused").unwrap(),
        ],
    };
    checked.stage.until_ready().await;
    checked
        .until(0, "starting", "check tcp: connection refused")
        .await;
    assert_eq!(checked.answer().await, 503);
    checked.stage.backends[0].listen_again().unwrap();
    checked.until(0, "ready", "").await;
    assert_eq!(checked.answer().await, 200);
}

/// A check that is added, and one that is changed, lose nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_comes_or_changes_loses_nothing() {
    let stage = Stage::new().await;
    let addresses = [stage.backends[0].address(), stage.backends[1].address()];
    let plain = web(stage.port.address(), &addresses);
    let client = Client::start(ClientPlan::http(stage.port.address(), "web.example"));
    let checks_of = |target: &str| {
        let seen = stage.backends[0].seen();
        let asked = |seen: &&plimsoll_testkit::Seen| seen.head.start.contains(target);
        seen.iter().filter(asked).count()
    };
    for target in ["/one", "/two"] {
        let config = format!("{plain}check = \"http:{target}\"\n");
        stage.daemon.replace_config(&config).unwrap();
        stage.daemon.hup().unwrap();
        stage.until(async || checks_of(target) > 0).await;
        assert!(client.more(client.answered() + 100, SOON).await);
    }
    stage.daemon.replace_config(&plain).unwrap();
    stage.daemon.hup().unwrap();
    assert!(client.more(client.answered() + 100, SOON).await);
    client.stop().await.assert_clean();
}
