//! UDP: time-outs, limits of sessions, floods and garbage.

use std::net::{IpAddr, Ipv4Addr};

use plimsoll_model::{AccessLog as Format, Proto, SchedulerKind, Sessions};
use plimsoll_plane::{Plane, Tuple};
use plimsoll_testkit::wait_until_async;
use serde_json::Value;
use tokio::net::UdpSocket;

use crate::access_log::Log;
use crate::common::{BOUND, Proxy, at, loopback, ms};
use crate::udp::{Echo, asked, client, hear};

#[tokio::test]
async fn a_quiet_session_ends_and_a_busy_one_does_not() {
    let a = Echo::start('a').await;
    let proxy = Proxy::udp_with(vec![at(a.address)], |spec| spec.timeouts.udp = ms(1500));
    let (quiet, busy) = (client(proxy.address()).await, client(proxy.address()).await);
    assert_eq!((asked(&quiet).await, asked(&busy).await), ('a', 'a'));
    let mut asked_meanwhile = 0;
    while proxy.counters().udp.sessions == 2 {
        assert_eq!(asked(&busy).await, 'a');
        asked_meanwhile += 1;
        assert!(asked_meanwhile < 10_000, "it never ends");
    }
    assert_eq!(asked(&busy).await, 'a');
    assert_eq!(proxy.counters().total, 2, "the busy one goes on");
    assert_eq!(asked(&quiet).await, 'a');
    assert_eq!(proxy.counters().total, 3);
    assert!(wait_until_async(BOUND, || proxy.counters_of(a.address).active == 0).await);
}

#[tokio::test]
async fn a_session_ends_with_its_answers_where_they_are_counted() {
    let a = Echo::start('a').await;
    let proxy = Proxy::udp_with(vec![at(a.address)], |spec| {
        spec.sessions.responses = 1;
        spec.timeouts.udp = ms(3_600_000);
    });
    for exchange in 1..=20 {
        assert_eq!(asked(&client(proxy.address()).await).await, 'a');
        let ended = || proxy.counters().udp.sessions == 0;
        assert!(wait_until_async(BOUND, ended).await, "{exchange}");
        assert_eq!(proxy.counters().total, exchange);
    }
    proxy.settled().await;
    assert_eq!(proxy.listen().connections, 0);
}

#[tokio::test]
async fn nobody_hears_what_was_meant_for_another() {
    // It answers each question twice, and once more when somebody else asks.
    let backend = UdpSocket::bind((loopback(), 0)).await.unwrap();
    let address = backend.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut bytes, mut last) = ([0; 16], None);
        loop {
            if let Ok((n, from)) = backend.recv_from(&mut bytes).await {
                let question = bytes[..n].to_vec();
                let _ = backend.send_to(&question, from).await;
                let _ = backend.send_to(&question, from).await;
                if let Some((earlier, from)) = last.replace((question, from)) {
                    let _ = backend.send_to(&earlier, from).await;
                }
            }
        }
    });
    let proxy = Proxy::udp_with(vec![at(address)], |spec| spec.sessions.responses = 1);
    for number in 0..500u32 {
        let client = client(proxy.address()).await;
        client.send(&number.to_be_bytes()).await.unwrap();
        assert_eq!(hear(&client).await, number.to_be_bytes());
    }
    let ended = || proxy.counters().udp.sessions == 0;
    assert!(wait_until_async(BOUND, ended).await);
    task.abort();
}

#[tokio::test]
async fn each_session_is_a_line_of_the_log_when_it_has_ended() {
    let log = Log::new(Format::Json, true);
    let a = Echo::start('a').await;
    let mut proxy = log.proxy(Proto::Udp, a.address);
    proxy.edit(|web| {
        let spec = std::sync::Arc::make_mut(&mut web.spec);
        (spec.sessions.limit, spec.sessions.responses) = (1, 2);
    });
    let ended = |line: &str| -> (String, u64, u64, u64, u64) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["kind"], &line["service"]),
            (&"udp".into(), &"web".into())
        );
        let end = line["end"].as_str().unwrap().to_owned();
        let count = |key: &str| line[key].as_u64().unwrap();
        assert_eq!(line["response_ms"].is_null(), count("datagrams_out") == 0);
        (
            end,
            count("datagrams_in"),
            count("datagrams_out"),
            count("bytes_in"),
            count("bytes_out"),
        )
    };
    // The first has one answer of two when the second comes, for which there is no other room. One
    // that comes to the other worker finds nobody there to put out.
    let first = client(proxy.address()).await;
    first.send(b"12345").await.unwrap();
    assert_eq!(hear(&first).await, b"a:12345");
    for dropped in 1..64 {
        let second = client(proxy.address()).await;
        second.send(b"1").await.unwrap();
        let heard = || {
            let udp = proxy.counters().udp;
            udp.evicted > 0 || udp.dropped == dropped
        };
        assert!(wait_until_async(BOUND, heard).await);
        // Until it happens: which worker a client comes to is the kernel's choice.
        if proxy.counters().udp.evicted > 0 {
            assert_eq!(hear(&second).await, b"a:1");
            break;
        }
    }
    assert_eq!(ended(&log.lines(1).await[0]), ("PD".into(), 1, 1, 5, 7));
    // Quiet, and with its answer.
    proxy.edit(|web| std::sync::Arc::make_mut(&mut web.spec).timeouts.udp = ms(1));
    assert_eq!(ended(&log.lines(2).await[1]), ("--".into(), 1, 1, 1, 3));
    // Nobody answers, and then nobody is there.
    let deaf = UdpSocket::bind((loopback(), 0)).await.unwrap();
    let nobody = deaf.local_addr().unwrap();
    proxy.remove_backend(a.address);
    proxy.add_backend(at(nobody));
    first.send(b"12").await.unwrap();
    assert_eq!(ended(&log.lines(3).await[2]), ("sD".into(), 1, 0, 2, 0));
    proxy.remove_backend(nobody);
    first.send(b"1").await.unwrap();
    assert_eq!(ended(&log.lines(4).await[3]), ("SC".into(), 0, 0, 0, 0));
}

/// A plane where so many sessions fit, and clients that send one datagram each from addresses of
/// their own.
async fn full(sessions: Sessions) -> (Echo, Proxy, Vec<UdpSocket>) {
    let a = Echo::start('a').await;
    let proxy = Proxy::udp_with(vec![at(a.address)], |spec| spec.sessions = sessions);
    let mut clients = Vec::new();
    for host in 1..=8 {
        let ip: IpAddr = Ipv4Addr::new(127, 0, 3, host).into();
        let socket = UdpSocket::bind((ip, 0)).await.unwrap();
        socket.connect(proxy.address()).await.unwrap();
        clients.push(socket);
    }
    (a, proxy, clients)
}

#[tokio::test]
async fn a_flood_puts_out_itself_and_never_who_is_really_there() {
    let (_a, proxy, clients) = full(Sessions {
        limit: 4,
        ..Sessions::default()
    })
    .await;
    // Goes on after an answer: it got it.
    let real = client(proxy.address()).await;
    for _ in 0..2 {
        assert_eq!(asked(&real).await, 'a');
    }
    for _ in 0..50 {
        for flood in &clients {
            flood.send(b"?").await.unwrap();
        }
        assert_eq!(asked(&real).await, 'a');
        assert!(proxy.counters().udp.sessions <= 4);
    }
    let flows = proxy.counters();
    assert!(flows.udp.evicted > 0 || flows.udp.dropped > 0, "{flows:?}");
    // The flood's answers made some of it look real, which is as far as it gets.
    assert_eq!(asked(&real).await, 'a');
    assert_eq!(flows.udp.moved, 0);
}

#[tokio::test]
async fn when_all_are_really_there_the_new_one_waits_outside() {
    let (_a, proxy, clients) = full(Sessions {
        limit: 2,
        ..Sessions::default()
    })
    .await;
    for client in &clients[..2] {
        for _ in 0..2 {
            assert_eq!(asked(client).await, 'a');
        }
    }
    clients[2].send(b"?").await.unwrap();
    assert!(wait_until_async(BOUND, || proxy.counters().udp.dropped == 1).await);
    let counted = proxy.counters();
    assert_eq!((counted.udp.sessions, counted.udp.evicted), (2, 0));
    assert_eq!((counted.total, counted.unserved), (2, 0));
}

#[tokio::test]
async fn one_source_gets_its_share_and_others_theirs() {
    let (_a, proxy, clients) = full(Sessions {
        limit: 100,
        per_source: 3,
        responses: 0,
    })
    .await;
    let mut greedy = Vec::new();
    for _ in 0..20 {
        let one = client(proxy.address()).await;
        one.send(b"?").await.unwrap();
        greedy.push(one);
    }
    let taken = || {
        let udp = proxy.counters().udp;
        udp.evicted + udp.dropped == 17
    };
    assert!(
        wait_until_async(BOUND, taken).await,
        "{:?}",
        proxy.counters()
    );
    assert_eq!(proxy.counters().udp.sessions, 3);
    for client in &clients {
        assert_eq!(asked(client).await, 'a');
    }
    assert_eq!(proxy.counters().udp.sessions, 3 + 8);
}

#[tokio::test]
async fn garbage_and_strangers_disturb_nobody() {
    let a = Echo::start('a').await;
    let proxy = Proxy::udp(&[a.address]);
    let good = client(proxy.address()).await;
    assert_eq!(asked(&good).await, 'a');
    let garbage = client(proxy.address()).await;
    for size in (0..3000).step_by(97) {
        garbage.send(&vec![0xff; size]).await.unwrap();
    }
    drop(garbage);
    for _ in 0..20 {
        assert_eq!(asked(&good).await, 'a');
    }
}

#[tokio::test]
async fn what_a_stranger_sends_to_a_session_is_no_answer() {
    let backend = UdpSocket::bind((loopback(), 0)).await.unwrap();
    let proxy = Proxy::udp(&[backend.local_addr().unwrap()]);
    let good = client(proxy.address()).await;
    good.send(b"?").await.unwrap();
    let received = tokio::time::timeout(BOUND, backend.recv_from(&mut [0; 16])).await;
    let (_, session) = received.unwrap().unwrap();
    let stranger = UdpSocket::bind((loopback(), 0)).await.unwrap();
    for _ in 0..20 {
        // Nobody listens there for a stranger: an error is told of the one before.
        let _ = stranger.send_to(b"x:?", session).await;
    }
    backend.send_to(b"a:?", session).await.unwrap();
    assert_eq!(hear(&good).await, b"a:?");
    assert_eq!(
        proxy
            .counters_of(backend.local_addr().unwrap())
            .datagrams_out,
        1
    );
}

#[tokio::test]
async fn where_nobody_ever_answers_silence_is_no_failure() {
    let deaf = UdpSocket::bind((loopback(), 0)).await.unwrap();
    let backend = deaf.local_addr().unwrap();
    let mut proxy = Proxy::udp_with(vec![at(backend)], |spec| {
        spec.scheduler.kind = SchedulerKind::Ewma;
        spec.timeouts.udp = ms(1);
    });
    let known = |proxy: &Proxy| {
        let told = proxy.plane.explain(&Tuple {
            client: (loopback(), 4711).into(),
            destination: proxy.address(),
            proto: Proto::Udp,
            host: None,
            path: None,
        });
        let has = |words: &str| told.steps.iter().any(|step| step.contains(words));
        assert!(has("answers in") != has("has not answered yet"), "{told:?}");
        has("answers in")
    };
    let over = |proxy: &Proxy, total| {
        let counters = proxy.counters();
        counters.total == total && counters.udp.sessions == 0
    };
    for session in 1..=3 {
        client(proxy.address()).await.send(b"a line").await.unwrap();
        assert!(wait_until_async(BOUND, || over(&proxy, session)).await);
        assert!(!known(&proxy), "it was not asked anything");
    }
    // Once anybody has answered, the silent one is known as slow.
    let a = Echo::start('a').await;
    proxy.edit(|web| std::sync::Arc::make_mut(&mut web.spec).timeouts.udp = ms(60_000));
    proxy.add_backend(at(a.address));
    proxy.remove_backend(backend);
    assert_eq!(asked(&client(proxy.address()).await).await, 'a');
    proxy.add_backend(at(backend));
    proxy.remove_backend(a.address);
    let total = proxy.counters().total;
    proxy.edit(|web| std::sync::Arc::make_mut(&mut web.spec).timeouts.udp = ms(1));
    client(proxy.address()).await.send(b"?").await.unwrap();
    assert!(wait_until_async(BOUND, || over(&proxy, total + 1)).await);
    assert!(known(&proxy));
}

#[tokio::test]
async fn datagrams_that_are_lost_are_counted_with_the_reason() {
    let lost = |proxy: &Proxy, reason: &str| {
        let lost = proxy.listen().lost;
        lost.iter()
            .find(|(name, _)| *name == reason)
            .map_or(0, |(_, n)| *n)
    };
    let mut proxy = Proxy::udp(&[]);
    let one = client(proxy.address()).await;
    one.send(b"?").await.unwrap();
    assert!(wait_until_async(BOUND, || lost(&proxy, "no-backend") == 1).await);
    assert_eq!(proxy.counters().unserved, 1);
    // The kernel tells at the second datagram what became of the first, and there is no other backend.
    let a = Echo::start('a').await;
    proxy.add_backend(at(a.address));
    assert_eq!(asked(&one).await, 'a');
    let gone = a.stop().await;
    let heard = proxy.counters_of(gone).datagrams_in;
    for sent in 1..=50 {
        one.send(b"?").await.unwrap();
        let counted = || {
            let backend = proxy.counters_of(gone).datagrams_in - heard;
            backend + lost(&proxy, "backend-gone") + lost(&proxy, "no-backend") == sent + 1
        };
        assert!(
            wait_until_async(BOUND, counted).await,
            "{sent}: {:?} {:?}",
            proxy.listen(),
            proxy.counters_of(gone)
        );
    }
}

#[tokio::test]
async fn a_listen_that_is_its_own_backend_does_not_call_itself() {
    let a = Echo::start('a').await;
    let mut proxy = Proxy::udp(&[a.address]);
    proxy.add_backend(at(proxy.address()));
    for _ in 0..4 {
        assert_eq!(asked(&client(proxy.address()).await).await, 'a');
    }
    let counted = proxy.counters_of(proxy.address());
    assert_eq!(counted.datagrams_in, 0);
    assert!(counted.connect_failures > 0);
}
