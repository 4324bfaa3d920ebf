//! What of an answer is passed on.

use http::StatusCode;
use serde_json::Value;

use crate::Endpoint;
use crate::fields;

/// How labels begin by which a container says how to balance it.
const OURS: &str = "plimsoll.";

/// An answer is not JSON, or not what the endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotExpected;

/// What of the body of an answer is passed on. A refusal by the engine keeps its message and
/// nothing else. Lines of [`Endpoint::Events`] go through [`Events`](crate::Events) instead.
///
/// # Errors
/// The body is not what this endpoint answers.
pub fn redact(endpoint: Endpoint, status: StatusCode, body: &[u8]) -> Result<Vec<u8>, NotExpected> {
    let shape = match endpoint {
        _ if !status.is_success() => fields::ERROR,
        // `OK`, or nothing for HEAD: it says no more than the status.
        Endpoint::Ping => {
            return Ok(if body.is_empty() {
                Vec::new()
            } else {
                b"OK".into()
            });
        }
        Endpoint::Version => fields::VERSION,
        Endpoint::Info => fields::INFO,
        Endpoint::Events => fields::EVENT,
        Endpoint::Containers => fields::CONTAINERS,
        Endpoint::Container => fields::CONTAINER,
        Endpoint::Networks => fields::NETWORKS,
        Endpoint::Network => fields::NETWORK,
        Endpoint::Services => fields::SERVICES,
        Endpoint::Tasks => fields::TASKS,
        Endpoint::Nodes => fields::NODES,
    };
    let value: Value = serde_json::from_slice(body).map_err(|_| NotExpected)?;
    let mut value = shape.of(value).ok_or(NotExpected)?;
    if endpoint == Endpoint::Container && !speaks(&value) {
        keep_to_itself(&mut value);
    }
    let mut text = value.to_string().into_bytes();
    text.push(b'\n');
    Ok(text)
}

/// Whether a container says how to balance it, by what is passed on of it.
fn speaks(container: &Value) -> bool {
    let config = |key| container.get("Config").and_then(|config| config.get(key));
    let env = config("Env").and_then(Value::as_array);
    let mut labels = config("Labels").and_then(Value::as_object).into_iter();
    env.is_some_and(|env| !env.is_empty())
        || labels.any(|labels| labels.keys().any(|key| key.starts_with(OURS)))
}

/// What a container's HEALTHCHECK prints tells nothing where it is not balanced.
fn keep_to_itself(container: &mut Value) {
    let health = container.pointer_mut("/State/Health");
    if let Some(health) = health.and_then(Value::as_object_mut) {
        health.remove("Log");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::MAX_OUTPUT;

    fn passed(endpoint: Endpoint, value: &Value) -> Value {
        let text = redact(endpoint, StatusCode::OK, value.to_string().as_bytes()).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn secrets_of_a_container_stay_where_they_are() {
        let whole = json!({
            "Id": "0123", "Name": "/web", "Created": "2024-01-01T00:00:00Z", "Path": "SECRET",
            "Args": ["--password", "SECRET"], "ResolvConfPath": "/SECRET", "LogPath": "/SECRET",
            "State": {"Status": "running", "Running": true, "Pid": 5, "Error": "SECRET",
                "Health": {"Status": "unhealthy", "Log": [
                {"ExitCode": 1, "Output": "SECRET"}, {"ExitCode": 1, "Output": "refused"}]}},
            "Config": {
                "Env": ["PASSWORD=SECRET", "VIRTUAL_HOST=shop.example", "VIRTUAL_PORT=81",
                    "XVIRTUAL_HOST=SECRET", "VIRTUAL_HOST_X=SECRET", "virtual_host=SECRET",
                    "SECRET", 5, null, {"VIRTUAL_HOST=": "SECRET"}],
                "Cmd": ["SECRET"], "Entrypoint": ["SECRET"], "User": "SECRET",
                "Healthcheck": {"Test": ["CMD", "SECRET"]},
                "Labels": {"plimsoll.host": "shop.example", "plimsoll.odd": {"SECRET": "SECRET"},
                    "com.docker.compose.project": "shop", "com.example.password": "SECRET",
                    "com.example.plimsoll.host": "SECRET", "Plimsoll.host": "slip", "plimsoll": "SECRET"},
                "ExposedPorts": {"80/tcp": {"SECRET": 1}}, "StopTimeout": 5},
            "HostConfig": {"Binds": ["/SECRET"], "NetworkMode": "front", "LogConfig": "SECRET"},
            "Mounts": [{"Source": "/SECRET"}],
            "GraphDriver": {"Data": "SECRET"},
            "NetworkSettings": {
                "SandboxKey": "SECRET",
                "Networks": {"front": {"NetworkID": "n", "IPAddress": "10.0.0.2",
                    "GlobalIPv6Address": "", "DriverOpts": "SECRET"}},
                "Ports": {"80/tcp": null, "81/tcp": [{"HostIp": "", "HostPort": "8081"}]}},
        });
        let kept = passed(Endpoint::Container, &whole);
        assert!(!kept.to_string().contains("SECRET"), "{kept}");
        assert_eq!(
            kept["Config"]["Env"],
            json!(["VIRTUAL_HOST=shop.example", "VIRTUAL_PORT=81"])
        );
        assert_eq!(
            kept["Config"]["Labels"],
            json!({"plimsoll.host": "shop.example", "com.docker.compose.project": "shop",
                "Plimsoll.host": "slip"})
        );
        assert_eq!(kept["Config"]["ExposedPorts"], json!({"80/tcp": {}}));
        assert_eq!(kept["Config"]["StopTimeout"], 5);
        assert_eq!(kept["HostConfig"], json!({"NetworkMode": "front"}));
        assert_eq!(kept["NetworkSettings"]["Ports"]["80/tcp"], Value::Null);
        assert_eq!(
            kept["NetworkSettings"]["Ports"]["81/tcp"][0]["HostPort"],
            "8081"
        );
        assert_eq!(
            kept["NetworkSettings"]["Networks"]["front"]["IPAddress"],
            "10.0.0.2"
        );
        assert_eq!(
            kept["State"]["Health"]["Log"],
            json!([{"ExitCode": 1, "Output": "refused"}])
        );
    }

    #[test]
    fn of_a_healthcheck_a_little_is_passed_on_if_its_container_is_balanced() {
        let container = |config: Value| {
            let output = "é".repeat(MAX_OUTPUT) + "SECRET";
            let health = json!({"Status": "unhealthy", "Log": [{"Output": output}]});
            let whole = json!({"Id": "a", "Config": config, "State": {"Health": health}});
            passed(Endpoint::Container, &whole)["State"]["Health"].take()
        };
        let cut = json!([{"Output": "é".repeat(MAX_OUTPUT)}]);
        for config in [
            json!({"Labels": {"plimsoll.host": "x"}}),
            json!({"Env": ["VIRTUAL_HOST=x"]}),
        ] {
            assert_eq!(container(config)["Log"], cut);
        }
        for config in [
            json!({"Labels": {"com.docker.compose.project": "x"}, "Env": ["A=b"]}),
            json!({"Labels": null, "Env": null}),
            Value::Null,
        ] {
            assert_eq!(container(config), json!({"Status": "unhealthy"}));
        }
    }

    #[test]
    fn secrets_of_lists_and_of_a_swarm_stay_where_they_are() {
        let list = json!([{"Id": "0123", "Names": ["/web"], "Command": "SECRET", "State": "running",
            "Mounts": ["SECRET"], "Labels": {"a": "SECRET", "plimsoll.host": "x"}, "Status": "Up",
            "NetworkSettings": {"Networks": {"n": {"NetworkID": "x", "Links": ["SECRET"]}}}}]);
        let kept = passed(Endpoint::Containers, &list);
        assert!(!kept.to_string().contains("SECRET"), "{kept}");
        assert_eq!(
            kept[0]["NetworkSettings"]["Networks"]["n"]["NetworkID"],
            "x"
        );
        assert_eq!(kept[0]["Labels"], json!({"plimsoll.host": "x"}));
        let labels = json!({"a": "SECRET", "plimsoll.host": "x"});
        let networks = json!([{"Id": "n", "Labels": labels}]);
        let kept = passed(Endpoint::Networks, &networks);
        assert_eq!(kept, json!([{"Id": "n", "Labels": {"plimsoll.host": "x"}}]));
        let nodes = json!([{"ID": "n", "Spec": {"Labels": labels, "Role": "manager"},
            "Status": {"State": "down", "Message": "SECRET"}}]);
        let kept = passed(Endpoint::Nodes, &nodes);
        assert!(!kept.to_string().contains("SECRET"), "{kept}");
        assert_eq!(kept[0]["Spec"]["Labels"], json!({"plimsoll.host": "x"}));

        let template = json!({"ContainerSpec": {"Env": ["A=SECRET", "VIRTUAL_HOST=x"],
            "Labels": labels,
            "Args": ["SECRET"], "Secrets": ["SECRET"], "Image": "web"},
            "LogDriver": {"Options": "SECRET"}});
        let services = json!([{"ID": "s", "Version": {"Index": 5},
            "Spec": {"Name": "web", "TaskTemplate": template, "Mode": {"Replicated": {"Replicas": 2}},
                "Labels": labels},
            "UpdateStatus": {"State": "paused", "Message": "SECRET"},
            "PreviousSpec": {"TaskTemplate": template, "Name": "SECRET"}}]);
        let kept = passed(Endpoint::Services, &services);
        assert!(!kept.to_string().contains("SECRET"), "{kept}");
        let spec = &kept[0]["Spec"];
        assert_eq!(
            spec["TaskTemplate"]["ContainerSpec"]["Env"],
            json!(["VIRTUAL_HOST=x"])
        );
        assert_eq!(spec["Mode"]["Replicated"]["Replicas"], 2);
        assert_eq!(spec["Labels"], json!({"plimsoll.host": "x"}));
        let tasks = json!([{"ID": "t", "Spec": template, "Labels": labels, "Status": {
            "State": "running", "Err": "SECRET", "Message": "SECRET"}}]);
        let kept = passed(Endpoint::Tasks, &tasks);
        assert!(!kept.to_string().contains("SECRET"), "{kept}");
        assert_eq!(kept[0]["Status"]["State"], "running");
    }

    #[test]
    fn refusals_keep_their_message_and_odd_answers_nothing() {
        let refused = redact(
            Endpoint::Container,
            StatusCode::NOT_FOUND,
            br#"{"message":"No such container: a","more":"SECRET"}"#,
        );
        let text = String::from_utf8(refused.unwrap()).unwrap();
        assert_eq!(text, "{\"message\":\"No such container: a\"}\n");
        let ok = StatusCode::OK;
        assert_eq!(redact(Endpoint::Containers, ok, b"[{"), Err(NotExpected));
        assert_eq!(
            redact(Endpoint::Containers, ok, b"{\"Id\":1}"),
            Err(NotExpected)
        );
        assert_eq!(redact(Endpoint::Ping, ok, b"SECRET"), Ok(b"OK".into()));
        assert_eq!(redact(Endpoint::Ping, ok, b""), Ok(Vec::new()));
    }
}
