//! Responses for which the request is tried again elsewhere.

use http::StatusCode;
use hyper::Response;
use hyper::body::{Body, Incoming};
use plimsoll_model::RetryOn;

use super::body::ResponseBody;
use super::exchange::Exchange;
use super::failure::Failure;
use super::pool::BackendConn;
use crate::backend::{LiveBackend, Place};

/// A response that the client gets if no other backend gives one.
pub(super) struct Kept {
    conn: Box<BackendConn>,
    place: Place,
    response: Response<Incoming>,
}

impl Exchange<'_> {
    /// Whether the request is sent once more, elsewhere, instead of taking this response. It is made
    /// ready for that then.
    pub(super) fn is_tried_again(
        &mut self,
        backend: &LiveBackend,
        response: &Response<Incoming>,
    ) -> bool {
        let status = response.status();
        if status < StatusCode::BAD_REQUEST {
            return false;
        }
        let cause = RetryOn::status(status.as_u16());
        if !self.service.spec.retry.on.has(cause) {
            return false;
        }
        let spare = self.client.spare.borrow_mut().take();
        if spare.is_none() || !self.may_go_on(backend, false) {
            return false;
        }
        self.request = spare;
        true
    }

    /// Keeps a response while the request is tried elsewhere, instead of one that is kept already.
    pub(super) fn keep(
        &mut self,
        conn: Box<BackendConn>,
        place: Place,
        response: Response<Incoming>,
    ) {
        let kept = Kept {
            conn,
            place,
            response,
        };
        if let Some(before) = self.kept.replace(Box::new(kept)) {
            self.let_go(*before);
        }
    }

    /// Gives the client a response that was kept.
    pub(super) fn answer_kept(&mut self, kept: Kept) -> Result<Response<ResponseBody>, Failure> {
        let Kept {
            conn,
            place,
            response,
        } = kept;
        let client = &self.client.conn;
        client.set_backend(Some(place.backend().clone()));
        client.note(|record, at| {
            record.back_to(place.backend());
            record.connect(at);
        });
        client.clear_deadline();
        self.answer(conn, place, response)
    }

    /// Nobody gets a response that was kept: another backend gave one.
    pub(super) fn let_go(&self, kept: Kept) {
        let worker = &self.client.worker;
        let backend = kept.place.backend();
        let counts = backend.count(worker.id);
        counts.response(kept.response.status().as_u16());
        if kept.response.body().is_end_stream() && !kept.conn.is_personal() {
            worker.pool.give(kept.conn, worker.now());
        }
    }
}
