//! From a backend's response to the client's.

use std::cell::RefCell;
use std::rc::Rc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{StatusCode, Version};
use hyper::Response;
use hyper::body::{Body, Incoming};
use plimsoll_model::BackendAddr;

use super::Tunnel;
use super::body::{Download, Driven, ResponseBody, Upload};
use super::compress::{Compression, Packed};
use super::cookie::Found;
use super::exchange::Exchange;
use super::failure::Failure;
use super::headers::{is_granted, take_hop};
use super::pages::{page_for, replace};
use super::pool::BackendConn;
use super::replaced::Replaced;
use super::service::wall;
use crate::backend::{LiveBackend, Place};
use crate::conn::Phase;

impl Exchange<'_> {
    /// Makes the client's response of the backend's.
    pub(super) fn answer(
        &mut self,
        mut conn: Box<BackendConn>,
        place: Place,
        response: Response<Incoming>,
    ) -> Result<Response<ResponseBody>, Failure> {
        let client = self.client;
        let place = place.holding(self.permit.take());
        let counts = place.backend().count(client.worker.id);
        let (mut head, incoming) = response.into_parts();
        let hop = take_hop(&mut head.headers);
        if hop.ambiguous {
            // RFC 9112 §6.3: to be handled as an error.
            counts.failures.add(1);
            let why = "its response has a Transfer-Encoding that is not just chunked, or a Content-Length beside it";
            place.backend().was_reset(why.into());
            return Err(Failure::new(
                StatusCode::BAD_GATEWAY,
                "the backend gave no valid response",
            ));
        }
        counts.response(head.status.as_u16());
        let status = head.status.as_u16();
        client.conn.note(|record, at| record.answer(status, at));
        if let Some(latency) = self.service.shared.latency(client.worker.id) {
            latency.first_byte.record(client.conn.taken());
        }
        head.version = Version::HTTP_11;
        let (mut encoder, mut page) = (None, None);
        if let Some(ruled) = client.ruled.take() {
            if ruled.intercepts(head.status) {
                page = page_for(client, None, Some(&ruled), head.status);
            }
            if let Some(page) = &page {
                replace(&mut head.headers, page.media_type.clone());
            }
            ruled.change_response(&mut head.headers);
            if page.is_none() {
                let memory = &client.worker.shared.compress_memory;
                match ruled.compress(head.status, &mut head.headers, memory) {
                    Compression::Packed(packed) => encoder = Some(packed),
                    Compression::NoMemory => {
                        if let Some(counts) = self.service.shared.count(client.worker.id) {
                            counts.compress_no_memory.add(1);
                        }
                    }
                    Compression::None => {}
                }
            }
        }
        // Rules are for what backends say: they do not take our own cookie away.
        self.set_cookie(&mut head.headers, &place.backend().addr);
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let upgrade = self.granted(place.backend(), hop.upgrade)?;
            place.backend().served();
            head.headers
                .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(header::UPGRADE, upgrade);
            let (stream, first, open) = conn.into_upgraded();
            let idle = self.service.timeouts.idle;
            let tunnel = Tunnel {
                stream,
                first,
                open,
                place,
                idle,
            };
            *client.tunnel.borrow_mut() = Some(tunnel);
            client.conn.tunnel_for(self.options.source);
            return Ok(Response::from_parts(head, ResponseBody::Empty));
        }
        if head.status == StatusCode::NO_CONTENT {
            // RFC 9110 §8.6: it says nothing of a body. One that does may be about to send it, and it
            // would be taken for the answer to the next request.
            let length = head.headers.remove(header::CONTENT_LENGTH);
            if hop.coded || length.is_some_and(|length| length != "0") {
                conn.condemn();
            }
        }
        client.conn.enter(Phase::Response);
        let mut driven = Driven::Alone(conn);
        if (self.upload.as_ref()).is_some_and(|upload| upload.get() != Upload::Done) {
            if let Driven::Alone(conn) = driven {
                let shared = Rc::new(RefCell::new(conn));
                *client.driven.borrow_mut() = Rc::downgrade(&shared);
                driven = Driven::Both(shared);
            }
            // A body that nobody reads to its end ends the connection: the client is told, so that
            // it sends no other request behind it (RFC 9112 §9.6).
            let close = HeaderValue::from_static("close");
            head.headers.insert(header::CONNECTION, close);
        }
        let empty = incoming.is_end_stream();
        // A page has a length.
        let until_close =
            self.options.http10 && page.is_none() && incoming.size_hint().exact().is_none();
        let mut download = Box::new(Download {
            incoming,
            worker: client.worker.clone(),
            client: client.conn.clone(),
            service: self.service.clone(),
            gate: client.gate.clone(),
            keepalive: client.keepalive.get(),
            upload: self.upload.take(),
            until_close,
            errored: (self.service.spec.outlier.as_ref()).is_some_and(|o| o.errors.has(status)),
            flow: Some((driven, place)),
            broken: None,
        });
        if empty {
            download.finish();
            let body = page.map_or(ResponseBody::Empty, |page| ResponseBody::Text(page.body));
            return Ok(Response::from_parts(head, body));
        }
        let body = match (page, encoder) {
            (Some(page), _) => ResponseBody::Replaced(Box::new(Replaced::new(download, page.body))),
            (None, Some(encoder)) => ResponseBody::Packed(Box::new(Packed::new(download, encoder))),
            (None, None) => ResponseBody::Stream(download),
        };
        Ok(Response::from_parts(head, body))
    }

    /// Has the client come back to this backend, if the service has a cookie.
    fn set_cookie(&mut self, headers: &mut HeaderMap, backend: &BackendAddr) {
        let (Some(jar), Some(visit)) = (&self.service.cookie, &mut self.visit) else {
            return;
        };
        jar.write(headers, visit, backend, wall(jar));
        if visit.found == Found::Kept && visit.wanted.as_ref() != Some(backend) {
            visit.found = Found::Moved;
        }
        if let Some(counts) = self.service.shared.count(self.client.worker.id)
            && let Some(count) = counts.cookies.get(visit.found as usize)
        {
            count.add(1);
        }
    }

    /// The protocol of the tunnel, if there may be one.
    fn granted(
        &self,
        backend: &LiveBackend,
        answered: Option<HeaderValue>,
    ) -> Result<HeaderValue, Failure> {
        let granted = match (&self.options.upgrade, answered) {
            (Some(asked), Some(answered)) if is_granted(asked, &answered) => answered,
            _ => {
                backend.count(self.client.worker.id).failures.add(1);
                return Err(Failure::new(
                    StatusCode::BAD_GATEWAY,
                    "the backend changed to a protocol that nobody asked for",
                ));
            }
        };
        if self.client.gate.sent_early() {
            // What they would mean without a tunnel cannot be known: nothing more is read.
            self.client.gate.set_unread();
            return Err(Failure::new(
                StatusCode::BAD_REQUEST,
                "bytes of the new protocol were sent before it was granted",
            ));
        }
        Ok(granted)
    }
}
