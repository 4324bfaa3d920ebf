//! Ids of requests.

use std::fmt;

use serde::Serialize;

use super::fields::{FieldName, FieldRules};
use crate::Invalid;

/// Every request gets an id, by which one finds it again in the logs of all who had it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RequestId {
    /// The header field it is in. Taken over from clients in trusted networks, and from nobody else.
    pub header: FieldName,
    /// Whether the client gets it, too.
    pub respond: bool,
}

impl RequestId {
    /// The field where none is named.
    pub const DEFAULT_HEADER: &'static str = "x-request-id";

    /// One in the field of this name.
    ///
    /// # Errors
    /// The field cannot be set.
    pub fn new(header: FieldName, respond: bool) -> Result<Self, Invalid> {
        FieldRules::allows("request-id", &header, true)?;
        if header.as_str() == "host" {
            return Err(Invalid(
                "request-id: `host` says whom a request is for".into(),
            ));
        }
        Ok(Self { header, respond })
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let respond = if self.respond {
            ", in the response, too"
        } else {
            ""
        };
        write!(f, "{}{respond}", self.header)
    }
}
