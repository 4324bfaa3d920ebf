//! Why the engine cannot be asked, said so that whoever reads it knows what to do.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::host::{ApiVersion, VERSIONS};

/// Texts of others are cut to so many characters.
const MAX_TEXT: usize = 300;

/// Why the engine cannot be asked, or did not answer as it should. The text names the engine and
/// says what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no connection.
    #[error("{host}: {why}")]
    Connect {
        /// The engine.
        host: Arc<str>,
        /// What is in the way, and what to do.
        why: String,
    },
    /// It did not answer in time.
    #[error("{host}: no answer to {path} within {after:?}: the engine hangs, or is very busy")]
    TimedOut {
        /// The engine.
        host: Arc<str>,
        /// What was asked.
        path: String,
        /// How long was waited.
        after: Duration,
    },
    /// No version is spoken by both sides.
    #[error("{host}: {why}")]
    Version {
        /// The engine.
        host: Arc<str>,
        /// Who is too old for whom, and what to do.
        why: String,
    },
    /// Its containers are not Linux'.
    #[error(
        "{host}: this engine runs {os} containers; plimsoll balances Linux containers: switch it over, or name another \
         engine with DOCKER_HOST"
    )]
    NotLinux {
        /// The engine.
        host: Arc<str>,
        /// What it says it runs.
        os: String,
    },
    /// It said no.
    #[error("{host}: {path}: {status}: {message}")]
    Refused {
        /// The engine.
        host: Arc<str>,
        /// What was asked.
        path: String,
        /// The HTTP status.
        status: u16,
        /// What it said, and what to do.
        message: String,
    },
    /// Its answer is none.
    #[error("{host}: {path}: {why}")]
    Broken {
        /// The engine.
        host: Arc<str>,
        /// What was asked.
        path: String,
        /// What is wrong with the answer.
        why: String,
    },
}

impl EngineError {
    /// Whether what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// The socket could not be connected to.
    pub(crate) fn socket(host: Arc<str>, path: &Path, error: &io::Error) -> Self {
        let why = explain_socket(path, error);
        Self::Connect { host, why }
    }

    /// Theirs is older than the oldest spoken here.
    pub(crate) fn too_old(host: Arc<str>, engine: &str, theirs: ApiVersion) -> Self {
        let name = if engine.is_empty() {
            "the engine".to_owned()
        } else {
            format!("Docker {}", clean(engine))
        };
        let oldest = VERSIONS.0;
        let why = format!(
            "{name} is too old: it speaks API {theirs}, and {oldest} is needed: update it to Docker 19.03 or newer"
        );
        Self::Version { host, why }
    }

    /// Theirs starts above the newest spoken here.
    pub(crate) fn too_new(host: Arc<str>, ours: ApiVersion, theirs: ApiVersion) -> Self {
        let why = format!(
            "the engine no longer speaks API {ours}, only {theirs} and newer: update plimsoll, or set the engine's \
             `min-api-version` to {ours} (DOCKER_MIN_API_VERSION)"
        );
        Self::Version { host, why }
    }

    /// `DOCKER_API_VERSION` is above what the engine speaks.
    pub(crate) fn pinned(host: Arc<str>, pinned: ApiVersion, theirs: ApiVersion) -> Self {
        let why = format!(
            "DOCKER_API_VERSION is {pinned}, but the engine speaks {theirs} at most: unset it, and the newest that both \
             sides speak is taken"
        );
        Self::Version { host, why }
    }
}

/// Why a Unix socket could not be connected to, and what to do.
fn explain_socket(path: &Path, error: &io::Error) -> String {
    let data = std::fs::metadata(path).ok();
    match error.kind() {
        ErrorKind::NotFound => "there is no such socket: is Docker installed and running? In a container, mount it \
             (`-v /var/run/docker.sock:/var/run/docker.sock`); if it is elsewhere, name it with DOCKER_HOST, --docker, or \
             host in [docker]. Behind docker-proxy: is that running?"
            .into(),
        ErrorKind::PermissionDenied => {
            let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
            let gid = data.map(|data| data.gid());
            let name = gid.and_then(|gid| group_name(&groups, gid));
            explain_denied(gid, name)
        }
        _ if data.as_ref().is_some_and(|data| data.is_dir()) => "this is a folder, not a socket: it was made \
             because there was no socket when it was mounted. Remove it, start the engine, create the container anew"
            .into(),
        _ if data.is_some_and(|data| !data.file_type().is_socket()) => {
            "this is not a socket: name the engine's with DOCKER_HOST, --docker, or host in [docker]".into()
        }
        ErrorKind::ConnectionRefused => "nobody listens: start the engine (`systemctl start docker`), or what \
             stands before it, such as docker-proxy"
            .into(),
        _ => error.to_string(),
    }
}

/// What to do where the socket's mode keeps us out; `gid` is its group, if that can be seen.
fn explain_denied(gid: Option<u32>, name: Option<&str>) -> String {
    match (gid, name) {
        (None, _) => {
            "permission denied on the way to it: its folder may not be entered by this user".into()
        }
        (Some(0), _) => "permission denied: only root and the group root (gid 0) may use it: give it to a group \
             (`\"group\"` in daemon.json), or put `plimsoll docker-proxy` before it"
            .into(),
        (Some(gid), Some(name)) => format!(
            "permission denied: it belongs to the group {name} (gid {gid}): add the user to it \
             (`usermod -aG {name} USER`, then log in again), or run the container with `--group-add {gid}`"
        ),
        (Some(gid), None) => format!(
            "permission denied: it belongs to the group with gid {gid}: add the user to that group, or run the \
             container with `--group-add {gid}`"
        ),
    }
}

/// The name of a group in the text of `/etc/group` (group(5)).
fn group_name(groups: &str, gid: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (number == gid && !name.is_empty()).then_some(name)
    })
}

/// The innermost cause that says something, for errors of hyper, which wrap it.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    if let Some(tls) = find_tls(error) {
        return explain_tls(tls);
    }
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// The TLS error in a chain of causes; `std::io::Error` holds it without showing it as a source.
fn find_tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        let io = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match io {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn explain_tls(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error as Tls};
    match error {
        Tls::InvalidMessage(_) => "it does not speak TLS: unset DOCKER_TLS_VERIFY, DOCKER_TLS and DOCKER_CERT_PATH, or \
             name its TLS port"
            .into(),
        Tls::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "its certificate is not signed by the CA in ca.pem: take the ca.pem that belongs to this engine".into()
        }
        Tls::InvalidCertificate(Bad::NotValidForNameContext { .. } | Bad::NotValidForName) => {
            "its certificate is not for this name or address: name it in DOCKER_HOST as the certificate does".into()
        }
        Tls::AlertReceived(Alert::CertificateRequired | Alert::HandshakeFailure) => {
            "it wants a certificate: put cert.pem and key.pem into the folder of DOCKER_CERT_PATH".into()
        }
        Tls::AlertReceived(
            alert @ (Alert::UnknownCA | Alert::BadCertificate | Alert::DecryptError | Alert::CertificateUnknown),
        ) => format!("it does not accept the certificate in cert.pem ({alert:?}): it has to be signed by its CA"),
        other => format!("TLS: {other}"),
    }
}

/// A text from outside as one line of plain characters, of a bounded length.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::new();
    for (count, word) in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .enumerate()
    {
        if count > 0 {
            out.push(' ');
        }
        out.push_str(word);
        if let Some((cut, _)) = out.char_indices().nth(MAX_TEXT) {
            out.truncate(cut);
            out.push('…');
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_not_is_told_the_group() {
        let groups = "root:x:0:\ndocker:x:998:jo\nbroken\n::5:\n";
        assert_eq!(group_name(groups, 998), Some("docker"));
        assert_eq!(group_name(groups, 5), None);
        assert_eq!(group_name(groups, 7), None);
        let told = explain_denied(Some(998), Some("docker"));
        assert!(
            told.contains("usermod -aG docker") && told.contains("--group-add 998"),
            "{told}"
        );
        let told = explain_denied(Some(7), None);
        assert!(
            told.contains("gid 7") && told.contains("--group-add 7"),
            "{told}"
        );
        assert!(explain_denied(Some(0), Some("root")).contains("docker-proxy"));
        assert!(explain_denied(None, None).contains("folder"));
    }

    #[test]
    fn texts_of_others_are_one_short_line() {
        assert_eq!(clean(" a\r\n\tb\u{1b}[1m  c "), "a b [1m c");
        let long = clean(&"é".repeat(1000));
        assert_eq!(long.chars().count(), MAX_TEXT + 1);
    }
}
