//! Where the engine is, as `DOCKER_HOST` and the variables beside it say.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The oldest and the newest version of the Engine API that are spoken here.
pub const VERSIONS: (ApiVersion, ApiVersion) = (ApiVersion(1, 40), ApiVersion(1, 55));
/// Where an engine listens that was installed by a package.
const USUAL_SOCKET: &str = "/var/run/docker.sock";
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// A version of the Engine API, e.g. 1.41.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion(pub u16, pub u16);

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once('.').ok_or(())?;
        let number = |text: &str| -> Result<u16, ()> {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if digits {
                text.parse().map_err(drop)
            } else {
                Err(())
            }
        };
        Ok(Self(number(major)?, number(minor)?))
    }
}

/// Why a host cannot be used. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It is no address of an engine.
    #[error("`{given}` is no address of an engine: {why}")]
    Address {
        /// What was given.
        given: String,
        /// What is wrong, and what to write instead.
        why: String,
    },
    /// `DOCKER_API_VERSION` cannot be had.
    #[error(
        "DOCKER_API_VERSION is `{given}`, but versions {} to {} are spoken here: write one of these, or unset it, \
         and the newest that both sides speak is taken", VERSIONS.0, VERSIONS.1
    )]
    Version {
        /// What was given.
        given: String,
    },
    /// Nothing says where the certificates are.
    #[error(
        "DOCKER_TLS_VERIFY or DOCKER_TLS is set, but nothing says where the certificates are: set DOCKER_CERT_PATH to \
         the folder with ca.pem, cert.pem and key.pem"
    )]
    NoCertificates,
}

/// Where bytes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Unix(PathBuf),
    Tcp { host: String, port: Option<u16> },
}

/// How a TCP connection is protected. Files are read at every connection: they may be renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// The folder with `ca.pem`, `cert.pem` and `key.pem`.
    pub(crate) folder: PathBuf,
    /// Whether the engine has to show a certificate of that CA for the name it is called by.
    pub(crate) verify: bool,
}

/// An engine and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineHost {
    pub(crate) place: Place,
    pub(crate) tls: Option<Tls>,
    pub(crate) version: Option<ApiVersion>,
}

impl EngineHost {
    /// The engine behind a Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self {
            place: Place::Unix(path.into()),
            tls: None,
            version: None,
        }
    }

    /// The engine that the environment names: `DOCKER_HOST`, else `/var/run/docker.sock`, else
    /// `$XDG_RUNTIME_DIR/docker.sock`. For TLS and the version see
    /// [`with_env`](Self::with_env). Contexts of the docker command are not looked at.
    ///
    /// # Errors
    /// A variable does not say what it should.
    pub fn from_env(vars: impl Fn(&str) -> Option<String>) -> Result<Self, HostError> {
        match set(&vars, "DOCKER_HOST") {
            Some(host) => Self::parse(&host)?.with_env(vars),
            None => {
                let rootless = set(&vars, "XDG_RUNTIME_DIR")
                    .map(|folder| Path::new(&folder).join("docker.sock"))
                    .filter(|path| path.exists() && !Path::new(USUAL_SOCKET).exists());
                let path = rootless.unwrap_or_else(|| USUAL_SOCKET.into());
                Self::unix(path).with_env(vars)
            }
        }
    }

    /// An address: `unix:///PATH`, `/PATH`, `tcp://HOST[:PORT]` or `HOST:PORT`. Without a port it
    /// is 2375, or 2376 with TLS.
    ///
    /// # Errors
    /// It is none, or one that is not spoken here, such as `ssh://` and `npipe://`.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let given = text.trim();
        let fail = |why: &str| HostError::Address {
            given: given.to_owned(),
            why: why.to_owned(),
        };
        let (scheme, rest) = match given.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if given.starts_with('/') => ("unix", given),
            None => ("tcp", given),
        };
        match scheme {
            "unix" if rest.is_empty() => Ok(Self::unix(USUAL_SOCKET)),
            "unix" if !rest.starts_with('/') => Err(fail(
                "a socket is named by its whole path, as in unix:///var/run/docker.sock",
            )),
            "unix" => Ok(Self::unix(rest)),
            "tcp" => {
                let (host, port) = authority(rest).map_err(|why| fail(&why))?;
                let place = Place::Tcp { host, port };
                Ok(Self {
                    place,
                    tls: None,
                    version: None,
                })
            }
            "ssh" => Err(fail(&format!(
                "ssh is not spoken here: forward the socket with `ssh -nNT -L /run/user/UID/engine.sock:{USUAL_SOCKET} \
                 {rest}` and name unix:///run/user/UID/engine.sock"
            ))),
            "npipe" => Err(fail(
                "named pipes are Windows': plimsoll balances Linux containers",
            )),
            "http" | "https" => Err(fail(
                "write tcp://HOST:PORT; for TLS also set DOCKER_TLS_VERIFY and DOCKER_CERT_PATH",
            )),
            "fd" => Err(fail(
                "fd:// is for the engine itself: name the socket it listens on, as in unix:///PATH",
            )),
            _ => Err(fail("use unix:///PATH or tcp://HOST:PORT")),
        }
    }

    /// Takes TLS and the version from the environment, as the docker command and its Go client do:
    ///
    /// - `DOCKER_TLS_VERIFY`, if not empty (`0` is not empty): TLS, and the engine's certificate is
    ///   verified.
    /// - Else `DOCKER_TLS` or `DOCKER_CERT_PATH`: TLS with whoever answers; the certificate is not
    ///   verified, see [`is_anybody`](Self::is_anybody).
    /// - `DOCKER_CERT_PATH`: the folder with `ca.pem`, `cert.pem` and `key.pem`; `$DOCKER_CONFIG`
    ///   or `~/.docker` without it.
    /// - `DOCKER_API_VERSION`: this version is used, whatever the engine offers.
    ///
    /// A Unix socket has no TLS.
    ///
    /// # Errors
    /// A variable does not say what it should.
    pub fn with_env(mut self, vars: impl Fn(&str) -> Option<String>) -> Result<Self, HostError> {
        if let Some(given) = set(&vars, "DOCKER_API_VERSION") {
            let version = given.trim().trim_start_matches('v').parse().ok();
            let version = version.filter(|v| (VERSIONS.0..=VERSIONS.1).contains(v));
            self.version = Some(version.ok_or(HostError::Version { given })?);
        }
        let verify = set(&vars, "DOCKER_TLS_VERIFY").is_some();
        let folder = set(&vars, "DOCKER_CERT_PATH").map(PathBuf::from);
        let wanted = verify || folder.is_some() || set(&vars, "DOCKER_TLS").is_some();
        if !wanted || self.socket().is_some() {
            return Ok(self);
        }
        let home = || set(&vars, "HOME").map(|home| Path::new(&home).join(".docker"));
        let config = || set(&vars, "DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(config).or_else(home);
        Ok(self.with_tls(folder.ok_or(HostError::NoCertificates)?, verify))
    }

    /// Uses TLS with the `ca.pem`, `cert.pem` and `key.pem` in `folder`; `verify` is whether the
    /// engine has to prove who it is. A Unix socket has no TLS.
    #[must_use]
    pub fn with_tls(mut self, folder: impl Into<PathBuf>, verify: bool) -> Self {
        if self.socket().is_none() {
            let folder = folder.into();
            self.tls = Some(Tls { folder, verify });
        }
        self
    }

    /// Whether there is TLS and the engine has to prove nothing by it: whoever stands between may
    /// read all, and say which containers there are.
    pub fn is_anybody(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.verify)
    }

    /// The Unix socket, if it is one.
    pub fn socket(&self) -> Option<&Path> {
        match &self.place {
            Place::Unix(path) => Some(path),
            Place::Tcp { .. } => None,
        }
    }

    /// The port to connect to, where this one is written.
    pub(crate) fn port(&self, written: Option<u16>) -> u16 {
        let usual = if self.tls.is_some() {
            TLS_PORT
        } else {
            PLAIN_PORT
        };
        written.unwrap_or(usual)
    }
}

/// As it is written: `unix:///var/run/docker.sock`, `tcp://10.0.0.5:2376`.
impl fmt::Display for EngineHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Unix(path) => write!(f, "unix://{}", path.display()),
            Place::Tcp { host, port } => {
                let port = self.port(*port);
                if host.parse::<Ipv6Addr>().is_ok() {
                    write!(f, "tcp://[{host}]:{port}")
                } else {
                    write!(f, "tcp://{host}:{port}")
                }
            }
        }
    }
}

/// The value of a variable that is set to something.
fn set(vars: impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    vars(name).filter(|value| !value.trim().is_empty())
}

/// Host and port of `HOST`, `HOST:PORT`, `:PORT` or `[IPV6]:PORT`; the host is 127.0.0.1 if there
/// is none, as for the docker command.
fn authority(text: &str) -> Result<(String, Option<u16>), String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains('/') {
        return Err("paths behind the port are not spoken here: write tcp://HOST:PORT".into());
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("a `]` is missing")?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err("between `[` and `]` stands no IPv6 address".into());
        }
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err("after `]` comes a `:` and the port, or nothing".into()),
        }
    } else {
        match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err("write an IPv6 address as [ADDRESS]:PORT".into());
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if host.parse::<IpAddr>().is_err() && !host.bytes().all(plain) {
        return Err("use unix:///PATH or tcp://HOST:PORT".into());
    }
    let port = port.map(|port| match port.parse::<u16>() {
        Ok(0) | Err(_) => Err(format!("`{port}` is no port: 1 to 65535")),
        Ok(number) => Ok(number),
    });
    Ok((host.to_owned(), port.transpose()?))
}
