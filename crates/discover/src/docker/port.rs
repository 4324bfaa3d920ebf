//! Which port of a container serves.

use std::collections::BTreeSet;

use plimsoll_model::Proto;

use super::wire::Inspect;

/// Ports that a message names at most.
const NAMED: usize = 8;

/// The ports that a container has for a transport: those its image or its maker exposes, and those
/// published without.
pub(crate) fn exposed(container: &Inspect, transport: Proto) -> BTreeSet<u16> {
    let exposed = container.config.exposed_ports.iter();
    let published = container.network_settings.ports.keys();
    let ports = exposed.chain(published).filter_map(|text| {
        let (port, proto) = text.split_once('/').unwrap_or((text, "tcp"));
        let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
        (proto == transport.as_str()).then_some(port)
    });
    ports.collect()
}

/// The port that serves where nothing says it: the only one that is exposed, or for HTTP 80 if
/// that is among them. `label` is the label that would say it.
///
/// # Errors
/// None is exposed, or which of several it is cannot be known.
pub(crate) fn guess(container: &Inspect, proto: Proto, label: &str) -> Result<u16, String> {
    let transport = proto.transport();
    let ports = exposed(container, transport);
    let mut all = ports.iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(*only),
        (None, _) => Err(format!(
            "no {transport} port is exposed: say which one with label {label}"
        )),
        _ if proto == Proto::Http && ports.contains(&80) => Ok(80),
        _ => {
            let mut texts: Vec<String> =
                ports.iter().take(NAMED).map(ToString::to_string).collect();
            if ports.len() > NAMED {
                texts.push("…".into());
            }
            let texts = texts.join(", ");
            Err(format!(
                "the {transport} ports {texts} are exposed: say which one with label {label}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess_of(exposed: &[&str], proto: Proto) -> Result<u16, String> {
        let mut container = Inspect::default();
        container.config.exposed_ports = exposed.iter().map(|port| (*port).into()).collect();
        guess(&container, proto, "plimsoll.port")
    }

    #[test]
    fn the_only_one_or_80() {
        assert_eq!(guess_of(&["8080/tcp", "53/udp"], Proto::Http), Ok(8080));
        assert_eq!(guess_of(&["8080/tcp", "53/udp"], Proto::Udp), Ok(53));
        assert_eq!(guess_of(&["80/tcp", "9000/tcp"], Proto::Http), Ok(80));
        assert_eq!(guess_of(&["9000"], Proto::Tcp), Ok(9000));
        let error = guess_of(&["80/tcp", "9000/tcp", "x/tcp", "0/tcp"], Proto::Tcp).unwrap_err();
        assert_eq!(
            error,
            "the tcp ports 80, 9000 are exposed: say which one with label plimsoll.port"
        );
        let error = guess_of(&["53/udp"], Proto::Http).unwrap_err();
        assert!(error.starts_with("no tcp port is exposed"), "{error}");
    }

    #[test]
    fn published_ports_count_and_messages_stay_short() {
        let mut container = Inspect::default();
        container.network_settings.ports = [("81/tcp".to_owned(), None)].into();
        assert_eq!(guess(&container, Proto::Http, "x"), Ok(81));
        container.config.exposed_ports = (1..=9).map(|port| format!("{port}/tcp")).collect();
        let error = guess(&container, Proto::Http, "x").unwrap_err();
        assert!(error.contains("7, 8, … are exposed"), "{error}");
    }
}
