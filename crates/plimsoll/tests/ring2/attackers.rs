//! Clients that hold what they get for as long as they can, by the hundred, over HTTP and TCP: each is
//! cut off by the time-out that concerns it, costs little until then, and disturbs nobody.

use std::time::{Duration, Instant};

use plimsoll_testkit::{
    Client, ClientPlan, Ending, Place, Raw, Reuse, TunnelPlan, Tunnels, WANT_HEADER, list,
};
use tokio::time::timeout;

use crate::config;
use crate::lab::{HTTP, Lab, Lb, SOON, TCP};

/// What is short is so by far less than what any good client takes.
const TIMEOUTS: &str =
    "timeouts = { header = \"3s\", keepalive = \"5s\", stall = \"3s\", idle = \"5s\" }";

/// Attackers of a kind.
const CROWD: usize = 200;

/// Bytes of an answer: more than all buffers on the way hold of one that is not read.
const MUCH: usize = 2 << 20;

/// Good connections at most, and a few: from so few on the crowd counts as gone.
const FEW: u64 = 40;

/// What an attacker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    /// Connects.
    Silence,
    /// Sends a head, a byte now and then.
    SlowHead,
    /// Sends a part of a body.
    SlowBody,
    /// The same, in chunks.
    SlowChunks,
    /// Has one answer, and keeps the connection.
    Idle,
    /// Wants a long answer, and takes nothing of it.
    Deaf,
    /// Connects, over TCP.
    TcpSilence,
    /// Sends a part of what it announces, over TCP.
    TcpSlow,
    /// Wants much, and takes nothing of it, over TCP.
    TcpDeaf,
}

impl Attack {
    /// Those who cost most last: what the allocator keeps of a crowd is not taken for the next one's.
    const ALL: [Attack; 9] = [
        Attack::Silence,
        Attack::SlowHead,
        Attack::Idle,
        Attack::TcpSilence,
        Attack::TcpSlow,
        Attack::SlowBody,
        Attack::SlowChunks,
        Attack::TcpDeaf,
        Attack::Deaf,
    ];

    fn port(self) -> u16 {
        match self {
            Attack::TcpSilence | Attack::TcpSlow | Attack::TcpDeaf => TCP,
            _ => HTTP,
        }
    }

    /// What it may hold of the daemon's memory, in KiB; this is a build without optimisation. One
    /// that has a request under way holds the buffers of two connections, one that reads nothing
    /// has filled them.
    fn most(self) -> u64 {
        match self {
            Attack::Silence | Attack::SlowHead | Attack::Idle => 16,
            Attack::SlowBody | Attack::SlowChunks => 128,
            Attack::Deaf => 320,
            Attack::TcpSilence | Attack::TcpSlow => 32,
            Attack::TcpDeaf => 160,
        }
    }

    async fn begin(self, place: &Place, lb: &std::net::SocketAddr) -> Raw {
        let address = (lb.ip(), self.port()).into();
        let stream = place.connect(address).await.unwrap();
        // Else the kernel of one that reads nothing might take it all.
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 64 << 10).unwrap();
        let mut raw = Raw::over(stream);
        let head = "Host: web.example\r\n";
        let bytes = match self {
            Attack::Silence | Attack::TcpSilence => return raw,
            Attack::SlowHead => format!("GET / HTTP/1.1\r\n{head}X-Slow: "),
            Attack::SlowBody => {
                format!("POST / HTTP/1.1\r\n{head}Content-Length: 100000\r\n\r\nabc")
            }
            Attack::SlowChunks => {
                format!("POST / HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\nffff\r\nabc")
            }
            Attack::Idle => format!("GET / HTTP/1.1\r\n{head}\r\n"),
            Attack::Deaf => format!("GET / HTTP/1.1\r\n{head}{WANT_HEADER}: {MUCH}\r\n\r\n"),
            Attack::TcpSlow => "some-id 1000\nabc".to_owned(),
            Attack::TcpDeaf => format!("some-id {MUCH}\n{}", "x".repeat(MUCH)),
        };
        raw.send(bytes).await.unwrap();
        if self == Attack::Idle {
            assert_eq!(raw.read_response(SOON).await.unwrap().status, 200);
        }
        raw
    }

    /// Was cut off, in the way that is right for it. Whether it was before it had all it wanted.
    async fn end(self, mut raw: Raw) -> bool {
        if matches!(
            self,
            Attack::SlowHead | Attack::SlowBody | Attack::SlowChunks
        ) {
            let answer = timeout(SOON, raw.read_response(SOON)).await.unwrap();
            let answer = answer.unwrap();
            assert_eq!((answer.status, answer.closes()), (408, true), "{self:?}");
            return true;
        }
        let (bytes, ending) = raw.read_to_end(SOON).await.unwrap();
        match self {
            Attack::Silence | Attack::Idle => {
                assert_eq!((bytes.len(), ending), (0, Ending::Close), "{self:?}");
                true
            }
            _ if bytes.len() >= MUCH => false,
            // A part must not be taken for the whole.
            _ => {
                assert_eq!(ending, Ending::Reset, "{self:?}: {} bytes", bytes.len());
                true
            }
        }
    }
}

/// Those who want to be served meanwhile.
struct Good {
    clients: Vec<Client>,
    tunnels: Vec<Tunnels>,
}

impl Good {
    async fn start(lab: &Lab) -> Self {
        let few = |plan| ClientPlan { tasks: 2, ..plan };
        let posts = ClientPlan {
            post_every: 2,
            want: vec![200, 50_000],
            ..lab.requests("web.example")
        };
        let fresh = |plan| ClientPlan {
            reuse: Reuse::Never,
            ..few(plan)
        };
        let plans = [
            posts,
            fresh(lab.requests("web.example")),
            few(lab.exchanges()),
            fresh(lab.exchanges()),
        ];
        let tcp = TunnelPlan {
            place: lab.place("client"),
            ..TunnelPlan::tcp(lab.at("lb", TCP), 2)
        };
        let mut tunnels = Vec::new();
        for plan in [lab.tunnels("web.example", 2), tcp] {
            tunnels.push(Tunnels::open(plan).await.unwrap());
        }
        Self {
            clients: plans.map(Client::start).into(),
            tunnels,
        }
    }

    /// All are still served, and none has ever not been.
    async fn assert_served(&self, what: &str) {
        for client in &self.clients {
            assert!(client.more(20, SOON).await, "{what}: not served any more");
            assert_eq!(client.failed(), 0, "{what}");
        }
        for tunnels in &self.tunnels {
            assert!(tunnels.more(2, SOON).await, "{what}: a tunnel is silent");
            assert_eq!(tunnels.broken(), 0, "{what}");
        }
    }

    async fn stop(self) {
        for client in self.clients {
            let report = client.stop().await;
            report.assert_clean();
            eprintln!("beside them: {report}");
        }
        for tunnels in self.tunnels {
            tunnels.stop().await.assert_clean();
        }
    }
}

/// A crowd attacks, and is got rid of; `quiet` is the memory that the daemon held before the first.
async fn withstand(attack: Attack, lab: &Lab, lb: &Lb, good: &Good, quiet: u64) {
    let (place, address) = (lab.place("client"), lab.at("lb", HTTP));
    good.assert_served(&format!("before {attack:?}")).await;
    let open = lb.descriptors();
    let started = Instant::now();
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(attack.begin(&place, &address).await);
    }
    let begun = started.elapsed();
    good.assert_served(&format!("under {attack:?}")).await;
    let each = lb.memory().saturating_sub(quiet) / CROWD as u64;
    let held = lb.descriptors().saturating_sub(open);
    eprintln!("{attack:?}: {CROWD} in {begun:?}, {each} KiB each, {held} descriptors");
    assert!(each < attack.most(), "{attack:?}: {each} KiB each");
    if attack == Attack::SlowHead && begun < Duration::from_secs(1) {
        // It does not help: the time is that for the whole head. Once they are told to go, what they
        // still send would reset what they are told.
        for raw in &mut crowd {
            raw.send("x").await.unwrap();
        }
    }
    // Not one of them reads anything before that.
    let gone = async || {
        let status = lb.status().await;
        let listens = list(&status["services"]).iter();
        let listens = listens.flat_map(|service| list(&service["listens"]));
        let open = listens.map(|listen| listen["connections"].as_u64().unwrap());
        open.sum::<u64>() < FEW
    };
    lb.until("the crowd is gone", gone).await;
    let mut spared = 0;
    for raw in crowd {
        spared += u64::from(!attack.end(raw).await);
    }
    // The last of them may have read before it was their turn.
    assert!(spared < FEW, "{attack:?}: {spared} got all they wanted");
    good.assert_served(&format!("after {attack:?}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attackers_are_cut_off_and_disturb_nobody() {
    let test = "attackers_are_cut_off_and_disturb_nobody";
    let Some(lab) = Lab::new(test, &["servers"]) else {
        return;
    };
    let web = [8001, 8002].map(|port| lab.http("servers", port));
    let tcp = [9001, 9002].map(|port| lab.tcp("servers", port));
    let web = web.each_ref().map(|server| server.address());
    let tcp = tcp.each_ref().map(|server| server.address());
    let text = [
        config::web(lab.at("lb", HTTP), &web).with(TIMEOUTS).text(),
        config::tcp(lab.at("lb", TCP), &tcp).with(TIMEOUTS).text(),
    ];
    let lb = lab.start(&text.concat()).await;
    let good = Good::start(&lab).await;
    good.assert_served("without attackers").await;
    let quiet = lb.memory();
    for attack in Attack::ALL {
        withstand(attack, &lab, &lb, &good, quiet).await;
    }
    good.stop().await;
    lb.until_idle().await;
    // None of it was held against those who serve.
    let status = lb.status().await;
    for service in list(&status["services"]) {
        for backend in list(&service["backends"]) {
            let good = backend["state"] == "ready" && backend["ejections"] == 0;
            assert!(good && backend["counters"]["failures"] == 0, "{backend}");
        }
    }
    lab.close(lb);
}
