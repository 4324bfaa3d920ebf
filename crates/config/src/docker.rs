//! `[docker]`: containers of a Docker Engine beside what the file says.

use std::path::PathBuf;

use plimsoll_model::{Invalid, Listen, Ports};

use crate::fields::{Faults, Node};
use crate::schema;

/// A Docker Engine to watch. What the command line says goes before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Docker {
    /// Where it is, such as `unix:///var/run/docker.sock`; none leaves it to the environment
    /// (`DOCKER_HOST`). It is not empty; whether it is an address is for others to say.
    pub host: Option<String>,
    /// Where HTTP services of containers listen that do not say it themselves: an HTTP listen on
    /// one port. None is `*:80/http`.
    pub listen: Option<Listen>,
    /// The folder with `ca.pem`, `cert.pem` and `key.pem`: TLS, and the engine has to prove who it
    /// is. Absolute; there only if `host` is.
    pub tls: Option<PathBuf>,
}

pub(crate) fn read(node: &Node<'_>, faults: &mut Faults) -> Docker {
    let mut docker = Docker::default();
    let Some(table) = node.table("one table, [docker] in single brackets", faults) else {
        return docker;
    };
    table.check_keys(schema::DOCKER, faults);
    let host = table.get("host");
    docker.host = host.as_ref().and_then(|node| address(node, faults));
    docker.listen = table.get("listen").and_then(|node| listen(&node, faults));
    if let Some(node) = table.get("tls") {
        docker.tls = folder(&node, faults);
        if host.is_none() {
            let fault = node.fault("certificates of an engine that is not named");
            faults.push(fault.expected("host beside it, such as \"tcp://10.0.0.5:2376\""));
        }
        if docker.host.as_deref().is_some_and(is_socket) {
            let fault = node.fault("certificates for a socket, which has no TLS");
            faults.push(fault.expected("no tls, or a host such as \"tcp://10.0.0.5:2376\""));
        }
    }
    docker
}

fn is_socket(host: &str) -> bool {
    let host = host.trim();
    host.starts_with("unix:") || host.starts_with('/')
}

fn address(node: &Node<'_>, faults: &mut Faults) -> Option<String> {
    let text = node.label(faults)?;
    if !text.trim().is_empty() {
        return Some(text.into());
    }
    let expected = "unix:///PATH or tcp://HOST:PORT, or no host for the one of the environment";
    faults.push(node.fault("nothing").expected(expected));
    None
}

/// Reads an HTTP listen as one is written where only HTTP is meant: `PORT`, `ADDR:PORT` or
/// `ADDR:PORT/http`. Another protocol behind the slash is read as well.
///
/// # Errors
/// It is no listen, as the model says it.
pub fn parse_http_listen(text: &str) -> Result<Listen, Invalid> {
    let (address, proto) = text.split_once('/').unwrap_or((text, "http"));
    let any = if address.contains(':') { "" } else { "*:" };
    format!("{any}{address}/{proto}").parse()
}

fn listen(node: &Node<'_>, faults: &mut Faults) -> Option<Listen> {
    let expected = "PORT or ADDR:PORT, such as \"80\" or \"127.0.0.1:8080\"";
    let listen = match parse_http_listen(node.string(expected, faults)?) {
        Ok(listen) => listen,
        Err(error) => {
            faults.push(node.invalid(&error, expected));
            return None;
        }
    };
    let one = matches!(
        listen,
        Listen::Socket {
            ports: Ports::One(_),
            ..
        }
    );
    let why = match listen {
        _ if !listen.is_http() => "it is for HTTP services",
        _ if !one => "several ports",
        _ => return Some(listen),
    };
    faults.push(node.fault(why).expected(expected));
    None
}

fn folder(node: &Node<'_>, faults: &mut Faults) -> Option<PathBuf> {
    let expected = "the absolute path of the folder with ca.pem, cert.pem and key.pem";
    let text = node.label(faults)?;
    if text.starts_with('/') {
        return Some(text.into());
    }
    faults.push(node.fault("a path that is not absolute").expected(expected));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listens_are_short_where_only_http_is_meant() {
        for (text, wanted) in [
            ("80", "*:80/http"),
            (":80", "*:80/http"),
            ("*:80", "*:80/http"),
            ("*:80/http", "*:80/http"),
            ("80/http", "*:80/http"),
            ("127.0.0.1:81", "127.0.0.1:81/http"),
            ("[::1]:81", "[::1]:81/http"),
            ("*:80/tcp", "*:80/tcp"),
        ] {
            let read = parse_http_listen(text).map(|listen| listen.to_string());
            assert_eq!(read.as_deref(), Ok(wanted), "{text}");
        }
        for bad in ["", "a", "0", "70000", "::1:80", "*:80/htp", "80/http/"] {
            assert!(parse_http_listen(bad).is_err(), "{bad}");
        }
    }
}
