//! Telling one state of a container from another.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::wire::{Inspect, Summary};

/// What tells one state of a container from another, by what both a list and an inspection show.
/// Not how long it has been in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Print(u64);

/// Network, end in it, IPv4 and IPv6 address, by the name of the network.
type Ends<'a> = BTreeMap<&'a str, [&'a str; 4]>;

impl Print {
    /// Of an item of a list.
    pub(crate) fn of_summary(summary: &Summary) -> Self {
        // The others are links: `/other/alias`.
        let own = |name: &&String| !name.trim_start_matches('/').contains('/');
        let name = summary.names.iter().find(own).map_or("", String::as_str);
        // `Up 3 minutes (health: starting)`
        let word = summary
            .status
            .rsplit_once('(')
            .and_then(|(_, rest)| rest.strip_suffix(')'));
        let word = word.map(|word| word.strip_prefix("health: ").unwrap_or(word));
        let ends = summary.network_settings.networks.iter().map(|(name, end)| {
            let end = [
                &end.network_id,
                &end.endpoint_id,
                &end.ip_address,
                &end.global_ipv6_address,
            ];
            (name.as_str(), end.map(String::as_str))
        });
        Self::new(name, &summary.state, word, &summary.labels, ends.collect())
    }

    /// Of an inspection.
    pub(crate) fn of_inspect(inspect: &Inspect) -> Self {
        let word = inspect
            .state
            .health
            .as_ref()
            .map(|health| health.status.as_str());
        let ends = inspect.network_settings.networks.iter().map(|(name, end)| {
            let end = [
                &end.network_id,
                &end.endpoint_id,
                &end.ip_address,
                &end.global_ipv6_address,
            ];
            (name.as_str(), end.map(String::as_str))
        });
        let labels = &inspect.config.labels;
        Self::new(
            &inspect.name,
            &inspect.state.status,
            word,
            labels,
            ends.collect(),
        )
    }

    fn new(
        name: &str,
        state: &str,
        health: Option<&str>,
        labels: &BTreeMap<String, String>,
        ends: Ends<'_>,
    ) -> Self {
        let state = state.to_ascii_lowercase();
        // Nobody reaches what has no process.
        let reached = matches!(&*state, "running" | "paused" | "restarting");
        let ends = if reached { ends } else { Ends::new() };
        // Lists say it of running containers only.
        let health = health.filter(|health| state == "running" && *health != "none");
        let mut hasher = DefaultHasher::new();
        (name, state, health.unwrap_or_default(), labels, ends).hash(&mut hasher);
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::wire::Health;

    fn pair() -> (Summary, Inspect) {
        let ends = r#"{"front":{"NetworkID":"n1","EndpointID":"e1","IPAddress":"172.18.0.2","GlobalIPv6Address":""}}"#;
        let summary = format!(
            r#"{{"Id":"x","Names":["/other/alias","/web"],"State":"running","Status":"Up 3 minutes (health: starting)",
                "Labels":{{"a":"b"}},"NetworkSettings":{{"Networks":{ends}}}}}"#
        );
        let inspect = format!(
            r#"{{"Id":"x","Name":"/web","State":{{"Status":"running","Running":true,"Health":{{"Status":"starting"}}}},
                "Config":{{"Labels":{{"a":"b"}}}},"NetworkSettings":{{"Networks":{ends}}}}}"#
        );
        (
            serde_json::from_str(&summary).unwrap(),
            serde_json::from_str(&inspect).unwrap(),
        )
    }

    #[test]
    fn lists_and_inspections_of_one_state_have_one_print() {
        let (mut summary, mut inspect) = pair();
        let print = Print::of_summary(&summary);
        assert_eq!(print, Print::of_inspect(&inspect));
        summary.status = "Up 2 hours (health: starting)".into();
        assert_eq!(print, Print::of_summary(&summary));
        for (status, health) in [
            ("Up 1 second", None),
            ("Up 1 second", Some("none")),
            ("Up 9 years (unhealthy)", Some("unhealthy")),
        ] {
            summary.status = status.into();
            inspect.state.health = health.map(|h| Health {
                status: h.into(),
                log: vec![],
            });
            assert_ne!(print, Print::of_summary(&summary));
            assert_eq!(Print::of_inspect(&inspect), Print::of_summary(&summary));
        }
        (summary.state, summary.status) = ("paused".into(), "Up 1 second (Paused)".into());
        inspect.state.status = "paused".into();
        assert_eq!(Print::of_inspect(&inspect), Print::of_summary(&summary));
        (summary.state, summary.status) = ("exited".into(), "Exited (137) 2 days ago".into());
        inspect.state.status = "exited".into();
        assert_eq!(Print::of_inspect(&inspect), Print::of_summary(&summary));
    }

    #[test]
    fn every_change_that_matters_has_another_print() {
        let (summary, _) = pair();
        let print = Print::of_summary(&summary);
        let changes: [fn(&mut Summary); 6] = [
            |s| s.names = vec!["/other".into()],
            |s| s.state = "paused".into(),
            |s| s.labels.clear(),
            |s| s.network_settings.networks.clear(),
            |s| {
                s.network_settings
                    .networks
                    .get_mut("front")
                    .unwrap()
                    .endpoint_id = "e2".into()
            },
            |s| {
                s.network_settings
                    .networks
                    .get_mut("front")
                    .unwrap()
                    .ip_address = "172.18.0.9".into()
            },
        ];
        for change in changes {
            let mut other = summary.clone();
            change(&mut other);
            assert_ne!(print, Print::of_summary(&other));
        }
    }
}
