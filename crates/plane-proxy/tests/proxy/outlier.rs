//! What the plane tells of backends that answer with errors.

use plimsoll_model::{Outlier, OutlierErrors, State, Status};
use plimsoll_plane::{Event, Plane};
use plimsoll_testkit::{HttpBackend, HttpBehaviour, wait_until_async};

use crate::common::{BOUND, Proxy, at};

fn answering(backend: &HttpBackend, status: u16) {
    backend.behave(HttpBehaviour {
        status,
        ..HttpBehaviour::default()
    });
}

/// A proxy before this backend, with three of these errors in a row.
fn proxy(backend: &HttpBackend, errors: OutlierErrors) -> Proxy {
    Proxy::http_with(vec![at(backend.address())], |spec| {
        spec.outlier = Some(Outlier {
            consecutive: 3,
            ..Outlier::new(errors)
        });
    })
}

async fn get(proxy: &Proxy, status: u16) {
    assert_eq!(proxy.get("a", "/").await.status, status);
}

#[tokio::test]
async fn errors_in_a_row_are_told_over_all_workers() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = proxy(&backend, OutlierErrors::Server);
    let mut events = proxy.plane.events().unwrap();
    for _ in 0..3 {
        answering(&backend, 500);
        // Each on a connection of its own, so that either worker may take it.
        get(&proxy, 500).await;
        get(&proxy, 500).await;
        // 404 is no error of a backend.
        answering(&backend, 404);
        get(&proxy, 404).await;
    }
    assert!(events.try_recv().is_err(), "never three in a row");
    answering(&backend, 503);
    for _ in 0..3 {
        get(&proxy, 503).await;
    }
    let Ok(Event::Errors { reason, .. }) = events.try_recv() else {
        panic!("nothing was told");
    };
    assert_eq!(reason, "3 answers in a row with errors, the last with 503");
    // Another error does not make it good again, a success does.
    get(&proxy, 503).await;
    assert!(events.try_recv().is_err());
    answering(&backend, 200);
    get(&proxy, 200).await;
    let mut told = None;
    let served = wait_until_async(BOUND, || {
        told = told.take().or_else(|| events.try_recv().ok());
        told.is_some()
    });
    assert!(served.await);
    assert!(matches!(told, Some(Event::Served { .. })), "{told:?}");
}

#[tokio::test]
async fn who_comes_back_starts_afresh() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = proxy(&backend, OutlierErrors::Server);
    let mut events = proxy.plane.events().unwrap();
    answering(&backend, 500);
    for _ in 0..2 {
        get(&proxy, 500).await;
        get(&proxy, 500).await;
        assert!(events.try_recv().is_err(), "two errors in a row, not three");
        for state in [State::Down, State::Ready] {
            proxy.edit_backend(backend.address(), |b| b.status = Status::new(state, "test"));
        }
    }
    for _ in 0..3 {
        get(&proxy, 500).await;
    }
    assert!(matches!(events.try_recv(), Ok(Event::Errors { .. })));
}

#[tokio::test]
async fn what_is_no_error_for_the_service_is_not_counted() {
    let backend = HttpBackend::start("b").unwrap();
    for (errors, status, told) in [
        (OutlierErrors::Connect, 503, false),
        (OutlierErrors::Gateway, 500, false),
        (OutlierErrors::Gateway, 502, true),
        (OutlierErrors::Server, 501, true),
    ] {
        let mut proxy = proxy(&backend, errors);
        let mut events = proxy.plane.events().unwrap();
        answering(&backend, status);
        for _ in 0..3 {
            get(&proxy, status).await;
        }
        assert_eq!(events.try_recv().is_ok(), told, "{errors} {status}");
    }
}
