//! A container to be created.

use std::collections::BTreeMap;

/// A container to be created.
#[derive(Clone, Debug, Default)]
pub struct FakeContainer {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) env: Vec<String>,
    pub(super) exposed: Vec<String>,
    pub(super) networks: Vec<String>,
    pub(super) mode: Option<String>,
    pub(super) has_health: bool,
    pub(super) stop_signal: Option<String>,
    pub(super) stop_timeout: Option<i64>,
}

impl FakeContainer {
    /// One of this name in the network `bridge`, without labels.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// One that is balanced under `HOST`, by a label, at its port 80.
    pub fn web(name: &str, host: &str) -> Self {
        Self::new(name)
            .label("plimsoll.host", host)
            .expose("80/tcp")
    }

    /// With a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// With a variable, as `KEY=VALUE`.
    #[must_use]
    pub fn env(mut self, pair: &str) -> Self {
        self.env.push(pair.into());
        self
    }

    /// With an exposed port, as `80/tcp`.
    #[must_use]
    pub fn expose(mut self, port: &str) -> Self {
        self.exposed.push(port.into());
        self
    }

    /// In a network of this name instead of `bridge`, or one more.
    #[must_use]
    pub fn network(mut self, name: &str) -> Self {
        self.networks.push(name.into());
        self
    }

    /// With `network_mode` `host`, `none` or `container:ID`.
    #[must_use]
    pub fn mode(mut self, mode: &str) -> Self {
        self.mode = Some(mode.into());
        self
    }

    /// With a HEALTHCHECK.
    #[must_use]
    pub fn with_health(mut self) -> Self {
        self.has_health = true;
        self
    }

    /// Stopped by this signal, as the engine shows it.
    #[must_use]
    pub fn stop_signal(mut self, signal: &str) -> Self {
        self.stop_signal = Some(signal.into());
        self
    }

    /// Killed so many seconds after it was told to stop.
    #[must_use]
    pub fn stop_timeout(mut self, seconds: i64) -> Self {
        self.stop_timeout = Some(seconds);
        self
    }
}
