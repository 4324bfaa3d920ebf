//! Replacements under load.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_testkit::{Client, ClientPlan, Report, Reuse, list};
use tokio::task::JoinSet;

use crate::dock::{Dock, SOON};
use crate::lb::Lb;

/// How a service is replaced, instance by instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    service: &'static str,
    start_first: bool,
    /// Whether an instance that is told to stop goes on for a moment before it refuses anything.
    lingers: bool,
}

/// What clients send meanwhile: on connections that are kept and on new ones, short requests and
/// long ones, bodies of several lengths. Whether with POSTs: what an instance refuses that it is
/// just being sent, or that waits for it in the kernel, must not be sent elsewhere if it is a POST.
fn load(dock: &Dock, host: &str, posts: bool) -> Vec<Client> {
    let plan = ClientPlan {
        tasks: 2,
        post_every: if posts { 2 } else { 0 },
        pause: Duration::from_millis(10),
        ..dock.load(host)
    };
    let fresh = ClientPlan {
        reuse: Reuse::Never,
        want: vec![200, 20_000],
        ..plan.clone()
    };
    let long = ClientPlan {
        reuse: Reuse::Times(3),
        ..plan.clone().path("/slow?ms=300")
    };
    [plan, fresh, long].map(Client::start).into()
}

/// Replaces the instances of a service one by one, `count` in all, the oldest first.
async fn roll(both: Arc<(Dock, Lb)>, way: Way, count: usize) {
    let (dock, lb) = &*both;
    let service = way.service;
    let name = |number: usize| format!("{service}-{number}");
    let start = async |number: usize| {
        // What speaks of the container alone is another each time.
        let labels = format!(
            "--label plimsoll.service={service} --label plimsoll.host={service}.example \
             --label plimsoll.weight={}",
            1 + number % 3
        );
        let args = if way.lingers { "--linger 300" } else { "" };
        dock.start(&name(number), &labels, args);
        lb.until_state(service, &name(number), "ready").await;
    };
    for number in 0..2 {
        start(number).await;
    }
    let load = load(dock, &format!("{service}.example"), way.lingers);
    for client in &load {
        assert!(client.more(4, SOON).await);
    }
    for number in 0..count {
        let (old, new) = (name(number), number + 2);
        if way.start_first {
            start(new).await;
        }
        // Each of them is in use before it goes.
        dock.until("it serves", || load.iter().all(|c| c.answered_by(&old) > 0))
            .await;
        dock.docker(&format!("stop {old}"));
        dock.docker(&format!("rm {old}"));
        if !way.start_first {
            start(new).await;
        }
        // Ready it was as soon as it ran: it has to listen before the next one goes.
        let new = name(new);
        dock.until("it listens", || {
            load.iter().any(|c| c.answered_by(&new) > 0)
        })
        .await;
    }
    let mut all = Report::default();
    for client in load {
        assert!(client.more(4, SOON).await);
        all = all.merge(client.stop().await);
    }
    all.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_rolling_replacements_lose_nothing() {
    let Some(dock) = Dock::new("a_hundred_rolling_replacements_lose_nothing") else {
        return;
    };
    let lb = dock.run().await;
    let both = Arc::new((dock, lb));
    let mut ways = JoinSet::new();
    for (service, start_first, lingers) in [
        ("a", true, true),
        ("b", true, false),
        ("c", false, true),
        ("d", false, false),
    ] {
        let way = Way {
            service,
            start_first,
            lingers,
        };
        ways.spawn(roll(Arc::clone(&both), way, 25));
    }
    while let Some(done) = ways.join_next().await {
        done.unwrap();
    }
    let (dock, lb) = Arc::into_inner(both).unwrap();
    dock.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_costs_only_what_must_not_be_sent_twice() {
    let Some(dock) = Dock::new("a_kill_costs_only_what_must_not_be_sent_twice") else {
        return;
    };
    let lb = dock.run().await;
    let labels = "--label plimsoll.service=web --label plimsoll.host=web.example";
    for name in ["one", "two"] {
        dock.start(name, labels, "");
        lb.until_state("web", name, "ready").await;
    }
    // So long that both are killed in the middle of it.
    let slow = |post_every| {
        Client::start(ClientPlan {
            post_every,
            requests: Some(4),
            ..dock.load("web.example").path("/slow?ms=3000")
        })
    };
    let each_has = async |count: usize| {
        let what = format!("each has {count} requests");
        lb.until(&what, async || {
            let service = lb.service("web").await;
            let backends = list(&service["backends"]).iter();
            backends
                .map(|b| &b["counters"]["active"])
                .all(|active| *active == count)
        })
        .await;
    };
    let posts = slow(1);
    each_has(2).await;
    let gets = slow(0);
    each_has(4).await;
    dock.docker("kill two");
    let gets = gets.finished().await;
    gets.assert_clean();
    assert_eq!(gets.of("one"), 4, "{gets}");
    let posts = posts.finished().await;
    assert_eq!((posts.of("one"), posts.failures.len()), (2, 2), "{posts}");
    for failure in &posts.failures {
        assert!(failure.reason.contains("status 502"), "{failure:?}");
    }
    // The one that failed them is gone; they are counted all the same.
    assert_eq!(lb.service("web").await["failed"], 2);
    let metrics = lb.0.admin_get("/metrics").await.unwrap().text();
    let counted = "plimsoll_service_failed_total{service=\"web\"} 2\n";
    assert!(metrics.contains(counted), "{metrics}");
    dock.close(lb);
}
