//! Requests to an engine's API.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::Engine;
use crate::Error;

/// An answer has so long between two of its parts. Stopping a container may take its time.
const BOUND: Duration = Duration::from_secs(40);

/// Whether an engine answers here.
pub(super) fn answers(socket: &Path) -> bool {
    ask(socket, "GET", "/_ping", "").is_ok_and(|answer| answer == "OK")
}

/// Sends one request; the body of its answer.
fn ask(socket: &Path, method: &str, target: &str, body: &str) -> Result<String, Error> {
    let what = || format!("{method} {target}");
    let exchange = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(BOUND))?;
        // An answer to HTTP/1.0 is never chunked, and ends with its connection.
        let head = format!(
            "{method} {target} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(Error::io(what()))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status.len() == 3 && status.starts_with('2') {
        return Ok(body.to_owned());
    }
    Err(Error::Failed(format!("{}: {}", what(), answer.trim())))
}

impl Engine {
    /// Sends a request to the API; null stands for no body. The answer's JSON, null if it has none.
    ///
    /// # Errors
    /// It does not answer within 40 s, or with another status than 2xx; with what it said.
    pub fn try_api(&self, method: &str, target: &str, body: &Value) -> Result<Value, Error> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = ask(&self.socket(), method, target, &body)?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&answer)
            .map_err(|error| Error::Failed(format!("{method} {target}: {error}: {answer}")))
    }

    /// What the API says to a GET.
    ///
    /// # Panics
    /// As [`Self::try_api`] fails.
    #[track_caller]
    pub fn api_get(&self, target: &str) -> Value {
        super::client::done(self.try_api("GET", target, &Value::Null))
    }
}
