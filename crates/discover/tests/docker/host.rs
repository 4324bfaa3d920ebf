//! Where the engine is, by its address and by the environment.

use plimsoll_discover::docker::host::{EngineHost, HostError};

fn parse(text: &str) -> Result<String, String> {
    let host = EngineHost::parse(text).map_err(|error| error.to_string())?;
    Ok(host.to_string())
}

#[test]
fn addresses_are_read() {
    for (text, expected) in [
        ("unix:///run/docker.sock", "unix:///run/docker.sock"),
        ("/run/docker.sock", "unix:///run/docker.sock"),
        ("unix://", "unix:///var/run/docker.sock"),
        ("tcp://10.0.0.5:2376", "tcp://10.0.0.5:2376"),
        ("tcp://10.0.0.5", "tcp://10.0.0.5:2375"),
        ("tcp://engine.example/", "tcp://engine.example:2375"),
        (" tcp://:4000 ", "tcp://127.0.0.1:4000"),
        ("tcp://", "tcp://127.0.0.1:2375"),
        ("docker-proxy:2375", "tcp://docker-proxy:2375"),
        ("tcp://[fd00::5]:2375", "tcp://[fd00::5]:2375"),
        ("tcp://[fd00::5]", "tcp://[fd00::5]:2375"),
    ] {
        assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_address_is_told_what_to_write() {
    for (text, expected) in [
        ("ssh://me@host", "ssh -nNT -L"),
        ("npipe:////./pipe/docker_engine", "Linux containers"),
        ("http://10.0.0.5:2375", "write tcp://HOST:PORT"),
        ("https://10.0.0.5:2376", "DOCKER_TLS_VERIFY"),
        ("fd://", "name the socket"),
        ("ftp://x", "use unix:///PATH or tcp://HOST:PORT"),
        ("unix://docker.sock", "whole path"),
        ("tcp://10.0.0.5:0", "1 to 65535"),
        ("tcp://10.0.0.5:http", "1 to 65535"),
        ("tcp://10.0.0.5:2375/v1", "paths"),
        ("tcp://fd00::5:2375", "[ADDRESS]:PORT"),
        ("tcp://[fd00::5", "`]`"),
        ("tcp://[x]:1", "no IPv6 address"),
        ("tcp://[::1]x", "after `]`"),
        ("tcp://a b", "use unix:///PATH"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.contains(text), "{error}");
    }
}

fn from_env(pairs: &[(&str, &str)]) -> Result<EngineHost, HostError> {
    EngineHost::from_env(|name| {
        let pair = pairs.iter().find(|(key, _)| *key == name);
        pair.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn the_environment_names_the_engine() {
    let tcp = ("DOCKER_HOST", "tcp://10.0.0.5");
    for (pairs, expected) in [
        (vec![], "unix:///var/run/docker.sock"),
        (vec![("DOCKER_HOST", "")], "unix:///var/run/docker.sock"),
        (vec![("DOCKER_HOST", "unix:///x")], "unix:///x"),
        (vec![tcp], "tcp://10.0.0.5:2375"),
        (
            vec![tcp, ("DOCKER_CERT_PATH", "/certs")],
            "tcp://10.0.0.5:2376",
        ),
        (
            vec![tcp, ("DOCKER_TLS_VERIFY", "1"), ("HOME", "/root")],
            "tcp://10.0.0.5:2376",
        ),
        (
            vec![tcp, ("DOCKER_TLS_VERIFY", ""), ("HOME", "/root")],
            "tcp://10.0.0.5:2375",
        ),
        (
            vec![tcp, ("DOCKER_TLS", "1"), ("DOCKER_CONFIG", "/c")],
            "tcp://10.0.0.5:2376",
        ),
        (
            vec![("DOCKER_HOST", "/x"), ("DOCKER_TLS_VERIFY", "1")],
            "unix:///x",
        ),
        (
            vec![tcp, ("DOCKER_API_VERSION", "1.41")],
            "tcp://10.0.0.5:2375",
        ),
    ] {
        let host = from_env(&pairs).unwrap();
        assert_eq!(host.to_string(), expected, "{pairs:?}");
    }
    let verified = from_env(&[
        tcp,
        ("DOCKER_TLS_VERIFY", "0"),
        ("DOCKER_CERT_PATH", "/certs"),
    ]);
    let expected = EngineHost::parse("tcp://10.0.0.5")
        .unwrap()
        .with_tls("/certs", true);
    assert_eq!(verified.unwrap(), expected);
    let home = from_env(&[tcp, ("DOCKER_TLS_VERIFY", "1"), ("HOME", "/root")]);
    let expected = EngineHost::parse("tcp://10.0.0.5")
        .unwrap()
        .with_tls("/root/.docker", true);
    assert_eq!(home.unwrap(), expected);
    let anybody = from_env(&[tcp, ("DOCKER_CERT_PATH", "/certs")]);
    let expected = EngineHost::parse("tcp://10.0.0.5")
        .unwrap()
        .with_tls("/certs", false);
    assert_eq!(anybody.unwrap(), expected);
}

#[test]
fn tls_with_anybody_is_known_as_such() {
    let tcp = ("DOCKER_HOST", "tcp://10.0.0.5");
    let certs = ("DOCKER_CERT_PATH", "/certs");
    for (pairs, expected) in [
        (vec![tcp], false),
        (vec![tcp, certs], true),
        (vec![tcp, certs, ("DOCKER_TLS_VERIFY", "")], true),
        (vec![tcp, ("DOCKER_TLS", "1"), ("HOME", "/root")], true),
        (vec![tcp, certs, ("DOCKER_TLS_VERIFY", "1")], false),
        (vec![tcp, certs, ("DOCKER_TLS_VERIFY", "0")], false),
        (vec![("DOCKER_HOST", "/x"), certs], false),
    ] {
        let host = from_env(&pairs).unwrap();
        assert_eq!(host.is_anybody(), expected, "{pairs:?}");
    }
}

#[test]
fn a_variable_that_says_nonsense_is_named() {
    for given in ["1.39", "1.56", "2.0", "1", "x", "1.+41", "1."] {
        let error = from_env(&[("DOCKER_API_VERSION", given)])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("DOCKER_API_VERSION is `{given}`")),
            "{error}"
        );
        assert!(error.contains("1.40 to 1.55"), "{error}");
    }
    let error = from_env(&[("DOCKER_HOST", "tcp://x"), ("DOCKER_TLS_VERIFY", "1")]).unwrap_err();
    assert_eq!(error, HostError::NoCertificates);
    let error = from_env(&[("DOCKER_HOST", "ssh://x")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("`ssh://x`"), "{error}");
}
