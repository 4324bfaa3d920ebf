//! A request and its response, over as many attempts as it takes.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::StatusCode;
use http::header::HeaderValue;
use hyper::body::Incoming;
use hyper::{Request, Response};

use super::Client;
use super::body::{RequestBody, ResponseBody, Upload};
use super::cookie::Visit;
use super::failure::Failure;
use super::fallback::Undressed;
use super::kept::Kept;
use super::pool::BackendConn;
use crate::backend::{LiveBackend, Place};
use crate::choose::{NoPlace, Tried, choose, choose_at_once};
use crate::connect::{ConnectError, connect};
use crate::limits::Permit;
use crate::proxied::preface;
use crate::snapshot::LiveService;
use crate::worker::{Command, TICK};

/// A request that must not be sent twice goes only on a connection used this recently, in ms: the
/// older it is the likelier the backend is closing it at this moment.
const FRESH: u64 = 1_000;

/// What is to be known of a request besides itself.
pub(super) struct Options {
    /// It may be sent twice: idempotent and without a body.
    pub(super) repeatable: bool,
    /// Bytes of the body at most.
    pub(super) limit: u64,
    /// The client speaks HTTP/1.0.
    pub(super) http10: bool,
    /// The client waits for `100 Continue`.
    pub(super) expects: bool,
    /// The protocol the client wants to change to.
    pub(super) upgrade: Option<HeaderValue>,
    /// Whom the request counts for.
    pub(super) source: IpAddr,
}

/// A request on its way.
pub(super) struct Exchange<'a> {
    pub(super) client: &'a Rc<Client>,
    pub(super) service: Arc<LiveService>,
    pub(super) others: std::vec::IntoIter<Arc<LiveService>>,
    pub(super) options: Options,
    pub(super) request: Option<Request<RequestBody>>,
    pub(super) body: Option<Incoming>,
    pub(super) upload: Option<Rc<Cell<Upload>>>,
    /// What the request's cookie said, if the service has one.
    pub(super) visit: Option<Box<Visit>>,
    /// What the request holds of the service's limits.
    pub(super) permit: Option<Box<Permit>>,
    /// What other services of the route would begin with.
    pub(super) undressed: Option<Box<Undressed>>,
    pub(super) tried: Tried,
    /// What to answer if no other backend is left to try.
    pub(super) failed: Option<Failure>,
    /// The same, where this other service of the route had no room for the request.
    pub(super) refused: Option<Box<(Arc<LiveService>, Failure)>>,
    /// A response that is kept for the same.
    pub(super) kept: Option<Box<Kept>>,
}

/// What to do after an attempt.
pub(super) enum Next {
    SameBackend,
    OtherBackend,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        client: &'a Rc<Client>,
        service: Arc<LiveService>,
        others: Vec<Arc<LiveService>>,
        options: Options,
    ) -> Self {
        Self {
            client,
            service,
            others: others.into_iter(),
            options,
            request: None,
            body: None,
            upload: None,
            visit: None,
            undressed: None,
            permit: None,
            tried: Tried::default(),
            failed: None,
            refused: None,
            kept: None,
        }
    }

    /// Brings the request to a backend, and the response back.
    pub(super) async fn run(
        &mut self,
        request: Request<RequestBody>,
        body: Option<Incoming>,
    ) -> Result<Response<ResponseBody>, Failure> {
        self.request = Some(request);
        self.body = body;
        let answer = self.attempts().await;
        match (self.kept.take(), answer) {
            (Some(kept), Err(_)) => self.answer_kept(*kept),
            (Some(kept), answer) => {
                self.let_go(*kept);
                answer
            }
            (None, answer) => answer,
        }
    }

    async fn attempts(&mut self) -> Result<Response<ResponseBody>, Failure> {
        loop {
            let place = self.choose().await?;
            let backend = place.backend().clone();
            self.client.conn.set_backend(Some(backend.clone()));
            let conn = &self.client.conn;
            conn.note(|record, at| record.place(&backend, at));
            let mut only_fresh = false;
            loop {
                let conn = match self.connection(&backend, only_fresh).await {
                    Ok(conn) => {
                        self.client.conn.note(|record, at| record.connect(at));
                        conn
                    }
                    Err(error) => {
                        self.connect_failed(&backend, &error)?;
                        break;
                    }
                };
                let ended = match self.attempt(conn, &backend).await {
                    Ok((conn, response)) if !self.is_tried_again(&backend, &response) => {
                        return self.answer(conn, place, response);
                    }
                    Ok((conn, response)) => {
                        self.keep(conn, place, response);
                        break;
                    }
                    Err(ended) => ended,
                };
                // A second attempt at the same backend keeps its place.
                match self.after(&backend, ended)? {
                    Next::SameBackend => only_fresh = true,
                    Next::OtherBackend => break,
                }
            }
        }
    }

    async fn choose(&mut self) -> Result<Place, Failure> {
        loop {
            let client = self.client;
            if self.service.spec.scheduler.kind.needs_destination() {
                client.conn.find_destination(|| client.gate.local_addr());
            }
            if self.kept.is_some() {
                // It has a place already: who waits for another with that in hand may wait for one
                // who does the same. And it is this service that has answered.
                let whom = client.conn.whom();
                let place = choose_at_once(&client.worker, &self.service, &whom, &self.tried);
                let none = || {
                    Failure::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "no other backend can serve",
                    )
                };
                return place.ok_or_else(none);
            }
            if self.tried.round_is_over() {
                Box::pin(self.pause()).await?;
            }
            match choose(
                &client.worker,
                &self.service,
                &client.conn,
                &self.tried,
                self.visit.as_ref().and_then(|visit| visit.wanted.as_ref()),
            )
            .await
            {
                Ok(place) => return Ok(place),
                // Unless another service of the same route can serve.
                Err(NoPlace::NoBackend)
                    if self.tried.has_passed_over()
                        && (self.failed.is_some() || self.others.len() == 0) =>
                {
                    Box::pin(self.pause()).await?;
                }
                Err(NoPlace::NoBackend) => match self.failed.take() {
                    Some(failure) => return Err(failure),
                    // Another service of the same route may.
                    None => self.fall_back()?,
                },
                Err(NoPlace::QueuesFull) => {
                    let failure = self.unserved("all queues are full");
                    return Err(failure.ending(*b"PQ"));
                }
                Err(NoPlace::QueueTimeout) => {
                    let failure = self.unserved("no backend came free in time");
                    return Err(failure.ending(*b"sQ"));
                }
            }
        }
    }

    pub(super) fn unserved(&self, why: &'static str) -> Failure {
        if let Some(counts) = self.service.shared.count(self.client.worker.id) {
            counts.unserved.add(1);
        }
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    /// Counts a request that backends failed to answer.
    pub(super) fn count(&self, status: StatusCode) {
        let failed = matches!(
            status,
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT
        );
        if failed && let Some(counts) = self.service.shared.count(self.client.worker.id) {
            counts.failed.add(1);
        }
    }

    /// An idle connection, or a fresh one.
    async fn connection(
        &self,
        backend: &Arc<LiveBackend>,
        only_fresh: bool,
    ) -> Result<Box<BackendConn>, ConnectError> {
        let worker = &self.client.worker;
        let pool = match self.service.is_personal() {
            true => self.client.conn.pool(),
            false => &worker.pool,
        };
        let until = worker.now() + self.service.timeouts.connect;
        loop {
            if !only_fresh {
                let idle_below = if self.options.repeatable {
                    u64::MAX
                } else {
                    FRESH
                };
                if let Some(conn) = pool.take(backend, worker.now(), idle_below) {
                    return Ok(conn);
                }
            }
            match Box::pin(self.fresh(backend)).await {
                Err(ConnectError::Local) if worker.now() < until => {
                    Box::pin(tokio::time::sleep(TICK)).await;
                }
                result => return result,
            }
        }
    }

    async fn fresh(&self, backend: &Arc<LiveBackend>) -> Result<Box<BackendConn>, ConnectError> {
        let worker = &self.client.worker;
        let limit = backend.admission.limit();
        if limit != 0 && backend.open.load(Ordering::Relaxed) >= limit {
            // A backend that serves as many connections as requests must not wait for one that
            // another core keeps idle.
            worker.shared.tell_all(|| Command::Evict(backend.id));
        }
        let conn = &self.client.conn;
        let preface = preface(&self.service, conn, || self.client.gate.local_addr());
        let begun = Instant::now();
        let (stream, open) = connect(worker, &self.service, backend, conn, preface).await?;
        if let Some(latency) = self.service.shared.latency(worker.id) {
            latency.connect.record(begun.elapsed());
        }
        match BackendConn::new(worker, stream, open, self.service.is_personal()).await {
            Ok(conn) => Ok(Box::new(conn)),
            Err(_) => Err(ConnectError::Local),
        }
    }
}
