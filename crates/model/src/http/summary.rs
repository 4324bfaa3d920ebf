//! What is done with HTTP requests, in a few words for people who look on.

use super::{FieldRules, RouteHttp, ServiceHttp};

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
    use crate::{BasicAuth, PrefixChange, Redirect, RequestId};

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
}
