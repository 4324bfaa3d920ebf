//! What one client sends is answered to this client and to nobody else.

use plimsoll_testkit::HttpBackend;

use crate::common::{BOUND, Proxy, ms, put_route, route};

#[tokio::test]
async fn many_pipelined_requests_are_answered_to_who_sent_them() {
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::http(&[backend.address()]);
    proxy.change(|desired| put_route(desired, route("r", "known", "/", &[("web", 1)])));
    // Answers of our own are ready at once, so that nothing interrupts the work on them.
    let unknown = "GET /x HTTP/1.1\r\nHost: unknown\r\n\r\n".repeat(200);
    for round in 0..10 {
        let mut many = proxy.connect().await;
        many.send(&unknown).await.unwrap();
        for n in 0..200 {
            let answer = many.read_response(BOUND).await;
            assert_eq!(answer.unwrap().status, 404, "answer {n} of round {round}");
        }
        assert!(many.read_exact(1, ms(20)).await.is_err() && many.unread().is_empty());
        for _ in 0..4 {
            let answer = proxy.get("known", "/").await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
}
