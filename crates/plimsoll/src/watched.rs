//! What `run` watches: a file, an engine, or both; and links.

use std::path::{Path, PathBuf};

use plimsoll_config::Config;
use plimsoll_discover::docker::host::{EngineHost, HostError};
use plimsoll_model::{Listen, Proto};

use crate::error::Error;

/// Used if it is there and no other is named.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/plimsoll/plimsoll.toml";

/// The port of HTTP.
const HTTP_PORT: u16 = 80;

/// What the command line says of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// `--config`
    pub(crate) config: Option<PathBuf>,
    /// `--docker`, and the host behind it.
    pub(crate) docker: Option<Option<String>>,
    /// `--listen`
    pub(crate) listen: Option<Listen>,
    /// `--links`
    pub(crate) links: bool,
}

impl Wish {
    /// The file that is read: the one that is named, else the usual one if it is there.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let usual = || {
            Path::new(DEFAULT_CONFIG)
                .exists()
                .then(|| DEFAULT_CONFIG.into())
        };
        self.config.clone().or_else(usual)
    }

    /// The engine that is watched: one that is asked for, or without a file and links the local
    /// one.
    ///
    /// # Errors
    /// What names it is no address, or there is something to say of containers and none are watched.
    pub(crate) fn engine(
        &self,
        config: Option<&Config>,
        vars: impl Fn(&str) -> Option<String> + Copy,
    ) -> Result<Option<EngineHost>, Error> {
        let table = config.and_then(|config| config.docker.as_ref());
        let asked = self.docker.is_some() || table.is_some();
        if !asked && (config.is_some() || self.links) {
            return match self.listen {
                Some(_) if !self.links => Err(Error::Usage(
                    "--listen: it is for containers, and no engine is watched beside a \
                     configuration: add --docker, or [docker] to the file"
                        .into(),
                )),
                _ => Ok(None),
            };
        }
        let (place, host) = match (self.docker.as_ref().and_then(Option::as_deref), table) {
            (Some(host), _) => {
                let host = EngineHost::parse(host);
                ("--docker", host.and_then(|host| host.with_env(vars)))
            }
            (None, Some(table)) if table.host.is_some() => ("[docker] host", of_table(table, vars)),
            _ => ("DOCKER_HOST", EngineHost::from_env(vars)),
        };
        host.map(Some).map_err(|why| wrong(place, &why))
    }

    /// Where HTTP services of containers and links listen that do not say it themselves.
    pub(crate) fn http(&self, config: &Config) -> Listen {
        let table = config.docker.as_ref();
        let listen = self.listen.or_else(|| table?.listen);
        listen.unwrap_or(Listen::socket(None, HTTP_PORT, Proto::Http))
    }
}

/// What is wrong with an engine that `place` names. Of variables beside its address the error itself
/// says which.
pub(crate) fn wrong(place: &str, why: &HostError) -> Error {
    let place = match why {
        HostError::Address { .. } => place,
        _ => "environment",
    };
    Error::Usage(format!("{place}: {why}"))
}

/// The engine that a `[docker]` table names, with its certificates; without any those of the
/// environment.
pub(crate) fn of_table(
    table: &plimsoll_config::Docker,
    vars: impl Fn(&str) -> Option<String>,
) -> Result<EngineHost, HostError> {
    let host = EngineHost::parse(table.host.as_deref().unwrap_or_default())?;
    match &table.tls {
        Some(folder) => {
            let only_version = |name: &str| (name == "DOCKER_API_VERSION").then(|| vars(name))?;
            host.with_tls(folder, true).with_env(only_version)
        }
        None => host.with_env(vars),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(wish: &Wish, config: Option<&str>, vars: &[(&str, &str)]) -> Result<String, String> {
        let config = config.map(|text| plimsoll_config::parse("file:x", text).unwrap());
        let vars = |name: &str| {
            let mut vars = vars.iter();
            Some(vars.find(|(key, _)| *key == name)?.1.to_owned())
        };
        let http = wish.http(&config.clone().unwrap_or_default());
        match wish.engine(config.as_ref(), vars) {
            Ok(Some(host)) => Ok(format!("{host} {http}")),
            Ok(None) => Ok("none".into()),
            Err(why) => Err(why.to_string()),
        }
    }

    #[test]
    fn an_engine_is_watched_without_a_file_or_when_asked_for() {
        let none = Wish::default();
        let asked = |host: Option<&str>| Wish {
            docker: Some(host.map(str::to_owned)),
            ..Wish::default()
        };
        let env = [("DOCKER_HOST", "unix:///env.sock")];
        let table = "[docker]\nhost = \"unix:///table.sock\"\nlisten = \"*:81/http\"\n";
        for (wish, config, wanted) in [
            (&none, None, "unix:///env.sock *:80/http"),
            (&none, Some(""), "none"),
            (&none, Some("[docker]\n"), "unix:///env.sock *:80/http"),
            (&none, Some(table), "unix:///table.sock *:81/http"),
            (&asked(None), Some(""), "unix:///env.sock *:80/http"),
            (&asked(None), Some(table), "unix:///table.sock *:81/http"),
            (
                &asked(Some("/flag.sock")),
                Some(table),
                "unix:///flag.sock *:81/http",
            ),
            (&asked(Some("tcp://a")), None, "tcp://a:2375 *:80/http"),
        ] {
            assert_eq!(
                engine(wish, config, &env).as_deref(),
                Ok(wanted),
                "{wish:?} {config:?}"
            );
        }
        let listen = Wish {
            listen: Some("127.0.0.1:8080/http".parse().unwrap()),
            ..Wish::default()
        };
        let wanted = Ok("unix:///table.sock 127.0.0.1:8080/http");
        assert_eq!(engine(&listen, Some(table), &env).as_deref(), wanted);
        let error = engine(&listen, Some(""), &env).unwrap_err();
        assert!(error.contains("--docker"), "{error}");
        let links = Wish {
            links: true,
            ..listen
        };
        assert_eq!(engine(&links, None, &env).as_deref(), Ok("none"));
        let both = Wish {
            docker: Some(None),
            ..links
        };
        let wanted = Ok("unix:///env.sock 127.0.0.1:8080/http");
        assert_eq!(engine(&both, None, &env).as_deref(), wanted);
    }

    #[test]
    fn what_is_no_address_is_said_with_its_place() {
        let asked = Wish {
            docker: Some(Some("ssh://host".into())),
            ..Wish::default()
        };
        let table = Some("[docker]\nhost = \"ssh://host\"\n");
        let named = Wish {
            docker: Some(Some("/a.sock".into())),
            ..Wish::default()
        };
        let none = Wish::default();
        for (wish, config, vars, place) in [
            (&asked, None, &[][..], "--docker: "),
            (&none, table, &[], "[docker] host: "),
            (
                &none,
                None,
                &[("DOCKER_HOST", "ssh://host")],
                "DOCKER_HOST: `ssh://host`",
            ),
            (
                &named,
                None,
                &[("DOCKER_API_VERSION", "1.2")],
                "environment: DOCKER_API_VERSION",
            ),
            (
                &none,
                None,
                &[("DOCKER_API_VERSION", "1.2")],
                "environment: DOCKER_API_VERSION",
            ),
        ] {
            let error = engine(wish, config, vars).unwrap_err();
            assert!(error.starts_with(place), "{error}");
        }
    }

    #[test]
    fn certificates_of_the_file_go_before_those_of_the_environment() {
        let table = "[docker]\nhost = \"tcp://a\"\ntls = \"/certs\"\n";
        let vars = [("DOCKER_CERT_PATH", "/other"), ("DOCKER_TLS", "1")];
        let config = plimsoll_config::parse("file:x", table).unwrap();
        let get = |name: &str| {
            let mut vars = vars.iter();
            Some(vars.find(|(key, _)| *key == name)?.1.to_owned())
        };
        let host = of_table(config.docker.as_ref().unwrap(), get).unwrap();
        let wanted = EngineHost::parse("tcp://a")
            .unwrap()
            .with_tls("/certs", true);
        assert_eq!(host, wanted);
    }
}
