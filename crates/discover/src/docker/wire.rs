//! What is read of the engine's answers, and nothing else: Docker Engine API 1.40 to 1.55.
//!
//! Every word is kept as text and every field may be missing or `null`: a value that a newer
//! engine brings must not make a container, or a whole list, unreadable.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

/// `null` is the same as nothing.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The keys of a map whose values say nothing, such as `ExposedPorts`.
fn keys<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<String>, D::Error> {
    let map: Option<BTreeMap<String, serde::de::IgnoredAny>> = Option::deserialize(from)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

/// `GET /containers/{id}/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Inspect {
    /// 64 hexadecimal digits.
    #[serde(deserialize_with = "nullable")]
    pub id: String,
    /// Its name, with a slash before it.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// When it was created, RFC 3339 in UTC.
    #[serde(deserialize_with = "nullable")]
    pub created: String,
    /// What it does now.
    #[serde(deserialize_with = "nullable")]
    pub state: ContainerState,
    /// What its image and its maker say.
    #[serde(deserialize_with = "nullable")]
    pub config: ContainerConfig,
    /// What its host gives it.
    #[serde(deserialize_with = "nullable")]
    pub host_config: HostConfig,
    /// Its addresses.
    #[serde(deserialize_with = "nullable")]
    pub network_settings: NetworkSettings,
}

impl Inspect {
    /// The name as people write it, or the short id if there is none.
    pub fn display_name(&self) -> &str {
        match self.name.trim_start_matches('/') {
            "" => self.short_id(),
            name => name,
        }
    }

    /// The first 12 digits of the id.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.config.labels.get(key).map(String::as_str)
    }

    /// The value of a variable of its environment; the last one counts, as for the process.
    pub fn env(&self, key: &str) -> Option<&str> {
        let pairs = self.config.env.iter().rev();
        let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
        pairs.find(|(k, _)| *k == key).map(|(_, value)| value)
    }
}

/// `State` of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// `created`, `running`, `paused`, `restarting`, `exited`, `removing`, `dead`, …
    #[serde(deserialize_with = "nullable")]
    pub status: String,
    /// Whether it has a process; also true while it is paused or restarting.
    #[serde(deserialize_with = "nullable")]
    pub running: bool,
    /// Whether its processes are frozen.
    #[serde(deserialize_with = "nullable")]
    pub paused: bool,
    /// Whether it ended and is about to be started again.
    #[serde(deserialize_with = "nullable")]
    pub restarting: bool,
    /// Whether it could not be removed.
    #[serde(deserialize_with = "nullable")]
    pub dead: bool,
    /// When it was last started, RFC 3339 in UTC.
    #[serde(deserialize_with = "nullable")]
    pub started_at: String,
    /// What its HEALTHCHECK says; none if it has none.
    pub health: Option<Health>,
}

/// `State.Health`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `none`, `starting`, `healthy`, `unhealthy`, …
    #[serde(deserialize_with = "nullable")]
    pub status: String,
    /// The last few runs, the newest last.
    #[serde(deserialize_with = "nullable")]
    pub log: Vec<HealthRun>,
}

/// One run of a HEALTHCHECK.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthRun {
    /// 0 is healthy.
    #[serde(deserialize_with = "nullable")]
    pub exit_code: i64,
    /// What it printed.
    #[serde(deserialize_with = "nullable")]
    pub output: String,
}

/// `Config` of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// Its host name.
    #[serde(deserialize_with = "nullable")]
    pub hostname: String,
    /// Labels of the image and the container.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// `KEY=VALUE`.
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// `80/tcp` and the like.
    #[serde(deserialize_with = "keys")]
    pub exposed_ports: BTreeSet<String>,
    /// `SIGTERM`, `15`, …; empty is SIGTERM.
    #[serde(deserialize_with = "nullable")]
    pub stop_signal: String,
    /// Seconds until a stop becomes a kill; none is 10.
    pub stop_timeout: Option<i64>,
}

/// `HostConfig` of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `default`, `bridge`, `host`, `none`, `container:ID` or the name of a network.
    #[serde(deserialize_with = "nullable")]
    pub network_mode: String,
}

/// `NetworkSettings` of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// By the name of the network.
    #[serde(deserialize_with = "nullable")]
    pub networks: BTreeMap<String, Endpoint>,
    /// Published ports by `80/tcp` and the like; none is exposed only.
    #[serde(deserialize_with = "nullable")]
    pub ports: BTreeMap<String, Option<Vec<PortBinding>>>,
}

/// A container's end in one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    /// The network.
    #[serde(rename = "NetworkID", deserialize_with = "nullable")]
    pub network_id: String,
    /// This end; another one after every start.
    #[serde(rename = "EndpointID", deserialize_with = "nullable")]
    pub endpoint_id: String,
    /// IPv4 address; empty if it has none now.
    #[serde(rename = "IPAddress", deserialize_with = "nullable")]
    pub ip_address: String,
    /// IPv6 address; empty if it has none.
    #[serde(rename = "GlobalIPv6Address", deserialize_with = "nullable")]
    pub global_ipv6_address: String,
}

/// Where a port is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// An address of the host; empty or unspecified is all of them.
    #[serde(deserialize_with = "nullable")]
    pub host_ip: String,
    /// The port on the host.
    #[serde(deserialize_with = "nullable")]
    pub host_port: String,
}

/// An item of `GET /containers/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Summary {
    /// 64 hexadecimal digits.
    #[serde(deserialize_with = "nullable")]
    pub id: String,
    /// Its names, each with a slash before it.
    #[serde(deserialize_with = "nullable")]
    pub names: Vec<String>,
    /// `running`, `exited`, …
    #[serde(deserialize_with = "nullable")]
    pub state: String,
    /// `Up 3 minutes (healthy)` and the like.
    #[serde(deserialize_with = "nullable")]
    pub status: String,
    /// Labels of the image and the container.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    #[serde(deserialize_with = "nullable")]
    pub network_settings: SummaryNetworks,
}

/// `NetworkSettings` of a [`Summary`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryNetworks {
    /// By the name of the network.
    #[serde(deserialize_with = "nullable")]
    pub networks: BTreeMap<String, Endpoint>,
}

/// An item of `GET /networks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    /// 64 hexadecimal digits, or 25 letters and digits of Swarm.
    #[serde(deserialize_with = "nullable")]
    pub id: String,
    /// Its name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// `bridge`, `overlay`, `macvlan`, `host`, `null`, …
    #[serde(deserialize_with = "nullable")]
    pub driver: String,
    /// `local`, `swarm`, …
    #[serde(deserialize_with = "nullable")]
    pub scope: String,
}

/// A line of `GET /events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Event {
    /// `container`, `network`, …
    #[serde(rename = "Type", deserialize_with = "nullable")]
    pub kind: String,
    /// `start`, `die`, `health_status: healthy`, …
    #[serde(rename = "Action", deserialize_with = "nullable")]
    pub action: String,
    /// What it happened to.
    #[serde(rename = "Actor", deserialize_with = "nullable")]
    pub actor: Actor,
    /// When, in nanoseconds since 1970.
    #[serde(rename = "timeNano", deserialize_with = "nullable")]
    pub time_nano: i64,
}

/// What an event happened to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// The id of the container or the network.
    #[serde(rename = "ID", deserialize_with = "nullable")]
    pub id: String,
    /// `signal` of a `kill`, `container` of a `connect`, names, labels, …
    #[serde(rename = "Attributes", deserialize_with = "nullable")]
    pub attributes: BTreeMap<String, String>,
}

/// `GET /version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// The engine's own version, e.g. `20.10.24`.
    #[serde(deserialize_with = "nullable")]
    pub version: String,
    /// The newest API version that it speaks.
    #[serde(deserialize_with = "nullable")]
    pub api_version: String,
    /// The oldest one.
    #[serde(rename = "MinAPIVersion", deserialize_with = "nullable")]
    pub min_api_version: String,
    /// `linux` or `windows`.
    #[serde(deserialize_with = "nullable")]
    pub os: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_nothing_and_unknown_words_are_words() {
        let text = r#"{"Id":"0123456789abcdef","Name":"/web","State":{"Status":"hibernating",
            "Running":true,"Health":{"Status":"sleepy","Log":null}},
            "Config":{"Labels":null,"Env":null,"ExposedPorts":{"80/tcp":{}},"StopTimeout":null},
            "NetworkSettings":{"Networks":{"n":{"NetworkID":"x","IPAddress":"10.0.0.2",
            "GlobalIPv6Address":null}},"Ports":{"80/tcp":null}},"Unknown":[1]}"#;
        let inspect: Inspect = serde_json::from_str(text).unwrap();
        assert_eq!(inspect.display_name(), "web");
        assert_eq!(inspect.short_id(), "0123456789ab");
        assert_eq!(inspect.state.status, "hibernating");
        assert_eq!(inspect.state.health.unwrap().status, "sleepy");
        assert!(inspect.config.exposed_ports.contains("80/tcp"));
        let endpoint = &inspect.network_settings.networks["n"];
        assert_eq!(endpoint.ip_address, "10.0.0.2");
    }

    #[test]
    fn the_last_of_two_variables_counts() {
        let mut inspect = Inspect::default();
        inspect.config.env = vec!["A=1".into(), "A=x=2".into(), "B".into()];
        assert_eq!(inspect.env("A"), Some("x=2"));
        assert_eq!(inspect.env("B"), None);
    }
}
