//! The backend that a client stays on.

use plimsoll_balance::Client;
use plimsoll_model::BackendAddr;

use super::patience::Patience;
use super::{NoPlace, Queued, Tried, newest, schedule, schedule_at_once};
use crate::admission::{Comer, Entered};
use crate::backend::Place;
use crate::conn::Conn;
use crate::snapshot::LiveService;
use crate::sticky::Sticky;
use crate::worker::Worker;

/// So often at most a client is followed that others of its connections have move meanwhile.
const FOLLOWED: usize = 4;

/// Chooses the backend that the client stays on, or by the scheduler, and has it stay there.
///
/// As with IPVS a backend of weight 0 keeps its clients (there: without `expire_quiescent_template`);
/// one that drains or is down does not. One at its upper threshold keeps them as well, as with IPVS.
pub(super) async fn choose(
    worker: &Worker,
    service: &LiveService,
    sticky: &Sticky,
    conn: &Conn,
    tried: &Tried,
    patience: &Patience,
) -> Result<Place, NoPlace> {
    let net = sticky.net(conn.client().ip());
    let mut unfit: Option<BackendAddr> = None;
    for _ in 0..FOLLOWED {
        let stays = sticky.find(net).map(|stays| stays.backend);
        let stays = stays.filter(|addr| unfit.as_ref() != Some(addr));
        let mut place = None;
        if let Some(addr) = stays {
            place = come_back(worker, service, &addr, tried, patience).await?;
            if place.is_none() {
                unfit = Some(addr);
            }
        }
        let returned = place.is_some();
        let place = match place {
            Some(place) => place,
            None => schedule(worker, service, conn, tried, patience).await?,
        };
        let backend = &place.backend().addr;
        let is_sorry = |sorry: &crate::snapshot::Member| sorry.backend.addr == *backend;
        if service.sorry.as_ref().is_some_and(is_sorry) {
            // It is to go back to where it was as soon as that serves again.
            return Ok(place);
        }
        if let Some(staying) = sticky.enter(net, backend, unfit.as_ref()) {
            return Ok(place.staying(staying));
        }
        if returned {
            // The client has moved while this one waited; what it waited for is its due.
            return Ok(place);
        }
    }
    schedule(worker, service, conn, tried, patience).await
}

/// As [`choose`], but where it would wait there is none. A client whose backend is full goes to
/// another one and stays there.
pub(super) fn choose_at_once(
    worker: &Worker,
    service: &LiveService,
    sticky: &Sticky,
    client: &Client,
    tried: &Tried,
) -> Option<Place> {
    let net = sticky.net(client.ip);
    let stays = sticky.find(net).map(|stays| stays.backend);
    let back = stays.as_ref().and_then(|addr| {
        let live = &service.member(addr)?.live;
        let fits = !tried.has(live) && !live.is_retired() && live.admission.try_return();
        fits.then(|| Place::admitted(live.clone()))
    });
    let unfit = match &back {
        Some(_) => None,
        None => stays.as_ref(),
    };
    let place = back.or_else(|| schedule_at_once(worker, service, client, tried))?;
    let backend = &place.backend().addr;
    let is_sorry = |sorry: &crate::snapshot::Member| sorry.backend.addr == *backend;
    if service.sorry.as_ref().is_some_and(is_sorry) {
        return Some(place);
    }
    Some(match sticky.enter(net, backend, unfit) {
        Some(staying) => place.staying(staying),
        // Another datagram of the client was faster; the next session follows it.
        None => place,
    })
}

/// A place at the backend, waiting for it in its queue if need be; none if it takes nothing new, was
/// tried already, or its queue is full.
pub(super) async fn come_back(
    worker: &Worker,
    service: &LiveService,
    addr: &BackendAddr,
    tried: &Tried,
    patience: &Patience,
) -> Result<Option<Place>, NoPlace> {
    let now = newest(worker, service);
    let Some(member) = now.as_deref().unwrap_or(service).member(addr) else {
        return Ok(None);
    };
    let live = &member.live;
    if tried.has(live) || live.is_retired() {
        return Ok(None);
    }
    let ticket = match (live.admission).enter_or_wait(service.spec.queue, Comer::Staying) {
        Ok(Entered::Admitted) => return Ok(Some(Place::admitted(live.clone()))),
        Ok(Entered::Waiting(ticket)) => ticket,
        Err(_) => return Ok(None),
    };
    let turn = Queued::new(live, ticket).turn(worker, service);
    // If not, the queue was dissolved: it takes nothing new any more.
    let handed = patience.bear(turn).await?;
    Ok(handed.then(|| Place::admitted(live.clone())))
}
