//! What is done with HTTP requests and responses on their way, beside choosing who serves.

mod auth;
mod compress;
mod fields;
mod maintenance;
mod pages;
mod prefix;
mod redirect;
mod request_id;
mod summary;
mod template;

pub use auth::{BasicAuth, HashKind, PasswordHash, looks_secret};
pub use compress::{Coding, Compress, MediaTypes};
pub use fields::{FieldName, FieldRules};
pub use maintenance::Maintenance;
pub use pages::{ErrorPages, ErrorStatus, Intercept, Page};
pub use prefix::PrefixChange;
pub use redirect::{Redirect, RedirectHost, RedirectTarget, Scheme};
pub use request_id::RequestId;
pub use template::{Part, Template, Variable};

use serde::Serialize;

use crate::{ClientRules, Invalid, PathPrefix};

/// What a route does with the requests that it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct RouteHttp {
    /// Which clients are served, before all else.
    pub clients: ClientRules,
    /// Answer with a redirect instead of passing on.
    pub redirect: Option<Redirect>,
    /// Let nobody through but these users.
    pub basic_auth: Option<BasicAuth>,
    /// What the backend gets for the path.
    pub prefix: PrefixChange,
    /// Changes of a request's header, after those of the service.
    pub request_headers: FieldRules,
    /// Changes of a response's header, after those of the service.
    pub response_headers: FieldRules,
    /// Compress responses; none: as the service says.
    pub compress: Option<Compress>,
    /// Send clients away for a while, after redirects.
    pub maintenance: Option<Maintenance>,
}

impl RouteHttp {
    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the values fit each other and the route's path.
    ///
    /// # Errors
    /// The first that does not, by the key that says it.
    pub fn validate(&self, path: &PathPrefix) -> Result<(), Invalid> {
        self.clients.validate()?;
        if let Some(redirect) = &self.redirect {
            redirect.validate(path)?;
        }
        if let Some(auth) = &self.basic_auth {
            auth.validate()?;
        }
        self.prefix.validate(path)?;
        if let Some(compress) = &self.compress {
            compress.validate()?;
        }
        if let Some(maintenance) = &self.maintenance {
            maintenance.validate()?;
        }
        self.request_headers.validate(FieldRules::REQUEST)?;
        self.response_headers.validate(FieldRules::RESPONSE)
    }
}

/// What a service does with all its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ServiceHttp {
    /// Changes of a request's header.
    pub request_headers: FieldRules,
    /// Changes of a response's header.
    pub response_headers: FieldRules,
    /// Every request has an id.
    pub request_id: Option<RequestId>,
    /// Compress responses.
    pub compress: Option<Compress>,
    /// Send clients away for a while.
    pub maintenance: Option<Maintenance>,
    /// Pages in place of answers of our own, before those for all services.
    pub error_pages: ErrorPages,
    /// Backends' answers that get one of these pages, too.
    pub intercept: Intercept,
}

impl ServiceHttp {
    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the values fit each other.
    ///
    /// # Errors
    /// The first that does not, by the key that says it.
    pub fn validate(&self) -> Result<(), Invalid> {
        if let Some(compress) = &self.compress {
            compress.validate()?;
        }
        if let Some(maintenance) = &self.maintenance {
            maintenance.validate()?;
        }
        self.request_headers.validate(FieldRules::REQUEST)?;
        self.response_headers.validate(FieldRules::RESPONSE)
    }
}
