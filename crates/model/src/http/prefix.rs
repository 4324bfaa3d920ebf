//! Changes at the beginning of paths.

use serde::Serialize;

use crate::{Invalid, PathPrefix};

/// What a backend gets in the place of the beginning of a path: first something goes, then
/// something comes. To replace is both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct PrefixChange {
    /// Goes, by whole segments; a part of the route's path, so that every request has it.
    pub strip: Option<PathPrefix>,
    /// Comes before what is left.
    pub add: Option<PathPrefix>,
}

impl PrefixChange {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every path that the route takes has what is to go.
    ///
    /// # Errors
    /// It has not.
    pub fn validate(&self, path: &PathPrefix) -> Result<(), Invalid> {
        match &self.strip {
            Some(strip) if !strip.matches(path.as_str()) => Err(Invalid(format!(
                "strip-prefix {strip} is no beginning of the path {path}: requests without it \
                 would come as they are"
            ))),
            _ => Ok(()),
        }
    }

    /// The path that a backend gets for one that begins with `strip`; one that does not is left as
    /// it is. The query is no part of it.
    pub fn apply(&self, path: &str) -> String {
        let mut rest = path;
        if let Some(strip) = self.strip.as_ref().filter(|strip| strip.matches(path)) {
            rest = match strip.as_str() {
                "/" => path,
                strip => path.strip_prefix(strip).unwrap_or(path),
            };
        }
        let add = match &self.add {
            Some(add) if add.as_str() != "/" && path.starts_with('/') => add.as_str(),
            _ => "",
        };
        match (add, rest) {
            ("", "") => "/".into(),
            (add, rest) => format!("{add}{rest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(strip: &str, add: &str) -> PrefixChange {
        PrefixChange {
            strip: strip.parse().ok(),
            add: add.parse().ok(),
        }
    }

    #[test]
    fn prefixes_go_and_come_by_whole_segments() {
        for (strip, add, path, wanted) in [
            ("/api", "", "/api/x", "/x"),
            ("/api", "", "/api", "/"),
            ("/api", "", "/api/", "/"),
            ("/api", "", "/apis", "/apis"),
            ("/", "", "/x", "/x"),
            ("", "/v2", "/x", "/v2/x"),
            ("", "/v2", "/", "/v2/"),
            ("", "/", "/x", "/x"),
            ("/api", "/v2", "/api/x", "/v2/x"),
            ("/api", "/v2", "/api", "/v2"),
            ("/api", "/v2", "/api/", "/v2/"),
            ("", "/v2", "*", "*"),
            ("", "", "/x", "/x"),
        ] {
            assert_eq!(
                change(strip, add).apply(path),
                wanted,
                "{strip} {add} {path}"
            );
        }
    }

    #[test]
    fn what_goes_is_a_part_of_the_path_of_the_route() {
        let path = "/api/v1".parse().unwrap();
        for strip in ["/", "/api", "/api/v1"] {
            assert!(change(strip, "").validate(&path).is_ok(), "{strip}");
        }
        for strip in ["/ap", "/api/v1/x", "/b"] {
            assert!(change(strip, "").validate(&path).is_err(), "{strip}");
        }
    }
}
