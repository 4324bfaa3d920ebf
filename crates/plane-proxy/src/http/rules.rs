//! What routes and services do with requests and responses, made ready to be done.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use plimsoll_model::{
    Compress, FieldName, FieldRules, Intercept, Part, PrefixChange, Redirect, RouteHttp,
    ServiceHttp, Template, Variable,
};

use super::auth::Auth;
use super::maintenance::Maintenance;
use super::pages::ErrorPages;
use crate::door::Lists;

/// [`RouteHttp`], ready.
#[derive(Debug)]
pub(crate) struct RouteRules {
    pub(crate) lists: Option<Lists>,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) auth: Option<Auth>,
    pub(crate) prefix: PrefixChange,
    pub(crate) request: Changes,
    pub(crate) response: Changes,
    pub(crate) compress: Option<Compress>,
    pub(crate) maintenance: Option<Maintenance>,
}

impl RouteRules {
    pub(crate) fn new(http: &RouteHttp) -> Self {
        Self {
            lists: Lists::new(&http.clients),
            redirect: http.redirect.clone(),
            auth: http.basic_auth.as_ref().map(Auth::new),
            prefix: http.prefix.clone(),
            request: Changes::new(&http.request_headers),
            response: Changes::new(&http.response_headers),
            compress: http.compress.clone(),
            maintenance: Maintenance::new(http.maintenance.as_ref()),
        }
    }
}

/// [`ServiceHttp`], ready.
#[derive(Debug)]
pub(crate) struct ServiceRules {
    pub(crate) request: Changes,
    pub(crate) response: Changes,
    pub(crate) request_id: Option<IdField>,
    pub(crate) compress: Option<Compress>,
    pub(crate) maintenance: Option<Maintenance>,
    pub(crate) error_pages: ErrorPages,
    pub(crate) intercept: Intercept,
}

/// The field that ids of requests are in.
#[derive(Debug)]
pub(crate) struct IdField {
    pub(crate) name: HeaderName,
    /// Whether the client gets it, too.
    pub(crate) respond: bool,
}

impl ServiceRules {
    pub(crate) fn new(http: &ServiceHttp) -> Self {
        let id = http.request_id.as_ref();
        Self {
            request: Changes::new(&http.request_headers),
            response: Changes::new(&http.response_headers),
            compress: http.compress.clone(),
            maintenance: Maintenance::new(http.maintenance.as_ref()),
            error_pages: ErrorPages::new(&http.error_pages),
            intercept: http.intercept.clone(),
            request_id: id.and_then(|id| {
                Some(IdField {
                    name: name_of(&id.header)?,
                    respond: id.respond,
                })
            }),
        }
    }
}

/// Changes of a header, in their order.
#[derive(Debug)]
pub(crate) struct Changes {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, Value)>,
    add: Vec<(HeaderName, Value)>,
}

/// The value of a field.
#[derive(Debug)]
enum Value {
    /// Always the same.
    Fixed(HeaderValue),
    /// Other for each request.
    Made(Template),
}

/// Every name in the model is one that `http` knows: none is left out here.
fn name_of(name: &FieldName) -> Option<HeaderName> {
    HeaderName::from_bytes(name.as_str().as_bytes()).ok()
}

impl Changes {
    fn new(rules: &FieldRules) -> Self {
        let values = |(name, template): (&FieldName, &Template)| {
            let value = match template.parts() {
                [] => Value::Fixed(HeaderValue::from_static("")),
                [Part::Text(text)] => Value::Fixed(HeaderValue::from_str(text).ok()?),
                _ => Value::Made(template.clone()),
            };
            Some((name_of(name)?, value))
        };
        Self {
            remove: rules.remove.iter().filter_map(name_of).collect(),
            set: rules.set.iter().filter_map(values).collect(),
            add: rules.add.iter().filter_map(values).collect(),
        }
    }

    /// Changes a header; `write` writes the value of a variable. A field whose value would not be
    /// one is left out.
    pub(crate) fn apply(&self, headers: &mut HeaderMap, write: &dyn Fn(Variable, &mut Vec<u8>)) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            match made(value, write) {
                Some(value) => drop(headers.insert(name, value)),
                None => drop(headers.remove(name)),
            }
        }
        for (name, value) in &self.add {
            if let Some(value) = made(value, write) {
                headers.append(name, value);
            }
        }
    }
}

fn made(value: &Value, write: &dyn Fn(Variable, &mut Vec<u8>)) -> Option<HeaderValue> {
    let template = match value {
        Value::Fixed(value) => return Some(value.clone()),
        Value::Made(template) => template,
    };
    let mut text = Vec::new();
    for part in template.parts() {
        match part {
            Part::Text(part) => text.extend_from_slice(part.as_bytes()),
            Part::Variable(variable) => write(*variable, &mut text),
        }
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_go_are_set_and_come_in_this_order() {
        let name = |text: &str| text.parse::<FieldName>().unwrap();
        let value = |text: &str| text.parse::<Template>().unwrap();
        let rules = FieldRules {
            remove: [name("a"), name("b")].into(),
            set: [(name("b"), value("2")), (name("c"), value("{client}!"))].into(),
            add: [(name("c"), value("3")), (name("d"), value("{host}"))].into(),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [("a", "x"), ("b", "x"), ("b", "y"), ("c", "x"), ("e", "x")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        Changes::new(&rules).apply(&mut headers, &|variable, text| {
            text.extend_from_slice(match variable {
                Variable::Client => b"10.0.0.1",
                // No value has this.
                _ => b"\r\n",
            });
        });
        let mut all: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        all.sort_unstable();
        let wanted = [("b", "2"), ("c", "10.0.0.1!"), ("c", "3"), ("e", "x")];
        assert_eq!(all, wanted);
    }
}
