//! Routes: which service gets which HTTP requests.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::{Invalid, Listen, Name, Origin, RouteHttp};

/// A host name to match, without its port, in lower case.
///
/// As text: `example.com` exactly, `*.example.com` any name below it at any depth (not itself),
/// `*` every name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This name.
    Exact(Arc<str>),
    /// Every name that ends in this text, which begins with a dot.
    Suffix(Arc<str>),
    /// Every name.
    Any,
}

impl HostPattern {
    /// Whether a host name in lower case, without port, matches.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(name) => **name == *host,
            HostPattern::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            HostPattern::Any => true,
        }
    }
}

impl FromStr for HostPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| {
            Invalid(format!(
                "host {text:?}: {why}; expected a name (example.com), *.example.com, or *"
            ))
        };
        let lower = text.to_ascii_lowercase();
        if lower == "*" {
            return Ok(HostPattern::Any);
        }
        let name = lower.strip_prefix("*.").unwrap_or(&lower);
        if name.is_empty() {
            return Err(bad("it is empty"));
        }
        let v6 = name.starts_with('[') && name.ends_with(']');
        if name.contains('*') {
            return Err(bad("a star stands alone or for the first label"));
        }
        if !v6 && name.contains(':') {
            return Err(bad("a host has no port: the listen says it"));
        }
        let label = |l: &str| {
            !l.is_empty()
                && l.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if !v6 && !name.trim_end_matches('.').split('.').all(label) {
            return Err(bad("not a host name"));
        }
        let name = name.trim_end_matches('.');
        Ok(if lower.starts_with("*.") {
            HostPattern::Suffix(format!(".{name}").into())
        } else {
            HostPattern::Exact(name.into())
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => f.write_str(name),
            HostPattern::Suffix(suffix) => write!(f, "*{suffix}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A path prefix, matched by whole segments: `/api` takes `/api`, `/api/` and `/api/x`, not
/// `/apis`. A trailing slash is dropped. Case-sensitive; the path is compared as the client sent
/// it, without its query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct PathPrefix(Arc<str>);

impl PathPrefix {
    /// The prefix that takes every path.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// The prefix as text; begins with a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a path matches.
    pub fn matches(&self, path: &str) -> bool {
        &*self.0 == "/"
            || path
                .strip_prefix(&*self.0)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for PathPrefix {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid(format!("path {text:?}: {why}"));
        if !text.starts_with('/') {
            return Err(bad("a path begins with /"));
        }
        if text
            .bytes()
            .any(|b| !b.is_ascii_graphic() || b == b'?' || b == b'#')
        {
            return Err(bad(
                "a path is visible ASCII without ? and #; write others as %XX",
            ));
        }
        Ok(match text.trim_end_matches('/') {
            "" => Self::root(),
            path => Self(path.into()),
        })
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A service that a route leads to, and its share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct WeightedService {
    /// The service.
    pub service: Name,
    /// Its share among those of the route, 0..=[`crate::MAX_WEIGHT`].
    pub weight: u32,
}

/// Which HTTP requests go to which service.
///
/// Of all routes that match a request, the one with the highest `priority` is used; among equals
/// an exact host before a longer wildcard before a shorter one before any, then the longer path,
/// then the lesser name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Route {
    /// Its name, unique over all sources.
    pub name: Name,
    /// Who said so.
    pub origin: Origin,
    /// Any of these hosts; never empty.
    pub hosts: Vec<HostPattern>,
    /// And this path.
    pub path: PathPrefix,
    /// On these HTTP listens; empty: on the HTTP listens of the services it leads to, and if
    /// those have none, on every HTTP listen.
    pub listens: Vec<Listen>,
    /// Above 0 before, below 0 after all that is merely more specific.
    pub priority: i32,
    /// Where to, at least one.
    pub services: Vec<WeightedService>,
    /// What it does with its requests; none where that is nothing, as for most.
    pub http: Option<Arc<RouteHttp>>,
}

impl Route {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The first that is not, by its name.
    pub fn validate(&self) -> Result<(), Invalid> {
        let bad = |why: String| Err(Invalid(format!("route `{}`: {why}", self.name)));
        if self.hosts.is_empty() {
            return bad("it has no host: use \"*\" for every one".into());
        }
        if self.services.is_empty() {
            return bad("it leads to no service".into());
        }
        if let Some(listen) = self.listens.iter().find(|l| !l.is_http()) {
            return bad(format!("listen {listen} is not an http one"));
        }
        if self.services.iter().any(|s| s.weight > crate::MAX_WEIGHT) {
            return bad(format!(
                "a weight is above the greatest, {}",
                crate::MAX_WEIGHT
            ));
        }
        if let Some(http) = &self.http
            && let Err(error) = http.validate(&self.path)
        {
            return bad(error.0);
        }
        for (i, service) in self.services.iter().enumerate() {
            if self
                .services
                .iter()
                .skip(i + 1)
                .any(|other| other.service == service.service)
            {
                return bad(format!("service `{}` is named twice", service.service));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let parse = |text: &str| text.parse::<HostPattern>().unwrap();
        assert!(parse("Example.com").matches("example.com"));
        assert!(!parse("example.com").matches("www.example.com"));
        assert!(parse("*.example.com").matches("a.b.example.com"));
        assert!(!parse("*.example.com").matches("example.com"));
        assert!(!parse("*.example.com").matches("notexample.com"));
        assert!(parse("*").matches("anything"));
        for bad in ["", "*.", "a*b", "a.com:80", "a..b", "a b", "*.*.com"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_match_by_segment() {
        let parse = |text: &str| text.parse::<PathPrefix>().unwrap();
        assert!(parse("/api").matches("/api/x") && parse("/api/").matches("/api"));
        assert!(!parse("/api").matches("/apis"));
        assert!(parse("/").matches("*") && parse("/").matches("/x"));
        assert!("api".parse::<PathPrefix>().is_err() && "/a?b".parse::<PathPrefix>().is_err());
    }
}
