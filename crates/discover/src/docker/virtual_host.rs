//! `VIRTUAL_HOST` and its kin in a container's environment, as nginx-proxy 1.11 reads them in
//! their simple form. What plimsoll cannot keep of it is put aside with the label that says it.

use plimsoll_model::{Forward, HostPattern, Origin, PathPrefix, Proto, ServiceSpec};

use super::labels::value::{Faults, cut, told};
use super::labels::{Common, host};
use super::port;
use super::share::{MAX_ROUTES, Refused, Share, routes, service_name};
use super::view::Settings;
use super::wire::Inspect;

/// The variables that are read.
pub const VARIABLES: [&str; 7] = [
    "VIRTUAL_HOST",
    "VIRTUAL_PORT",
    "VIRTUAL_PATH",
    "VIRTUAL_DEST",
    "VIRTUAL_PROTO",
    "VIRTUAL_HOST_MULTIPORTS",
    "NETWORK_ACCESS",
];

/// Whether the environment of a container asks for anything.
pub fn is_there(container: &Inspect) -> bool {
    let keys = ["VIRTUAL_HOST", "VIRTUAL_HOST_MULTIPORTS"];
    keys.iter().any(|key| env(container, key).is_some())
}

/// The value of a variable, if it is there and not blank.
fn env<'a>(container: &'a Inspect, key: &str) -> Option<&'a str> {
    let value = container.env(key).map(str::trim);
    value.filter(|value| !value.is_empty())
}

/// The shares that the environment of a container asks for, one for each host, so that containers
/// of the same host are one service whatever else they are called.
pub(crate) fn read(
    container: &Inspect,
    settings: &Settings,
    common: &Common,
) -> Vec<Result<Share, Refused>> {
    let refused = |key: &str, reason: String| {
        Err(Refused {
            key: format!("env {key}"),
            subject: format!("container {}", container.display_name()),
            reason,
        })
    };
    let env = |key| env(container, key);
    if env("VIRTUAL_HOST_MULTIPORTS").is_some() {
        let reason = "VIRTUAL_HOST_MULTIPORTS is not read: say each service with labels \
                      plimsoll.NAME.host, .path and .port";
        return vec![refused("VIRTUAL_HOST_MULTIPORTS", reason.into())];
    }
    let Some(hosts) = env("VIRTUAL_HOST") else {
        return Vec::new();
    };
    let mut faults = Faults::default();
    let shared = Shared::read(container, env, &mut faults);
    if let Some(reason) = faults.reason() {
        return vec![refused("VIRTUAL_HOST", reason)];
    }
    let mut items: Vec<&str> = hosts.split(',').map(str::trim).collect();
    items.retain(|item| !item.is_empty());
    if items.len() > MAX_ROUTES {
        let count = items.len();
        let reason = format!("VIRTUAL_HOST has {count} hosts: at most {MAX_ROUTES}");
        return vec![refused("VIRTUAL_HOST", reason)];
    }
    let mut hosts: Vec<HostPattern> = Vec::new();
    let mut shares = Vec::new();
    for item in items {
        let fault = |why: String| format!("VIRTUAL_HOST={}: {why}", cut(item));
        match host::read(item, "plimsoll") {
            Ok(host) if hosts.contains(&host) => {}
            Ok(host) => {
                match shared.share(&host, container, settings, common) {
                    Ok(share) => shares.push(Ok(share)),
                    Err(why) => faults.push(fault(why)),
                }
                hosts.push(host);
            }
            Err(why) => faults.push(fault(why)),
        }
    }
    if let Some(reason) = faults.reason() {
        shares.push(refused("VIRTUAL_HOST", reason));
    }
    shares
}

/// What holds for all hosts of a container.
struct Shared {
    path: PathPrefix,
    port: u16,
}

impl Shared {
    fn read<'a>(
        container: &Inspect,
        env: impl Fn(&'static str) -> Option<&'a str>,
        faults: &mut Faults,
    ) -> Self {
        let path = match env("VIRTUAL_PATH").map(|text| (text, text.parse::<PathPrefix>())) {
            None => PathPrefix::root(),
            Some((_, Ok(path))) => path,
            Some((text, Err(error))) => {
                let error = told(&error, text);
                faults.push(format!("VIRTUAL_PATH={}: {error}", cut(text)));
                PathPrefix::root()
            }
        };
        if let Some(dest) = env("VIRTUAL_DEST")
            && dest.parse::<PathPrefix>().ok().as_ref() != Some(&path)
        {
            faults.push(format!(
                "VIRTUAL_DEST={}: paths are passed on as they are: leave it out and let the \
                 container answer below {path}",
                cut(dest)
            ));
        }
        if let Some(proto) = env("VIRTUAL_PROTO").filter(|proto| *proto != "http") {
            faults.push(format!(
                "VIRTUAL_PROTO={}: containers are spoken to by http only; for others say label \
                 plimsoll.protocol=tcp",
                cut(proto)
            ));
        }
        if let Some(access) = env("NETWORK_ACCESS").filter(|access| *access != "external") {
            faults.push(format!(
                "NETWORK_ACCESS={}: nobody is kept out by where they come from: listen on an \
                 internal address and another port with labels plimsoll.host and \
                 plimsoll.listen=ADDR:PORT",
                cut(access)
            ));
        }
        Self {
            path,
            port: port(container, env("VIRTUAL_PORT"), faults),
        }
    }

    fn share(
        &self,
        host: &HostPattern,
        container: &Inspect,
        settings: &Settings,
        common: &Common,
    ) -> Result<Share, String> {
        let source = settings.source.clone();
        let origin = Origin::new(source, format!("container {}", container.display_name()));
        let http = settings.http;
        let name = service_name(host, &self.path, &[http], &http)?;
        let mut spec = ServiceSpec::new(name, origin, vec![http]);
        if let Some(drain) = common.drain {
            spec.timeouts.drain = drain;
        }
        Ok(Share {
            routes: routes(&spec, std::slice::from_ref(host), &self.path, 0, None)?,
            spec,
            port: Ok(self.port),
            transport: Proto::Tcp,
            forward: Forward::Proxy,
            keeps_port: false,
            weight: 1,
            maxconn: 0,
            thresholds: (0, 0),
            network: common.network.clone(),
        })
    }
}

/// The port said, or the only one exposed, or 80.
fn port(container: &Inspect, said: Option<&str>, faults: &mut Faults) -> u16 {
    let exposed = port::exposed(container, Proto::Tcp);
    let Some(text) = said else {
        return match (exposed.first(), exposed.len()) {
            (Some(only), 1) => *only,
            _ => 80,
        };
    };
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    if port.is_none() {
        faults.push(format!(
            "VIRTUAL_PORT={}: expected a port from 1 to 65535",
            cut(text)
        ));
    }
    port.unwrap_or(80)
}
