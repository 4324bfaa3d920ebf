//! One attempt: the request goes to a backend, and the head of a response comes back or does not.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use http::StatusCode;
use hyper::body::Incoming;
use hyper::{Request, Response};

use super::body::{Expect, RequestBody, Upload, Uploading};
use super::exchange::Exchange;
use super::pool::BackendConn;
use crate::backend::LiveBackend;
use crate::timing::ask;

/// How an attempt ended without a response.
pub(super) enum Attempt {
    /// Nothing was sent: head and body are back.
    Unsent { reused: bool },
    /// The connection ended before the head of the response was complete.
    Closed {
        received: bool,
        invalid: bool,
        reused: bool,
        why: String,
    },
    /// No response in time.
    TimedOut,
    /// The client did not send the rest of the request in time.
    Stalled,
    /// The backend's drain time-out has passed.
    Cut,
}

impl Exchange<'_> {
    /// Sends the request and waits for the head of the response.
    pub(super) async fn attempt(
        &mut self,
        mut conn: Box<BackendConn>,
        backend: &Arc<LiveBackend>,
    ) -> Result<(Box<BackendConn>, Response<Incoming>), Attempt> {
        let client = self.client;
        let reused = conn.is_reused();
        let Some(mut request) = self.request.take() else {
            return Err(Attempt::Cut);
        };
        // One that was kept may be closed as idle at any moment, which is no failure and no retry.
        if self.options.repeatable && (reused || self.service.spec.retries > 0) {
            client.spare.borrow_mut().save(&request);
        } else {
            client.spare.borrow_mut().clear();
        }
        self.attach_body(&mut request, backend);
        conn.expect();
        backend.count(client.worker.id).requests.add(1);
        let scheduler = &self.service.spec.scheduler;
        let asked = ask(&client.worker, &client.conn, scheduler, backend);
        let asked = asked.once_sent(self.upload.as_ref());
        let mut answer = std::pin::pin!(conn.send.try_send_request(request));
        let over = |attempt| Poll::Ready(Waited::Over(attempt));
        let mut step = |cx: &mut Context<'_>| {
            let ended = conn.poll_drive(cx).is_ready();
            // Nobody but this task brings the answer: it needs no waker.
            match answer
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
            {
                Poll::Ready(answered) => Poll::Ready(Waited::Answered(answered)),
                Poll::Pending if ended => Poll::Ready(Waited::Ended),
                Poll::Pending if client.conn.take_expired() => over(Attempt::TimedOut),
                Poll::Pending if client.conn.take_stalled() => over(Attempt::Stalled),
                Poll::Pending if client.conn.is_cut() => over(Attempt::Cut),
                Poll::Pending => Poll::Pending,
            }
        };
        let waited = std::future::poll_fn(|cx| client.conn.poll_quietly(cx, &mut step)).await;
        client.conn.clear_deadline();
        let (received, invalid, why) = match waited {
            Waited::Answered(Ok(response)) => {
                match response.status().is_server_error() {
                    false => asked.answered(),
                    true => asked.failed(),
                }
                if let Some(outlier) = &self.service.spec.outlier {
                    backend.answered(outlier, response.status().as_u16());
                }
                return Ok((conn, response));
            }
            Waited::Answered(Err(mut error)) => match error.take_message() {
                Some(request) => {
                    match reused {
                        true => asked.forget(),
                        false => asked.failed(),
                    }
                    self.take_back(request);
                    return Err(Attempt::Unsent { reused });
                }
                None => {
                    let error = error.into_error();
                    (conn.has_received(), error.is_parse(), error.to_string())
                }
            },
            Waited::Ended => (conn.has_received(), false, "connection closed".into()),
            Waited::Over(Attempt::TimedOut) => {
                asked.failed();
                return Err(Attempt::TimedOut);
            }
            Waited::Over(attempt) => return Err(attempt),
        };
        // A kept connection may be closed, and what is wrong with the client is not the backend's fault.
        if (received || !reused) && self.clients_fault().is_none() {
            asked.failed();
        }
        Err(Attempt::Closed {
            received,
            invalid,
            reused,
            why,
        })
    }

    fn attach_body(&mut self, request: &mut Request<RequestBody>, backend: &Arc<LiveBackend>) {
        let client = self.client;
        let Some(incoming) = self.body.take() else {
            client
                .conn
                .set_deadline(client.worker.now(), self.service.timeouts.response);
            return;
        };
        let state = Rc::new(Cell::new(Upload::Running));
        self.upload = Some(state.clone());
        let expect = self.options.expects.then(Expect::new);
        if let Some(expect) = &expect {
            let told = expect.told.clone();
            hyper::ext::on_informational(request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    told.store(true, Ordering::Relaxed);
                }
            });
        }
        *request.body_mut() = RequestBody::Stream(Box::new(Uploading {
            incoming,
            worker: client.worker.clone(),
            conn: client.conn.clone(),
            backend: backend.clone(),
            state,
            room: self.options.limit,
            response: self.service.timeouts.response,
            expect,
        }));
    }

    /// A request of which nothing was sent.
    fn take_back(&mut self, mut request: Request<RequestBody>) {
        if let RequestBody::Stream(upload) =
            std::mem::replace(request.body_mut(), RequestBody::Empty)
        {
            self.body = Some(upload.incoming);
        }
        self.request = Some(request);
    }
}

/// How the wait for a response ended.
#[allow(
    clippy::large_enum_variant,
    reason = "made and taken apart in one place"
)]
enum Waited {
    Answered(Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<RequestBody>>>),
    Ended,
    Over(Attempt),
}
