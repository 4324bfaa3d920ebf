//! `explain` where nothing can serve. The engine is a fake one, its containers are on the network of
//! the host.

use plimsoll_testkit::{Daemon, DaemonPlan, FakeContainer, FakeEngine, HttpBackend, Port, Raw};
use serde_json::Value;

use crate::{BINARY, SOON, plimsoll, text};

/// A daemon in front of an engine, and what it asks for.
struct World {
    engine: FakeEngine,
    listen: Port,
    daemon: Daemon,
}

impl World {
    async fn new() -> Self {
        let engine = FakeEngine::start().unwrap();
        let listen = Port::take().unwrap();
        let (at, socket) = (listen.address().to_string(), engine.socket());
        let args = [
            "run",
            "--admin",
            "{admin}",
            "--docker",
            text(&socket),
            "--listen",
            &at,
        ];
        let plan = DaemonPlan {
            args: args.map(str::to_owned).to_vec(),
            ..DaemonPlan::new(BINARY, "")
        };
        let daemon = Daemon::start(plan).await.unwrap();
        Self {
            engine,
            listen,
            daemon,
        }
    }

    fn ask(&self, args: &[&str]) -> String {
        let admin = self.daemon.admin_path();
        let ended = plimsoll(&[args, &["--admin", text(&admin)]].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        ended.out
    }

    /// What is said of a request for a host.
    fn explain(&self, host: &str) -> String {
        let to = self.listen.address().to_string();
        self.ask(&["explain", "192.0.2.7", &to, "--host", host])
    }

    fn explain_json(&self, host: &str) -> Value {
        let to = self.listen.address().to_string();
        let said = self.ask(&["explain", "192.0.2.7", &to, "--host", host, "--json"]);
        serde_json::from_str(&said).unwrap()
    }

    /// Waits until all these words are said of a request for a host.
    async fn until_said(&self, host: &str, words: &[&str]) {
        let started = std::time::Instant::now();
        loop {
            let said = self.explain(host);
            let missing = words.iter().find(|word| !said.contains(**word));
            let Some(missing) = missing else {
                return;
            };
            assert!(started.elapsed() < SOON, "no {missing:?} in {said}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The status that a request for a host gets.
    async fn status_of(&self, host: &str) -> u16 {
        let mut raw = Raw::connect(self.listen.address()).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        raw.send(&request).await.unwrap();
        raw.read_head(SOON).await.unwrap().status().unwrap()
    }
}

/// A container of a service of its own name, with this backend for `HOST.example`.
fn container(name: &str, backend: &HttpBackend) -> FakeContainer {
    let port = backend.address().port().to_string();
    let container = FakeContainer::web(name, &format!("{name}.example"));
    container.mode("host").label("plimsoll.port", &port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_usable_backend_is_said_to_answer_503() {
    let world = World::new().await;
    let backend = HttpBackend::start("web").unwrap();
    let address = backend.address().to_string();
    let id = world
        .engine
        .world(|engine| engine.run(container("web", &backend).label("plimsoll.service", "web")));
    let ready = format!("backend {address} (web): weight 1");
    let words = [
        "over 1 backend that",
        &ready,
        "goes to one of the backends of service web",
    ];
    world.until_said("web.example", &words).await;

    world.engine.world(|engine| engine.pause(&id));
    let paused = format!("backend {address} (web): draining: paused");
    let words = [
        &*paused,
        "\nanswered 503: no backend of service `web` can serve",
    ];
    world.until_said("web.example", &words).await;
    assert_eq!(world.status_of("web.example").await, 503);
    let said = world.explain_json("web.example");
    assert_eq!(
        (&said["status"], &said["service"]),
        (&503.into(), &"web".into())
    );
    assert_eq!(said["nowhere"], "no backend of service `web` can serve");

    // Another container of the service is put aside: it is named.
    let mut other = container("other", &backend).label("plimsoll.service", "web");
    other = other
        .label("plimsoll.host", "web.example")
        .label("plimsoll.scheduler", "lc");
    world.engine.world(|engine| {
        let other = engine.run(other);
        engine.pause(&other);
    });
    let words = [
        "put aside\n  service `web` of docker:",
        "(container other)",
        "plimsoll.scheduler is `lc` here but `wrr` in container web",
    ];
    world.until_said("web.example", &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_container_is_put_aside_is_said_to_be() {
    let world = World::new().await;
    let backend = HttpBackend::start("b").unwrap();
    world.engine.world(|engine| {
        engine.run(container("good", &backend));
        engine.run(container("e2", &backend).label("plimsoll.weight", "heavy"));
        engine.run(container("typo", &backend).label("plimsoll.hots", "shop.example"));
        engine
            .run(container("plane", &backend).label("plimsoll.listen", "127.0.0.200:20000-40000"));
    });
    world
        .until_said("good.example", &["goes to one of the backends"])
        .await;
    for (host, words) in [
        ("e2.example", ["(container e2)", "plimsoll.weight"]),
        // It says so itself.
        ("shop.example", ["(container typo)", "plimsoll.hots"]),
        // Its route is known, but not in force.
        (
            "plane.example",
            ["(container plane)", "name a smaller range"],
        ),
    ] {
        world
            .until_said(host, &["\nanswered 404: no route matches"])
            .await;
        world.until_said(host, &words).await;
        assert_eq!(world.status_of(host).await, 404);
        let said = world.explain_json(host);
        assert_eq!(said["status"], 404);
        assert_eq!(said["quarantine"].as_array().unwrap().len(), 1, "{said}");
    }
    let said = world.explain("unknown.example");
    assert!(!said.contains("put aside"), "{said}");
}
