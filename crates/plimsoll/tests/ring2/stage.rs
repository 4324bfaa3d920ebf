//! What most tests begin with: good backends and a victim.

use std::net::SocketAddr;

use plimsoll_testkit::{ClientPlan, HttpBackend, Reuse};
use serde_json::Value;

use crate::config;
use crate::lab::{HTTP, Lab, Lb};

/// Three good backends and one that is going to be killed, behind a service `web`.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) lb: Lb,
    pub(crate) good: Vec<HttpBackend>,
    pub(crate) victim: HttpBackend,
}

impl Stage {
    pub(crate) async fn new(test: &str) -> Option<Self> {
        Self::with(test, "").await
    }

    /// With more keys of the service.
    pub(crate) async fn with(test: &str, more: &str) -> Option<Self> {
        let lab = Lab::new(test, &["good", "bad"])?;
        let good: Vec<_> = (8001..=8003).map(|port| lab.http("good", port)).collect();
        let victim = lab.http("bad", 8001);
        let mut all: Vec<SocketAddr> = good.iter().map(HttpBackend::address).collect();
        all.push(victim.address());
        let web = config::web(lab.at("lb", HTTP), &all).with(more);
        let lb = lab.start(&web.text()).await;
        Some(Self {
            lab,
            lb,
            good,
            victim,
        })
    }

    /// How many requests the victim has failed to answer.
    pub(crate) async fn failures(&self) -> usize {
        let failures = self.status().await["counters"]["failures"].as_u64();
        usize::try_from(failures.unwrap()).unwrap()
    }

    /// What is to see of the victim.
    pub(crate) async fn status(&self) -> Value {
        self.lb.backend("web", self.victim.address()).await
    }

    /// Waits until the victim has this state.
    pub(crate) async fn until(&self, state: &str) {
        self.lb
            .until(state, async || self.status().await["state"] == state)
            .await;
    }

    /// Has an admin take the victim back.
    pub(crate) fn pardon(&self) {
        let address = self.victim.address().to_string();
        self.lb.tell(&["ready", "web", &address]);
    }

    /// Of all clients: GETs on kept connections, and POSTs on kept and new ones.
    pub(crate) fn plans(&self) -> [ClientPlan; 3] {
        let posts = ClientPlan {
            post_every: 1,
            tasks: 2,
            ..self.lab.requests("web.example")
        };
        [
            self.lab.requests("web.example"),
            posts.clone(),
            ClientPlan {
                reuse: Reuse::Never,
                ..posts
            },
        ]
    }

    /// Makes sure that nothing is in flight and nothing is left.
    pub(crate) async fn close(self) {
        self.lb.until_idle().await;
        self.lab.close(self.lb);
    }
}
