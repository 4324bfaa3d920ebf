//! The daemon under test, as it runs on the engine's host, and what is asked of it.

use std::process::{Command, Output};

use plimsoll_testkit::{Daemon, finish, list, until, until_some};
use serde_json::Value;

use crate::dock::SOON;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_plimsoll");

/// The daemon under test.
pub(crate) struct Lb(pub(crate) Daemon);

impl Lb {
    /// Runs a command of the binary against this daemon, to its end.
    pub(crate) fn ask(&self, args: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(args).arg("--admin").arg(self.0.admin_path());
        finish(command, SOON).unwrap()
    }

    /// All there is to see, by the command that users have for it.
    pub(crate) fn status(&self) -> Value {
        let output = self.ask(&["status", "--json"]);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{out}{err}");
        serde_json::from_str(&out).unwrap()
    }

    /// The same from the admin API, which is quicker.
    pub(crate) async fn look(&self) -> Value {
        let answer = self.0.admin_get("/v1/status").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_str(&answer.text()).unwrap()
    }

    /// What is to see of a service; null if there is none.
    pub(crate) async fn service(&self, name: &str) -> Value {
        let status = self.look().await;
        let mut services = list(&status["services"]).iter();
        let found = services.find(|s| s["name"] == name);
        found.cloned().unwrap_or_default()
    }

    /// What is to see of the backend that is this container; null if there is none.
    pub(crate) async fn backend(&self, service: &str, container: &str) -> Value {
        backend(&self.service(service).await, container)
    }

    /// Waits until this holds.
    #[track_caller]
    pub(crate) fn until<'a>(
        &'a self,
        what: &'a str,
        holds: impl AsyncFn() -> bool + 'a,
    ) -> impl Future<Output = ()> + 'a {
        until(SOON, what, holds, || self.told())
    }

    /// Waits until the backend that is this container is in this state.
    #[track_caller]
    pub(crate) fn until_state<'a>(
        &'a self,
        service: &'a str,
        container: &'a str,
        state: &'a str,
    ) -> impl Future<Output = Value> + 'a {
        let look = move || async move {
            let seen = self.backend(service, container).await;
            (seen["state"] == state).then_some(seen)
        };
        let told = move || format!("{container}, which is to be {state}:\n{}", self.told());
        until_some(SOON, "the state of a backend", look, told)
    }

    /// What `status` says, for people.
    fn told(&self) -> String {
        text(&self.ask(&["status"]).stdout)
    }

    /// What is put aside that has these words in its subject; null if nothing is.
    pub(crate) async fn aside(&self, subject: &str) -> Value {
        let status = self.look().await;
        let mut items = list(&status["quarantine"]).iter();
        let has = |item: &&Value| item["subject"].as_str().unwrap().contains(subject);
        items.find(has).cloned().unwrap_or_default()
    }

    /// The source that is the engine.
    pub(crate) async fn source(&self) -> Value {
        let status = self.look().await;
        let mut sources = list(&status["sources"]).iter();
        let is_engine = |source: &&Value| source["name"].as_str().unwrap().starts_with("docker:");
        sources.find(is_engine).cloned().unwrap_or_default()
    }
}

/// The backend of a service that is this container; null if there is none.
pub(crate) fn backend(service: &Value, container: &str) -> Value {
    let mut backends = list(&service["backends"]).iter();
    let found = backends.find(|b| b["name"] == container);
    found.cloned().unwrap_or_default()
}

/// The names of a service's backends, in order.
pub(crate) fn names(service: &Value) -> Vec<String> {
    let backends = list(&service["backends"]).iter();
    let mut names: Vec<String> = backends
        .map(|b| b["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// What a program wrote.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
