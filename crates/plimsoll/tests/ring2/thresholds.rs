//! Thresholds of backends from the file through the binary, with real connections.

use plimsoll_testkit::{Ending, Raw, TcpBackend, list};
use serde_json::Value;

use crate::config;
use crate::lab::{Lab, Lb, SOON, TCP};

/// Of both backends, in the order of their addresses: connections in flight, and whether there may
/// be more.
async fn seen(lb: &Lb) -> Vec<(u64, bool)> {
    let status = lb.status().await;
    let backends = list(&status["services"][0]["backends"]).iter();
    let of = |b: &Value| {
        let counters = &b["counters"];
        let (active, over) = (&counters["active"], &counters["overloaded"]);
        (active.as_u64().unwrap(), !over.as_bool().unwrap())
    };
    backends.map(of).collect()
}

/// One that is reset at once, since nobody takes it; that may be so before its client has looked.
async fn refused(lab: &Lab) {
    let ending = match connect(lab).await {
        Ok(mut raw) => raw.read_to_end(SOON).await.map(|(_, ending)| ending),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            return;
        }
    };
    assert_eq!(ending.unwrap(), Ending::Reset);
}

async fn connect(lab: &Lab) -> std::io::Result<Raw> {
    Raw::connect_from(&lab.place("client"), lab.at("lb", TCP)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_come_to_upper_gets_nothing_until_it_is_below_lower() {
    let test = "who_has_come_to_upper_gets_nothing_until_it_is_below_lower";
    let Some(lab) = Lab::new(test, &["servers"]) else {
        return;
    };
    let servers: Vec<TcpBackend> = (7001..=7002).map(|n| lab.tcp("servers", n)).collect();
    let config = |upper: u32| {
        let [first, second] = [0, 1].map(|at| servers[at].address());
        let listen = lab.at("lb", TCP);
        format!(
            "{}[[service]]\nname = \"tcp\"\nlisten = \"{listen}/tcp\"\nscheduler = \"first\"\n\
             backends = [\n  {{ address = \"{first}\", upper = {upper}, lower = 1 }},\n  \
             {{ address = \"{second}\", upper = 1 }},\n]\n",
            config::DAEMON
        )
    };
    let lb = lab.start(&config(2)).await;
    let until = async |what: &str, expected: [(u64, bool); 2]| {
        lb.until(what, async || seen(&lb).await == expected).await;
    };
    let mut open = Vec::new();
    for (nth, expected) in [
        [(1, true), (0, true)],
        [(2, false), (0, true)],
        [(2, false), (1, false)],
    ]
    .into_iter()
    .enumerate()
    {
        open.push(connect(&lab).await.unwrap());
        until(&format!("connection {nth} is there"), expected).await;
    }
    refused(&lab).await;
    // Below `upper` again, but not below `lower`.
    drop(open.remove(0));
    until("one is gone", [(1, false), (1, false)]).await;
    refused(&lab).await;
    drop(open.remove(0));
    until("both are gone", [(0, true), (1, false)]).await;
    for expected in [[(1, true), (1, false)], [(2, false), (1, false)]] {
        open.push(connect(&lab).await.unwrap());
        until("there is room again", expected).await;
    }
    // A greater one holds at once, for those that are there as well.
    lb.0.replace_config(&config(4)).unwrap();
    until("the file is in force", [(2, true), (1, false)]).await;
    open.push(connect(&lab).await.unwrap());
    until("there is room", [(3, true), (1, false)]).await;
    drop(open);
    lb.until_idle().await;
    lab.close(lb);
}
