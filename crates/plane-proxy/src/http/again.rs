//! After an attempt that gave no response: whether there is another, and where.

use http::StatusCode;
use hyper::Request;
use plimsoll_model::RetryOn;

use super::attempt::Attempt;
use super::body::{RequestBody, Upload};
use super::exchange::{Exchange, Next};
use super::failure::Failure;
use crate::backend::LiveBackend;
use crate::connect::ConnectError;
use crate::worker::TICK;

impl Exchange<'_> {
    pub(super) fn connect_failed(
        &mut self,
        backend: &LiveBackend,
        error: &ConnectError,
    ) -> Result<(), Failure> {
        let failure = match error {
            ConnectError::Local => return Err(self.out_of_ways()),
            ConnectError::Short => {
                let until = self.client.worker.now() + self.service.timeouts.connect;
                self.tried.pass_over(backend, until);
                return Ok(());
            }
            // It could never serve: as if there were one backend fewer.
            ConnectError::Itself | ConnectError::Unfit | ConnectError::NoWay => {
                let retries = self.service.spec.retries;
                if !self.tried.failed(backend, true, retries) {
                    return Err(self.unserved("no backend can serve now"));
                }
                backend.count(self.client.worker.id).retries.add(1);
                return Ok(());
            }
            ConnectError::Refused | ConnectError::Unreachable => {
                Failure::new(StatusCode::BAD_GATEWAY, "no backend could be connected to")
            }
            ConnectError::TimedOut => Failure::new(
                StatusCode::GATEWAY_TIMEOUT,
                "no backend took a connection in time",
            ),
        };
        if !self.service.spec.retry.on.has(RetryOn::CONNECT_FAILURE) {
            return Err(failure);
        }
        let refused = matches!(error, ConnectError::Refused);
        self.elsewhere(backend, refused, failure)
    }

    fn out_of_ways(&self) -> Failure {
        let why = "no connection to a backend can be opened now";
        self.unserved(why).ending(*b"RC")
    }

    /// Waits a tick for backends that were passed over.
    ///
    /// # Errors
    /// The time for that has passed.
    pub(super) async fn pause(&mut self) -> Result<(), Failure> {
        if !self.tried.may_wait(self.client.worker.now()) {
            return Err(self.failed.take().unwrap_or_else(|| self.out_of_ways()));
        }
        self.tried.look_again();
        tokio::time::sleep(TICK).await;
        Ok(())
    }

    /// Goes on to another backend, unless enough were tried.
    fn elsewhere(
        &mut self,
        backend: &LiveBackend,
        refused: bool,
        failure: Failure,
    ) -> Result<(), Failure> {
        if !self.may_go_on(backend, refused) {
            return Err(failure);
        }
        self.failed = Some(failure);
        Ok(())
    }

    /// Whether another backend may be tried. Counts it if so.
    pub(super) fn may_go_on(&mut self, backend: &LiveBackend, refused: bool) -> bool {
        let (service, worker) = (&self.service, &self.client.worker);
        // What was refused at once has cost nobody anything.
        let may = self.tried.failed(backend, refused, service.spec.retries)
            && (refused || service.may_retry(worker.id, worker.now()));
        if may {
            backend.count(worker.id).retries.add(1);
            self.client.conn.note(|record, _| record.fail());
        }
        may
    }

    /// What to do after an attempt that gave no response.
    pub(super) fn after(&mut self, backend: &LiveBackend, ended: Attempt) -> Result<Next, Failure> {
        let counts = backend.count(self.client.worker.id);
        let on = self.service.spec.retry.on;
        match ended {
            Attempt::Unsent { reused: true } => Ok(Next::SameBackend),
            Attempt::Unsent { reused: false } => {
                counts.failures.add(1);
                backend.was_reset("connection closed at once".into());
                let failure = Failure::new(
                    StatusCode::BAD_GATEWAY,
                    "the backend closed a fresh connection",
                );
                if !on.has(RetryOn::RESET_BEFORE_RESPONSE) {
                    return Err(failure);
                }
                self.elsewhere(backend, false, failure)?;
                Ok(Next::OtherBackend)
            }
            Attempt::Cut => {
                counts.failures.add(1);
                Err(
                    Failure::new(StatusCode::BAD_GATEWAY, "the backend was taken out of use")
                        .ending(*b"KH"),
                )
            }
            Attempt::Stalled => Err(Failure::new(
                StatusCode::REQUEST_TIMEOUT,
                "the rest of the request did not come in time",
            )
            .ending(*b"cH")),
            Attempt::TimedOut => {
                counts.failures.add(1);
                backend.was_reset("no response in time".into());
                let failure = Failure::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    "the backend did not answer in time",
                );
                let spare = self.client.spare.borrow_mut().take();
                self.send_again(backend, RetryOn::RESPONSE_TIMEOUT, spare, failure)
            }
            Attempt::Closed {
                received,
                invalid,
                reused,
                why,
            } => {
                if let Some(failure) = self.clients_fault() {
                    return Err(failure);
                }
                let spare = self.client.spare.borrow_mut().take().filter(|_| !received);
                if reused && spare.is_some() {
                    // The backend closed it as idle at this very moment, which is its right.
                    self.request = spare;
                    self.client.conn.note(|record, _| record.retry());
                    return Ok(Next::SameBackend);
                }
                counts.failures.add(1);
                let when = if received {
                    "in the middle of a response"
                } else {
                    "before a response"
                };
                // An idle connection may be closed whenever the backend likes, though this request is
                // not safe to send again.
                if received || !reused {
                    backend.was_reset(format!("{when}: {why}"));
                }
                let failure = Failure::new(
                    StatusCode::BAD_GATEWAY,
                    "the backend gave no valid response",
                )
                .ending(if invalid { *b"PH" } else { *b"SH" });
                self.send_again(backend, RetryOn::RESET_BEFORE_RESPONSE, spare, failure)
            }
        }
    }

    /// Sends a request once more elsewhere, if that may be after this.
    fn send_again(
        &mut self,
        backend: &LiveBackend,
        cause: RetryOn,
        spare: Option<Request<RequestBody>>,
        failure: Failure,
    ) -> Result<Next, Failure> {
        if spare.is_none() || !self.service.spec.retry.on.has(cause) {
            return Err(failure);
        }
        self.elsewhere(backend, false, failure)?;
        self.request = spare;
        Ok(Next::OtherBackend)
    }

    /// Whether the request broke off on the client's side.
    pub(super) fn clients_fault(&self) -> Option<Failure> {
        match self.upload.as_ref().map(|upload| upload.get()) {
            Some(Upload::TooLarge) => Some(Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is larger than allowed",
            )),
            Some(Upload::Failed) => Some(Failure::new(
                StatusCode::BAD_REQUEST,
                "the body broke off or is malformed",
            )),
            _ => None,
        }
    }
}
