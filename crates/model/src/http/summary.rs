//! What is done with HTTP requests, in a few words for people who look on.

use super::{Compress, FieldRules, Maintenance, RouteHttp, ServiceHttp};

impl RouteHttp {
    /// One text for each thing that is done, e.g. `redirect https (307)`. No values of headers and no
    /// hashes: they may be secrets.
    pub fn summary(&self) -> Vec<String> {
        let mut all = Vec::new();
        if !self.clients.is_empty() {
            all.push("allow/deny".to_owned());
        }
        if let Some(redirect) = &self.redirect {
            all.push(format!("redirect {redirect}"));
        }
        if let Some(auth) = &self.basic_auth {
            let users = match auth.users.len() {
                1 => "1 user".to_owned(),
                n => format!("{n} users"),
            };
            all.push(format!("basic-auth {users}"));
        }
        if let Some(strip) = &self.prefix.strip {
            all.push(format!("strip-prefix {strip}"));
        }
        if let Some(add) = &self.prefix.add {
            all.push(format!("add-prefix {add}"));
        }
        all.extend(self.changes());
        all.extend(self.compress.as_ref().map(of_compression));
        all.extend(of_maintenance(self.maintenance.as_ref()));
        all
    }

    /// The part of [`Self::summary`] that changes headers.
    pub fn changes(&self) -> Vec<String> {
        let request = names("request-headers", &self.request_headers);
        let response = names("response-headers", &self.response_headers);
        request.into_iter().chain(response).collect()
    }
}

impl ServiceHttp {
    /// As [`RouteHttp::summary`].
    pub fn summary(&self) -> Vec<String> {
        let mut all = self.changes();
        all.extend(self.compress.as_ref().map(of_compression));
        all.extend(of_maintenance(self.maintenance.as_ref()));
        let statuses = self.error_pages.0.keys().map(ToString::to_string);
        let statuses: Vec<String> = statuses.collect();
        if !statuses.is_empty() {
            all.push(format!("error-pages {}", statuses.join(", ")));
        }
        if !self.intercept.is_empty() {
            all.push(format!("intercept {}", self.intercept));
        }
        all
    }

    /// As [`RouteHttp::changes`], with the id of requests.
    pub fn changes(&self) -> Vec<String> {
        let mut all = Vec::new();
        all.extend(names("request-headers", &self.request_headers));
        all.extend(names("response-headers", &self.response_headers));
        if let Some(id) = &self.request_id {
            all.push(format!("request-id {id}"));
        }
        all
    }
}

fn of_compression(compress: &Compress) -> String {
    let algorithms = compress.algorithms.iter().map(ToString::to_string);
    let algorithms: Vec<String> = algorithms.collect();
    format!("compress {}", algorithms.join(", "))
}

/// Nothing while it is off.
fn of_maintenance(maintenance: Option<&Maintenance>) -> Option<String> {
    let maintenance = maintenance.filter(|maintenance| maintenance.on)?;
    let but = match maintenance.except.is_empty() {
        true => "",
        false => " but for some clients",
    };
    Some(format!("maintenance{but}"))
}

fn names(what: &str, rules: &FieldRules) -> Option<String> {
    let removed = rules.remove.iter().map(|name| format!("-{name}"));
    let set = rules.set.keys().map(ToString::to_string);
    let added = rules.add.keys().map(|name| format!("+{name}"));
    let all: Vec<String> = removed.chain(set).chain(added).collect();
    (!all.is_empty()).then(|| format!("{what} {}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BasicAuth, ErrorPages, Intercept, Page, PrefixChange, Redirect, RequestId};

    #[test]
    fn secrets_are_in_no_summary() {
        let mut fields = FieldRules::default();
        fields.remove.insert("Cookie".parse().unwrap());
        let secret = "Bearer secret".parse().unwrap();
        fields.set.insert("Authorization".parse().unwrap(), secret);
        let user = format!("alice:$apr1$salt${}", "a".repeat(22));
        let http = RouteHttp {
            redirect: Some(Redirect::new("https".parse().unwrap())),
            basic_auth: Some(BasicAuth {
                realm: "x".into(),
                users: [BasicAuth::user(&user).unwrap()].into(),
            }),
            prefix: PrefixChange {
                strip: "/a".parse().ok(),
                add: "/b".parse().ok(),
            },
            request_headers: fields,
            ..RouteHttp::default()
        };
        let wanted = [
            "redirect https (307)",
            "basic-auth 1 user",
            "strip-prefix /a",
            "add-prefix /b",
            "request-headers -cookie, authorization",
        ];
        assert_eq!(http.summary(), wanted);
        assert!(RouteHttp::default().summary().is_empty());
        let id = RequestId::new("X-Id".parse().unwrap(), false).unwrap();
        let http = ServiceHttp {
            request_id: Some(id),
            ..ServiceHttp::default()
        };
        assert_eq!(http.changes(), ["request-id x-id"]);
        assert!(ServiceHttp::default().changes().is_empty());
    }

    #[test]
    fn what_clients_get_to_see_is_in_it() {
        let maintenance = Maintenance {
            except: vec!["10.0.0.0/8".parse().unwrap()],
            ..Maintenance::new(true)
        };
        let page = Page::new("x.html", "x".into()).unwrap();
        let statuses = ["5xx", "404"].map(|status| (status.parse().unwrap(), page.clone()));
        let mut http = ServiceHttp {
            compress: Some(Compress::default()),
            maintenance: Some(maintenance),
            error_pages: ErrorPages(statuses.into()),
            intercept: Intercept(["404".parse().unwrap()].into()),
            ..ServiceHttp::default()
        };
        let wanted = [
            "compress zstd, br, gzip",
            "maintenance but for some clients",
            "error-pages 404, 5xx",
            "intercept 404",
        ];
        assert_eq!(http.summary(), wanted);
        http.maintenance = Some(Maintenance::new(false));
        assert_eq!(http.summary().len(), 3);
        let http = RouteHttp {
            maintenance: Some(Maintenance::new(true)),
            ..RouteHttp::default()
        };
        assert_eq!(http.summary(), ["maintenance"]);
    }
}
