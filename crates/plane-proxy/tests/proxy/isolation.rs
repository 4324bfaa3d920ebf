//! What one client sends is answered to this client and to nobody else.

use plimsoll_testkit::{Client, ClientPlan, HttpBackend, HttpBehaviour, ID_HEADER, Raw};

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

/// Numbers that look random and are the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }
}

/// What a client may send, and what it must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Get,
    Post,
    Chunked,
    Unknown,
    Refused,
    /// The last of its connection.
    Close,
    Bad,
    Old,
}

const ACTS: [Act; 10] = [
    Act::Get,
    Act::Get,
    Act::Post,
    Act::Chunked,
    Act::Unknown,
    Act::Unknown,
    Act::Refused,
    Act::Close,
    Act::Bad,
    Act::Old,
];

impl Act {
    fn bytes(self, id: &str) -> String {
        let fields = format!("Host: known\r\n{ID_HEADER}: {id}\r\n");
        match self {
            Act::Get => format!("GET /{id} HTTP/1.1\r\n{fields}\r\n"),
            Act::Post => format!("POST / HTTP/1.1\r\n{fields}Content-Length: 9\r\n\r\nabcdefghi"),
            Act::Chunked => format!(
                "POST / HTTP/1.1\r\n{fields}Transfer-Encoding: chunked\r\n\r\n\
                 5\r\nabcde\r\n4\r\nfghi\r\n0\r\n\r\n"
            ),
            Act::Unknown => "GET / HTTP/1.1\r\nHost: unknown\r\n\r\n".to_owned(),
            Act::Refused => {
                format!("GET / HTTP/1.1\r\n{fields}Connection: upgrade\r\nUpgrade: x\r\n\r\n")
            }
            Act::Close => format!("GET / HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"),
            Act::Bad => format!("GET / HTTP/1.1\r\n{fields}Bad : field\r\n\r\n"),
            Act::Old => format!("GET / HTTP/1.0\r\n{fields}\r\n"),
        }
    }

    fn ends(self) -> bool {
        matches!(self, Act::Close | Act::Bad | Act::Old)
    }

    fn status(self) -> u16 {
        match self {
            Act::Unknown => 404,
            Act::Bad => 400,
            _ => 200,
        }
    }
}

/// One connection: some requests at once, cut anywhere, and either all answers or none read.
async fn visit(address: std::net::SocketAddr, name: &str, dice: &mut Dice) {
    let mut acts = Vec::new();
    for _ in 0..=dice.roll(40) {
        acts.push(ACTS[dice.roll(ACTS.len())]);
        if acts.last().is_some_and(|act| act.ends()) {
            break;
        }
    }
    let ids: Vec<String> = (0..acts.len()).map(|n| format!("{name}-{n}")).collect();
    let bytes: String = acts
        .iter()
        .zip(&ids)
        .map(|(act, id)| act.bytes(id))
        .collect();
    let mut client = Raw::connect(address).await.unwrap();
    if dice.roll(3) == 0 {
        // Sends a part, and is gone.
        client.send(&bytes[..dice.roll(bytes.len())]).await.unwrap();
        if dice.roll(2) == 0 {
            client.reset().unwrap();
        }
        return;
    }
    let cut = dice.roll(bytes.len());
    client
        .send_pieces(&[&bytes[..cut], &bytes[cut..]], ms(dice.roll(3) as u64))
        .await
        .unwrap();
    for (act, id) in acts.iter().zip(&ids) {
        let answer = client.read_response(BOUND).await;
        let answer = answer.unwrap_or_else(|error| panic!("{id} of {acts:?}: {error}"));
        assert_eq!(answer.status, act.status(), "{id} of {acts:?}: {answer:?}");
        let own = (answer.status == 200).then_some(id.as_str());
        assert_eq!(
            answer.head.get(ID_HEADER),
            own,
            "{id} of {acts:?}: {answer:?}"
        );
    }
    let end = if acts.last().is_some_and(|act| act.ends()) {
        BOUND
    } else {
        ms(1)
    };
    if let Ok((rest, _)) = client.read_to_end(end).await {
        assert!(rest.is_empty(), "{acts:?}: {}", rest.escape_ascii());
    }
    assert!(
        client.unread().is_empty(),
        "{acts:?}: {}",
        client.unread().escape_ascii()
    );
}

#[tokio::test]
async fn whatever_others_send_everybody_gets_his_own_answers() {
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour {
        upgrade: false,
        ..HttpBehaviour::default()
    });
    let mut proxy = Proxy::http(&[backend.address()]);
    proxy.change(|desired| put_route(desired, route("r", "known", "/", &[("web", 1)])));
    let good = Client::start(ClientPlan {
        post_every: 3,
        tasks: 4,
        pause: ms(1),
        ..ClientPlan::http(proxy.address(), "known")
    });
    let crowd: Vec<_> = (1..=8u64)
        .map(|seed| {
            let address = proxy.address();
            tokio::spawn(async move {
                let mut dice = Dice(seed * 0x9E37_79B9);
                for round in 0..250 {
                    visit(address, &format!("v{seed}-{round}"), &mut dice).await;
                }
            })
        })
        .collect();
    for visitor in crowd {
        visitor.await.unwrap();
    }
    let report = good.stop().await;
    report.assert_clean();
    assert_eq!(report.closed_idle, 0, "{report}");
    proxy.settled().await;
}
