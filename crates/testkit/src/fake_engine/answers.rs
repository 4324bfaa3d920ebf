//! What an engine that is none answers.

#![allow(
    clippy::indexing_slicing,
    reason = "a key of a JSON object that is not there is inserted"
)]

use serde_json::{Value, json};

use super::world::{Container, DAY, World};

impl World {
    /// The answer to `/containers/json?all=1`.
    pub fn list(&self) -> Value {
        self.containers
            .iter()
            .map(|(id, container)| self.summary(id, container))
            .collect()
    }

    fn summary(&self, id: &str, container: &Container) -> Value {
        let status = match (container.status, &container.health) {
            ("running", None) => "Up 3 minutes".into(),
            ("running", Some((word, _))) if word == "starting" => {
                "Up 2 seconds (health: starting)".into()
            }
            ("running", Some((word, _))) => format!("Up 3 minutes ({word})"),
            ("paused", _) => "Up 3 minutes (Paused)".into(),
            ("restarting", _) => "Restarting (1) 2 seconds ago".into(),
            ("created", _) => "Created".into(),
            _ => "Exited (0) 5 seconds ago".into(),
        };
        json!({
            "Id": id, "Names": [format!("/{}", container.made.name)], "Image": "web",
            "ImageID": format!("sha256:{:064x}", 1), "Command": "/web",
            "Created": container.created / 1_000_000_000, "Ports": [],
            "Labels": container.made.labels, "State": container.status, "Status": status,
            "HostConfig": {"NetworkMode": container.made.mode.as_deref().unwrap_or("default")},
            "NetworkSettings": {"Networks": self.ends(container)}, "Mounts": []
        })
    }

    fn ends(&self, container: &Container) -> Value {
        let end = |(name, (end, address)): (&String, &(u64, u64))| {
            let hosts = matches!(name.as_str(), "host" | "none") || *address == 0;
            let address = if hosts {
                String::new()
            } else {
                format!("172.18.{}.{}", address / 250 % 250, address % 250 + 2)
            };
            let id = if *end == 0 {
                String::new()
            } else {
                format!("{end:064x}")
            };
            let end = json!({"IPAMConfig": null, "Links": null, "Aliases": null, "NetworkID": self.network_id(name),
                "EndpointID": id, "Gateway": "172.18.0.1", "IPAddress": address, "IPPrefixLen": 16,
                "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "MacAddress": "", "DriverOpts": null});
            (name.clone(), end)
        };
        container
            .ends
            .iter()
            .map(end)
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// The answer to `/containers/ID/json`, by the id, its beginning, or the name.
    pub fn inspect(&self, name: &str) -> Option<Value> {
        let is = |id: &str, container: &Container| {
            container.made.name == name || (name.len() >= 12 && id.starts_with(name))
        };
        let (id, container) = self.containers.iter().find(|(id, c)| is(id, c))?;
        let made = &container.made;
        let running = container.runs();
        let mut state = json!({
            "Status": container.status, "Running": running, "Paused": container.status == "paused",
            "Restarting": container.status == "restarting", "OOMKilled": false, "Dead": false,
            "Pid": if running { 4711 } else { 0 }, "ExitCode": 0, "Error": "",
            "StartedAt": time(container.started), "FinishedAt": time(0)
        });
        if let Some((word, output)) = &container.health {
            let run = json!({"Start": time(container.started), "End": time(container.started),
                "ExitCode": i32::from(word == "unhealthy"), "Output": output});
            state["Health"] = json!({"Status": word, "FailingStreak": 0, "Log": [run]});
        }
        let ports: serde_json::Map<_, _> = made
            .exposed
            .iter()
            .map(|port| (port.clone(), json!({})))
            .collect();
        let mut config = json!({
            "Hostname": id.get(..12), "Env": made.env, "Cmd": ["/web"], "Image": "web", "WorkingDir": "",
            "Labels": made.labels, "ExposedPorts": if ports.is_empty() { Value::Null } else { ports.into() }
        });
        if let Some(signal) = &made.stop_signal {
            config["StopSignal"] = json!(signal);
        }
        if let Some(seconds) = made.stop_timeout {
            config["StopTimeout"] = json!(seconds);
        }
        Some(json!({
            "Id": id, "Created": time(container.created), "Path": "/web", "Args": [], "State": state,
            "Image": format!("sha256:{:064x}", 1), "Name": format!("/{}", made.name), "RestartCount": 0,
            "Driver": "overlay2", "Platform": "linux",
            "HostConfig": {"NetworkMode": made.mode.as_deref().unwrap_or("default"), "PortBindings": {}},
            "Mounts": [], "Config": config,
            "NetworkSettings": {"Bridge": "", "Ports": {}, "Networks": self.ends(container)}
        }))
    }

    /// What time it is, as HTTP writes it.
    pub(super) fn http_date(&self) -> String {
        let (hour, minute, second, _) = clock(self.clock).unwrap_or_default();
        format!("Wed, 01 May 2024 {hour:02}:{minute:02}:{second:02} GMT")
    }

    /// The answer to `/networks`.
    pub fn networks(&self) -> Value {
        let network = |(name, driver): &(String, &str)| {
            json!({"Name": name, "Id": self.network_id(name), "Created": time(DAY), "Scope": "local",
                "Driver": driver, "EnableIPv6": false, "Internal": false, "Attachable": false,
                "Ingress": false, "Containers": {}, "Options": {}, "Labels": {}})
        };
        self.networks.iter().map(network).collect()
    }
}

/// Hours, minutes, seconds and nanoseconds of a time of the one day that there is.
fn clock(nanos: i64) -> Option<(i64, i64, i64, i64)> {
    let since = nanos - DAY;
    let (seconds, rest) = (since / 1_000_000_000, since % 1_000_000_000);
    let day = (0..86_400_000_000_000).contains(&since);
    day.then_some((seconds / 3600, seconds / 60 % 60, seconds % 60, rest))
}

/// A time of the one day that there is, as the engine writes it; any other is the year 1.
fn time(nanos: i64) -> String {
    match clock(nanos) {
        Some((hour, minute, second, rest)) => {
            format!("2024-05-01T{hour:02}:{minute:02}:{second:02}.{rest:09}Z")
        }
        None => "0001-01-01T00:00:00Z".into(),
    }
}
