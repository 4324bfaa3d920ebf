//! An upgrade whose maps have another layout, under load: connections, requests and datagrams by direct routing
//! and NAT go on while programs of ours give way to those of another layout, and those to ours.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use plimsoll_plane_ebpf::kernel::{Clock, Layout, Takeover};
use plimsoll_plane_ebpf::sys::Netlink;
use plimsoll_testkit::{
    Client, ClientPlan, HttpBackend, Namespace, Reuse, TempDir, list, wait_until,
};

use crate::lab::{Lab, SOON};
use crate::packets::{VIP, config, prepare, run, vip};

/// The programs with `PLIMSOLL_OTHER_LAYOUT` (see `bpf/layout.h`).
const OTHER: Layout<'static> = Layout {
    version: 1000,
    tc: include_bytes!("../../../plane-ebpf/tests/bpf/other/director-tc.o"),
    xdp: include_bytes!("../../../plane-ebpf/tests/bpf/other/director-xdp.o"),
    carry: include_bytes!("../../../plane-ebpf/tests/bpf/other/carry.o"),
};

const DIRECT: [&str; 2] = ["s1", "s2"];
const TRANSLATED: &str = "s3";
const NAT: u16 = 8081;
const DATAGRAMS: u16 = 8082;

/// Takes over with this layout, in the director's namespace; or begins to, as a process that is killed.
fn take_over(director: &Namespace, layout: Layout<'static>, finish: bool) {
    let taken = director.run(move || {
        let mut netlink = Netlink::open().unwrap();
        let hz = Clock::read().unwrap().hz();
        let begun = Takeover::begin(&mut netlink, &layout, hz).unwrap();
        let mut begun = begun.expect("there is another layout");
        if finish {
            begun.finish(&mut netlink).unwrap();
        }
    });
    taken.unwrap();
}

/// Echoes datagrams at the VIP in the namespace of a server, for as long as the test runs.
fn echo(lab: &Lab, label: &str) {
    let to: SocketAddr = format!("{VIP}:{DATAGRAMS}").parse().unwrap();
    let bound = lab.net().namespace(label).unwrap();
    let socket = bound.run(move || UdpSocket::bind(to).unwrap()).unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&bytes[..len], from);
        }
    });
}

/// Datagrams from one client, each of which must come back before the next is sent.
struct Datagrams {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: JoinHandle<Result<(), String>>,
}

impl Datagrams {
    fn start(lab: &Lab) -> Self {
        let client = lab.net().namespace("client").unwrap();
        let socket = client
            .run(|| UdpSocket::bind("0.0.0.0:0").unwrap())
            .unwrap();
        socket.connect((VIP, DATAGRAMS)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, counted) = (stop.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let number = counted.load(Ordering::Relaxed);
                socket.send(&number.to_ne_bytes()).unwrap();
                let mut back = [0; 64];
                let came = socket.recv(&mut back);
                let came = came.map_err(|error| format!("datagram {number}: {error}"))?;
                assert_eq!(back[..came], number.to_ne_bytes());
                counted.fetch_add(1, Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(2));
            }
            Ok(())
        });
        Self { stop, done, thread }
    }

    fn more(&self, count: u64) -> bool {
        let wanted = self.done.load(Ordering::Relaxed) + count;
        tokio::task::block_in_place(|| {
            wait_until(SOON, || {
                self.done.load(Ordering::Relaxed) >= wanted || self.thread.is_finished()
            })
        }) && !self.thread.is_finished()
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_layout_takes_over_and_gives_back() {
    let servers = [DIRECT[0], DIRECT[1], TRANSLATED];
    let Some(lab) = Lab::new("another_layout_takes_over", &servers) else {
        return;
    };
    prepare(&lab);
    let client = lab.at("client", 1).ip().to_string();
    let lb = lab.at("lb", 1).ip().to_string();
    // Replies of NAT come back by the director.
    let translated = lab.net().namespace(TRANSLATED).unwrap();
    let route = ["route", "add", &client, "via", &lb];
    translated.ip(&route).unwrap();
    let at = lab.at(TRANSLATED, 9000);
    let mut backends = vec![HttpBackend::start_at(TRANSLATED, &lab.place(TRANSLATED), at).unwrap()];
    for label in DIRECT {
        backends.push(HttpBackend::start_at(label, &lab.place(label), vip()).unwrap());
        echo(&lab, label);
    }
    let direct = DIRECT.map(|label| {
        let ip = lab.at(label, 1).ip();
        format!("{{ address = \"{ip}\", forward = \"dr\" }}")
    });
    let text = format!(
        "{}\n[[service]]\nname = \"nat\"\nplane = \"ebpf\"\nscheduler = \"wlc\"\nlisten = \"{VIP}:{NAT}/tcp\"\n\
         backends = [{{ address = \"{at}\", forward = \"nat\" }}]\n\
         [[service]]\nname = \"datagrams\"\nplane = \"ebpf\"\nscheduler = \"rr\"\n\
         listen = \"{VIP}:{DATAGRAMS}/udp\"\nbackends = [{}]\n",
        // Room for every connection of the test: those that have ended stay for two minutes.
        config(&lab, &DIRECT).replace("flows = 10_000", "flows = 100_000"),
        direct.join(", ")
    );
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("takeover.toml");
    let mut lb = run(&lab, &file, &text).await;

    let nat: SocketAddr = format!("{VIP}:{NAT}").parse().unwrap();
    let clients: Vec<Client> = [
        (vip(), Reuse::Never),
        (vip(), Reuse::Keep),
        (nat, Reuse::Never),
        (nat, Reuse::Keep),
    ]
    .into_iter()
    .map(|(to, reuse)| {
        Client::start(ClientPlan {
            place: lab.place("client"),
            tasks: 3,
            pause: Duration::from_millis(2),
            reuse,
            ..ClientPlan::http(to, "web.example")
        })
    })
    .collect();
    let datagrams: Vec<Datagrams> = (0..3).map(|_| Datagrams::start(&lab)).collect();
    let all_go_on = async || {
        for client in &clients {
            assert!(client.more(40, SOON).await, "requests go on");
        }
        assert!(datagrams.iter().all(|d| d.more(40)), "datagrams go on");
    };
    all_go_on().await;

    lb.0.kill().unwrap();
    lb.0.wait(SOON).await.unwrap();
    drop(lb);
    let director = lab.net().namespace("lb").unwrap();
    tokio::task::block_in_place(|| take_over(director, OTHER, true));
    all_go_on().await;
    // One of ours dies in the midst of its takeover; the next one takes all there is.
    tokio::task::block_in_place(|| take_over(director, Layout::OURS, false));
    all_go_on().await;
    let lb = run(&lab, &file, &text).await;
    all_go_on().await;
    let status = lb.status().await;
    for service in list(&status["services"]) {
        let backends = list(&service["backends"]).iter();
        let flows = backends.filter_map(|b| b["counters"]["connections"].as_u64());
        assert!(
            flows.sum::<u64>() > 0,
            "what was counted is not forgotten: {status:#}"
        );
    }
    for client in clients {
        client.stop().await.assert_clean();
    }
    datagrams.into_iter().for_each(Datagrams::stop);
    drop(backends);
    lab.close(lb);
}
