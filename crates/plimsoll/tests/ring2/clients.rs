//! Clients that go away in every phase: backends and other clients do not notice.

use std::net::SocketAddr;

use plimsoll_testkit::{
    Answer, Client, Ending, HttpBehaviour, Place, Raw, Tunnels, WANT_HEADER, list, wait_until_async,
};

use crate::config::{self, Service, route};
use crate::lab::{HTTP, Lab, SOON, TCP};

/// What a client has done when it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Connected,
    InTheHead,
    InTheBody,
    InAChunk,
    WithoutAnswer,
    InTheAnswer,
    InATunnel,
    Tcp,
    TcpInTheAnswer,
}

const ALL: [Left; 9] = [
    Left::Connected,
    Left::InTheHead,
    Left::InTheBody,
    Left::InAChunk,
    Left::WithoutAnswer,
    Left::InTheAnswer,
    Left::InATunnel,
    Left::Tcp,
    Left::TcpInTheAnswer,
];

/// So many of each.
const EACH: usize = 10;

/// A few megabytes: more than all buffers on the way hold.
const MUCH: usize = 8 << 20;

impl Left {
    fn port(self) -> u16 {
        match self {
            Left::Tcp | Left::TcpInTheAnswer => TCP,
            _ => HTTP,
        }
    }

    /// What it sends.
    fn bytes(self) -> String {
        let slow = "GET / HTTP/1.1\r\nHost: slow.example\r\n";
        let post = "POST / HTTP/1.1\r\nHost: web.example\r\n";
        match self {
            Left::Connected => String::new(),
            Left::InTheHead => slow.to_owned(),
            Left::InTheBody => format!("{post}Content-Length: 1000\r\n\r\n{}", "x".repeat(500)),
            Left::InAChunk => format!("{post}Transfer-Encoding: chunked\r\n\r\nff\r\nabc"),
            Left::WithoutAnswer => format!("{slow}\r\n"),
            Left::InTheAnswer => {
                format!("GET / HTTP/1.1\r\nHost: web.example\r\n{WANT_HEADER}: {MUCH}\r\n\r\n")
            }
            Left::InATunnel => "GET / HTTP/1.1\r\nHost: web.example\r\nConnection: Upgrade\r\n\
                                Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                .to_owned(),
            Left::Tcp => "some-id 1000\nabc".to_owned(),
            // It comes back whole, and nobody reads it.
            Left::TcpInTheAnswer => format!("some-id {MUCH}\n{}", "x".repeat(MUCH)),
        }
    }

    /// Connects and does its part.
    async fn begin(self, place: &Place, lb: SocketAddr) -> Raw {
        let address = (lb.ip(), self.port()).into();
        let mut raw = Raw::connect_from(place, address).await.unwrap();
        raw.send(self.bytes()).await.unwrap();
        match self {
            Left::InTheAnswer => drop(raw.read_head(SOON).await.unwrap()),
            Left::InATunnel => {
                raw.read_head(SOON).await.unwrap();
                raw.send("abc").await.unwrap();
                assert_eq!(raw.read_exact(3, SOON).await.unwrap(), b"abc");
            }
            Left::TcpInTheAnswer => drop(raw.read_exact(1000, SOON).await.unwrap()),
            _ => {}
        }
        raw
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_in_any_phase_disturbs_nobody() {
    let Some(lab) = Lab::new(
        "a_client_that_goes_in_any_phase_disturbs_nobody",
        &["servers"],
    ) else {
        return;
    };
    let web = [8001, 8002].map(|port| lab.http("servers", port));
    let (slow, tcp) = (lab.http("servers", 8003), lab.tcp("servers", 9001));
    slow.behave(HttpBehaviour::answering(Answer::Never));
    let text = [
        config::web(lab.at("lb", HTTP), &[web[0].address(), web[1].address()]).text(),
        Service::new("slow", None, [slow.address()]).text(),
        route("slow.example", "/", &[("slow", 1)]),
        config::tcp(lab.at("lb", TCP), &[tcp.address()]).text(),
    ];
    let lb = lab.start(&text.concat()).await;
    let (place, address) = (lab.place("client"), lab.at("lb", HTTP));
    let clients = [lab.requests("web.example"), lab.exchanges()].map(Client::start);
    let tunnels = Tunnels::open(lab.tunnels("web.example", 4)).await.unwrap();
    for (left, ending) in ALL
        .into_iter()
        .flat_map(|l| [(l, Ending::Close), (l, Ending::Reset)])
    {
        let mut going = Vec::new();
        for _ in 0..EACH {
            going.push(left.begin(&place, address).await);
        }
        if left == Left::WithoutAnswer {
            let all = || slow.stats().active == EACH as u64;
            assert!(wait_until_async(SOON, all).await, "{:?}", slow.stats());
        }
        for raw in going {
            match ending {
                Ending::Close => drop(raw),
                Ending::Reset => raw.reset().unwrap(),
            }
        }
        // Whatever they had at a backend is ended there, too.
        let ended = || slow.stats().open == 0;
        assert!(wait_until_async(SOON, ended).await, "{left:?} {ending:?}");
        for client in &clients {
            assert!(client.more(10, SOON).await, "{left:?} {ending:?}");
            assert_eq!(client.failed(), 0, "{left:?} {ending:?}");
        }
    }
    for client in clients {
        client.stop().await.assert_clean();
    }
    tunnels.stop().await.assert_clean();
    lb.until_idle().await;
    let idle = || web.iter().all(|server| server.stats().active == 0);
    assert!(wait_until_async(SOON, idle).await);
    let gone = || tcp.stats().open == 0;
    assert!(wait_until_async(SOON, gone).await, "{:?}", tcp.stats());
    let status = lb.status().await;
    for service in list(&status["services"]) {
        for backend in list(&service["backends"]) {
            let good = backend["state"] == "ready" && backend["ejections"] == 0;
            assert!(good && backend["counters"]["failures"] == 0, "{backend}");
        }
    }
    lab.close(lb);
}
