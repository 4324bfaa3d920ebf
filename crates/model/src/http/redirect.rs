//! Redirects.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::{Invalid, PathPrefix};

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The host that a redirect leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RedirectHost {
    /// The one that was asked for, on this port, or the usual one of the scheme.
    Same(Option<u16>),
    /// This one, maybe with a port.
    Named(Arc<str>),
}

/// Where a redirect leads: `https` (the same host and path), `SCHEME://HOST[:PORT][/PATH]` with
/// `{host}` for the host that was asked for, or `/PATH` on the same host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedirectTarget {
    /// Scheme and host; none: as the request came.
    pub site: Option<(Scheme, RedirectHost)>,
    /// The path in place of the route's; none: that of the request.
    pub path: Option<PathPrefix>,
}

const EXPECTED: &str =
    "expected https, https://HOST, https://HOST/PATH, https://{host}:PORT or /PATH";

impl FromStr for RedirectTarget {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid(format!("redirect {text:?}: {why}; {EXPECTED}"));
        let path = |path: &str| {
            let path: Result<PathPrefix, Invalid> = path.parse();
            path.map_err(|_| bad("the path is not visible ASCII without ? and #"))
        };
        if text.starts_with("//") {
            return Err(bad("it has a host and no scheme"));
        }
        if text.starts_with('/') {
            let path = Some(path(text)?);
            return Ok(Self { site: None, path });
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, Some(rest)),
            None => (text, None),
        };
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(bad("neither a scheme nor a path")),
        };
        let Some(rest) = rest else {
            let site = Some((scheme, RedirectHost::Same(None)));
            return Ok(Self { site, path: None });
        };
        let (authority, tail) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let path = match tail {
            "" => None,
            tail => Some(path(tail)?),
        };
        let port = |text: &str| match text.strip_prefix(':') {
            Some(port) => match port.parse() {
                Ok(port @ 1..=u16::MAX) if !text.contains('+') => Ok(Some(port)),
                _ => Err(bad("a port is a number from 1 to 65535")),
            },
            None if text.is_empty() => Ok(None),
            None => Err(bad("not a host")),
        };
        let host = match authority.strip_prefix("{host}") {
            Some(rest) => RedirectHost::Same(port(rest)?),
            None => {
                let end = match authority.rfind(']') {
                    Some(at) => at.saturating_add(1),
                    None => authority.find(':').unwrap_or(authority.len()),
                };
                let (name, rest) = authority.split_at_checked(end).unwrap_or((authority, ""));
                port(rest)?;
                match name.parse() {
                    Ok(crate::HostPattern::Exact(_)) => {}
                    _ => return Err(bad("not a host")),
                }
                RedirectHost::Named(authority.to_ascii_lowercase().into())
            }
        };
        let site = Some((scheme, host));
        Ok(Self { site, path })
    }
}

impl fmt::Display for RedirectTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.site, &self.path) {
            (Some((scheme, RedirectHost::Same(None))), None) => {
                return f.write_str(scheme.as_str());
            }
            (Some((scheme, RedirectHost::Same(port))), _) => {
                write!(f, "{}://{{host}}", scheme.as_str())?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
            }
            (Some((scheme, RedirectHost::Named(host))), _) => {
                write!(f, "{}://{host}", scheme.as_str())?;
            }
            (None, _) => {}
        }
        self.path.as_ref().map_or(Ok(()), |path| path.fmt(f))
    }
}

impl Serialize for RedirectTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Send clients elsewhere (RFC 9110 §15.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Redirect {
    /// Where to.
    pub to: RedirectTarget,
    /// One of [`Redirect::STATUSES`].
    pub status: u16,
    /// Whether what follows the route's path is kept; without a path in `to`, the whole path.
    pub keep_path: bool,
    /// Whether the query is kept.
    pub keep_query: bool,
}

impl Redirect {
    /// The statuses of redirects.
    pub const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
    /// Temporary, the method stays: a browser does not hold on to it for ever.
    pub const DEFAULT_STATUS: u16 = 307;

    /// A redirect that keeps path and query.
    pub fn new(to: RedirectTarget) -> Self {
        Self {
            to,
            status: Self::DEFAULT_STATUS,
            keep_path: true,
            keep_query: true,
        }
    }

    /// Whether the status is one of a redirect, and it does not lead back to where it came from.
    ///
    /// # Errors
    /// It is not, or it does.
    pub fn validate(&self, path: &PathPrefix) -> Result<(), Invalid> {
        if !Self::STATUSES.contains(&self.status) {
            let statuses = Self::STATUSES.map(|status| status.to_string()).join(", ");
            return Err(Invalid(format!(
                "redirect: status {} is none of {statuses}",
                self.status
            )));
        }
        if self.to.site.is_none() && self.to.path.as_ref() == Some(path) {
            return Err(Invalid(format!(
                "redirect to {}: that is the route's own path, so clients would go in circles",
                self.to
            )));
        }
        Ok(())
    }
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.to, self.status)?;
        if !self.keep_path {
            f.write_str(" without path")?;
        }
        if !self.keep_query {
            f.write_str(" without query")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_back_as_they_were() {
        for text in [
            "https",
            "http",
            "https://{host}:8443",
            "https://{host}/x",
            "https://a.example",
            "https://a.example:8443/x/y",
            "http://[fd00::1]:80",
            "/new",
            "/",
        ] {
            let target: RedirectTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
        }
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for text in [
            "",
            "htps",
            "ftp://a",
            "//a",
            "https://",
            "https:///x",
            "https://a b",
            "https://a@b",
            "https://*.a",
            "https://a:0",
            "https://a:b",
            "https://a:+1",
            "https://{host}x",
            "https://a/?q",
            "new",
        ] {
            assert!(text.parse::<RedirectTarget>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_redirect_to_the_route_itself_is_refused() {
        let redirect = |to: &str| Redirect::new(to.parse().unwrap());
        let (root, old) = ("/".parse().unwrap(), "/old".parse().unwrap());
        assert!(redirect("/").validate(&root).is_err());
        assert!(redirect("/old/").validate(&old).is_err());
        assert!(redirect("/old").validate(&root).is_ok());
        assert!(redirect("https").validate(&root).is_ok());
    }
}
