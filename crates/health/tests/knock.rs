//! The task that knocks, against real backends.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_health::{Door, Doors, run_knocks};
use plimsoll_testkit::{Place, Port, TcpBackend};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

fn door(service: &str, at: SocketAddr) -> Door {
    (service.parse().unwrap(), at.into())
}

#[tokio::test]
async fn whoever_opens_is_said_and_nobody_else() {
    let ports: Vec<Port> = (0..50).map(|_| Port::take().unwrap()).collect();
    let doors = ports.iter().map(|p| (door("web", p.address()), None));
    let all: Doors = doors.collect();
    let (tell, doors) = watch::channel(Arc::new(all.clone()));
    let (say, mut open) = mpsc::channel(1);
    let task = tokio::spawn(run_knocks(doors, say));
    // One that many who are shut stand before.
    let (last, _) = all.last_key_value().unwrap();
    let at = ports.iter().find(|p| &door("web", p.address()) == last);
    let at = at.unwrap().address();
    let backend = TcpBackend::start_at("late", &Place::Here, at).unwrap();
    let said = timeout(SOON, open.recv()).await.unwrap();
    assert_eq!(said.as_ref(), Some(last));
    // As long as it is wanted it is said again.
    assert_eq!(timeout(SOON, open.recv()).await.unwrap(), said);

    // Nobody is wanted, then somebody else.
    let other = TcpBackend::start("other").unwrap();
    tell.send_replace(Arc::default());
    let wanted = door("other", other.address());
    tell.send_replace(Arc::new([(wanted.clone(), None)].into()));
    let said = timeout(SOON, async {
        while let Some(door) = open.recv().await {
            // What was on its way may still come.
            if door == wanted {
                return true;
            }
        }
        false
    });
    assert!(said.await.unwrap());
    drop((backend, tell));
    timeout(SOON, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn it_ends_with_whoever_listens_to_it() {
    let backend = TcpBackend::start("b").unwrap();
    let wanted = Doors::from([(door("web", backend.address()), None)]);
    let (_tell, doors) = watch::channel(Arc::new(wanted));
    let (say, open) = mpsc::channel(1);
    drop(open);
    timeout(SOON, run_knocks(doors, say)).await.unwrap();
}
