//! Where a redirect leads a client.

use http::Uri;
use plimsoll_model::{PathPrefix, Redirect, RedirectHost, Scheme};

use super::target::host_of;

/// Where a request came from, as a redirect sees it.
pub(crate) struct Site<'a> {
    pub(crate) scheme: Scheme,
    /// `Host` as the client sent it.
    pub(crate) authority: &'a [u8],
    /// The same in lower case, without port.
    pub(crate) host: &'a str,
}

impl Site<'_> {
    /// Whether this is where a redirect leads. A port that is not said is that of the scheme.
    fn is(&self, (scheme, host): &(Scheme, RedirectHost)) -> bool {
        let default = match scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let port_of = |authority: &[u8]| port(authority).unwrap_or(default);
        *scheme == self.scheme
            && match host {
                RedirectHost::Same(None) => true,
                RedirectHost::Same(Some(port)) => *port == port_of(self.authority),
                RedirectHost::Named(name) => {
                    let mut lower = [0; 255];
                    host_of(name.as_bytes(), &mut lower) == Some(self.host)
                        && port_of(name.as_bytes()) == port_of(self.authority)
                }
            }
    }
}

/// The port that is said behind a host.
fn port(authority: &[u8]) -> Option<u16> {
    let colon = authority.iter().rposition(|b| *b == b':')?;
    let digits = authority.get(colon + 1..)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Where a redirect of a route with this path leads; none if the request is there already. `Err` if
/// that cannot be said without a host.
pub(crate) fn location(
    redirect: &Redirect,
    path: &PathPrefix,
    site: &Site<'_>,
    uri: &Uri,
) -> Result<Option<Vec<u8>>, ()> {
    let to = &redirect.to;
    let mut text = Vec::new();
    let there = match &to.path {
        // Below a target that the route takes as well, the way would never end.
        Some(new) => path.matches(new.as_str()) && new.matches(uri.path()),
        None => true,
    };
    if there && to.site.as_ref().is_none_or(|to| site.is(to)) {
        return Ok(None);
    }
    if let Some((scheme, host)) = &to.site {
        text.extend_from_slice(scheme.as_str().as_bytes());
        text.extend_from_slice(b"://");
        match host {
            RedirectHost::Named(name) => text.extend_from_slice(name.as_bytes()),
            RedirectHost::Same(_) if site.host.is_empty() => return Err(()),
            RedirectHost::Same(port) => {
                text.extend_from_slice(site.host.as_bytes());
                if let Some(port) = port {
                    text.extend_from_slice(format!(":{port}").as_bytes());
                }
            }
        }
    }
    let new = match (&to.path, redirect.keep_path) {
        (Some(new), false) => new.as_str().to_owned(),
        (None, false) => "/".to_owned(),
        (None, true) => uri.path().to_owned(),
        (Some(new), true) => {
            let rest = match path.as_str() {
                "/" => uri.path(),
                path => uri.path().strip_prefix(path).unwrap_or_default(),
            };
            match (new.as_str(), rest) {
                ("/", "") => "/".to_owned(),
                ("/", rest) => rest.to_owned(),
                (new, "/") if path.as_str() == "/" => new.to_owned(),
                (new, rest) => format!("{new}{rest}"),
            }
        }
    };
    // Two slashes at the beginning would name another host, and some clients take `\` for one.
    let rest = new.trim_start_matches(['/', '\\']);
    text.push(b'/');
    text.extend_from_slice(rest.as_bytes());
    if let Some(query) = uri.query().filter(|_| redirect.keep_query) {
        text.push(b'?');
        text.extend_from_slice(query.as_bytes());
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(redirect: &Redirect, path: &str, scheme: Scheme, uri: &str) -> Option<String> {
        let site = Site {
            scheme,
            authority: b"Shop.example:8080",
            host: "shop.example",
        };
        let (path, uri) = (path.parse().unwrap(), uri.parse().unwrap());
        let text = location(redirect, &path, &site, &uri).unwrap()?;
        Some(String::from_utf8(text).unwrap())
    }

    fn to(text: &str) -> Redirect {
        Redirect::new(text.parse().unwrap())
    }

    #[test]
    fn what_is_kept_and_what_is_replaced() {
        for (target, path, uri, wanted) in [
            ("https", "/", "/x?q=1", "https://shop.example/x?q=1"),
            (
                "https://{host}:8443",
                "/a",
                "/a/b",
                "https://shop.example:8443/a/b",
            ),
            (
                "https://new.example",
                "/a",
                "/a/b?",
                "https://new.example/a/b?",
            ),
            (
                "https://new.example/n",
                "/a",
                "/a/b",
                "https://new.example/n/b",
            ),
            ("https://new.example/n", "/", "/", "https://new.example/n"),
            (
                "https://new.example/n",
                "/",
                "/x",
                "https://new.example/n/x",
            ),
            ("/new", "/old", "/old", "/new"),
            ("/new", "/old", "/old/", "/new/"),
            ("/new", "/old", "/old/x?y", "/new/x?y"),
            ("/", "/old", "/old/x", "/x"),
            ("/", "/old", "/old", "/"),
        ] {
            let found = of(&to(target), path, Scheme::Http, uri);
            assert_eq!(found.as_deref(), Some(wanted), "{target} {path} {uri}");
        }
        let bare = Redirect {
            keep_path: false,
            keep_query: false,
            ..to("https://new.example")
        };
        let found = of(&bare, "/", Scheme::Http, "/x?y");
        assert_eq!(found.as_deref(), Some("https://new.example/"));
    }

    #[test]
    fn nobody_is_led_to_a_host_that_a_client_names() {
        for uri in [
            "/old//evil.example",
            "/old/\\evil.example",
            "/old//\\/evil.example",
        ] {
            let found = of(&to("/"), "/old", Scheme::Http, uri);
            assert_eq!(found.as_deref(), Some("/evil.example"), "{uri}");
        }
    }

    #[test]
    fn who_is_there_already_is_let_through() {
        assert_eq!(of(&to("https"), "/", Scheme::Https, "/x"), None);
        let own = to("http://shop.example:8080");
        assert_eq!(of(&own, "/", Scheme::Http, "/x"), None);
        assert!(of(&own, "/", Scheme::Https, "/x").is_some());
        // On another port it is another place.
        for (target, there) in [
            ("http://{host}:8080", true),
            ("http://{host}:8081", false),
            ("http://shop.example", false),
            ("http://other.example:8080", false),
        ] {
            assert_eq!(
                of(&to(target), "/", Scheme::Http, "/x").is_none(),
                there,
                "{target}"
            );
        }
        // A port or a final dot that need not be said makes no difference.
        for (authority, target) in [
            (&b"shop.example"[..], "https://shop.example:443"),
            (b"shop.example:443", "https://shop.example"),
            (b"shop.example.", "https://shop.example"),
            (b"shop.example", "https://{host}:443"),
        ] {
            let site = Site {
                scheme: Scheme::Https,
                authority,
                host: "shop.example",
            };
            let (path, uri) = (PathPrefix::root(), Uri::from_static("/"));
            assert_eq!(
                location(&to(target), &path, &site, &uri),
                Ok(None),
                "{target}"
            );
        }
    }

    #[test]
    fn no_way_leads_on_for_ever() {
        for (target, path, uri, wanted) in [
            ("/new", "/", "/x", Some("/new/x")),
            ("/new", "/", "/new/x", None),
            ("/new", "/", "/newer", Some("/new/newer")),
            ("/old/v2", "/old", "/old/x", Some("/old/v2/x")),
            ("/old/v2", "/old", "/old/v2", None),
            ("http://shop.example:8080/new", "/", "/new/x", None),
            (
                "http://shop.example/new",
                "/",
                "/new/x",
                Some("http://shop.example/new/new/x"),
            ),
        ] {
            let found = of(&to(target), path, Scheme::Http, uri);
            assert_eq!(found.as_deref(), wanted, "{target} {path} {uri}");
        }
    }

    #[test]
    fn without_a_host_there_is_no_place_to_go() {
        let site = Site {
            scheme: Scheme::Http,
            authority: b"",
            host: "",
        };
        let (path, uri) = (PathPrefix::root(), Uri::from_static("/"));
        assert_eq!(location(&to("https"), &path, &site, &uri), Err(()));
    }
}
