//! One question over HTTP: are you well?

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Where HTTP is if a URL does not say it.
const HTTP_PORT: u16 = 80;

/// Whom to ask, and for what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    whom: Whom,
    /// The path, with a query if there is one.
    target: String,
    /// What goes into `Host`.
    host: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Whom {
    Unix(PathBuf),
    /// A host as it stands in a URL (IPv6 without brackets), and a port.
    Tcp(String, u16),
}

impl Probe {
    /// Asks at a Unix socket.
    pub(crate) fn unix(socket: PathBuf, target: &str) -> Self {
        Self {
            whom: Whom::Unix(socket),
            target: target.into(),
            host: "localhost".into(),
        }
    }

    /// Asks at an address.
    pub(crate) fn tcp(addr: SocketAddr, target: &str) -> Self {
        Self {
            whom: Whom::Tcp(addr.ip().to_string(), addr.port()),
            target: target.into(),
            host: addr.to_string(),
        }
    }

    /// Asks at a URL.
    ///
    /// # Errors
    /// It is none that can be asked; why, and what is expected.
    pub(crate) fn url(text: &str) -> Result<Self, String> {
        let expected = "expected http://HOST[:PORT][/PATH]";
        let uri: Uri = text.parse().map_err(|why| format!("{why}; {expected}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(format!("TLS is not spoken here; {expected}")),
            _ => return Err(expected.into()),
        }
        let authority = uri.authority().ok_or(expected)?;
        if authority.as_str().contains('@') {
            return Err(format!("no user goes before the host; {expected}"));
        }
        // What is no port is none to the parser: `a:99999` as well as `a:`.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            None | Some("") => HTTP_PORT,
            Some(port) => match port.strip_prefix(':').map(str::parse::<NonZeroU16>) {
                Some(Ok(port)) => port.get(),
                _ => return Err(format!("the port is none from 1 to 65535; {expected}")),
            },
        };
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Ok(Self {
            whom: Whom::Tcp(host.into(), port),
            target: target.into(),
            host: authority.as_str().into(),
        })
    }

    /// Whom it asks.
    pub(crate) fn whom(&self) -> String {
        match &self.whom {
            Whom::Unix(path) => path.display().to_string(),
            Whom::Tcp(..) => format!("http://{}{}", self.host, self.target),
        }
    }

    /// Asks, and waits for the head of an answer.
    pub(crate) async fn ask(&self, patience: Duration) -> io::Result<StatusCode> {
        let exchange = async {
            match &self.whom {
                Whom::Unix(path) => self.exchange(UnixStream::connect(path).await?).await,
                Whom::Tcp(host, port) => self.exchange(connect(host, *port).await?).await,
            }
        };
        match timeout(patience, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "no answer within {}",
                    plimsoll_config::format_duration(patience)
                ),
            )),
        }
    }

    async fn exchange<S>(&self, stream: S) -> io::Result<StatusCode>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let request = Request::get(&self.target)
            .header(header::HOST, &self.host)
            .header(
                header::USER_AGENT,
                concat!("plimsoll/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(io::Error::other)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::select! {
            answer = sender.send_request(request) => {
                answer.map(|answer| answer.status()).map_err(io::Error::other)
            }
            never = async {
                let _ = connection.await;
                std::future::pending().await
            } => never,
        }
    }
}

/// Connects to a host by its name or address. `localhost` is loopback without asking anybody (RFC
/// 6761 §6.3): an empty image has no table of hosts.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    if host.eq_ignore_ascii_case("localhost") {
        let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let here = here.map(|ip| SocketAddr::new(ip, port));
        return TcpStream::connect(here.as_slice()).await;
    }
    TcpStream::connect((host, port)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let probe = Probe::url("http://[::1]:8080/a?b=c").unwrap();
        assert_eq!(probe.whom, Whom::Tcp("::1".into(), 8080));
        assert_eq!(
            (probe.target.as_str(), probe.host.as_str()),
            ("/a?b=c", "[::1]:8080")
        );
        let probe = Probe::url("http://web").unwrap();
        assert_eq!(probe.whom, Whom::Tcp("web".into(), 80));
        assert_eq!(probe.target, "/");
        for (text, why) in [
            ("https://web/", "TLS"),
            ("web/health", "expected http://"),
            ("http://a@b/", "user"),
            ("http://", "expected http://"),
            ("http://a:99999/", "1 to 65535"),
            ("http://a:0/", "1 to 65535"),
            ("http://a:/", "1 to 65535"),
            ("http://[::1]:x/", "expected http://"),
        ] {
            let error = Probe::url(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
