//! A configuration file that is broken, half written, empty or gone, under load.

use plimsoll_testkit::{Client, Raw, list};
use serde_json::Value;

use crate::config;
use crate::lab::{HTTP, Lb, SOON};
use crate::stage::Stage;

/// What there is to see of the file.
async fn source(lb: &Lb) -> Value {
    lb.status().await["sources"][0].clone()
}

/// The services with their backends, states and weights.
async fn in_force(lb: &Lb) -> Vec<String> {
    let status = lb.status().await;
    let services = list(&status["services"]).iter();
    let backends = services.flat_map(|s| list(&s["backends"]).iter().map(move |b| (s, b)));
    backends
        .map(|(s, b)| format!("{} {} {} {}", s["name"], b["addr"], b["state"], b["weight"]))
        .collect()
}

/// How the daemon gets to know.
#[derive(Clone, Copy, Debug)]
enum By {
    Signal,
    Watch,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_good_changes_nothing() {
    let Some(stage) = Stage::new("a_file_that_is_no_good_changes_nothing").await else {
        return;
    };
    let lb = &stage.lb;
    let path = lb.0.config_path();
    let good = std::fs::read_to_string(&path).unwrap();
    let before = in_force(lb).await;
    assert_eq!(before.len(), 4);
    let client = Client::start(stage.lab.requests("web.example"));
    let tunnels = plimsoll_testkit::Tunnels::open(stage.lab.tunnels("web.example", 4));
    let tunnels = tunnels.await.unwrap();

    let name = path.display().to_string();
    let half = &good[..good.len() / 2];
    let unknown = good.replace("scheduler", "schedular");
    let line = |key: &str| 1 + good.lines().position(|l| l.starts_with(key)).unwrap();
    let nothing: &[(Option<&str>, String)] = &[
        (Some("[[service]\nname = 5"), format!("{name}:1:")),
        (Some(&unknown), format!("{name}:{}:1: ", line("scheduler"))),
        (Some(half), format!("{name}:{}:", half.lines().count())),
        (
            Some("\n  \n"),
            "it is empty, as if being written".to_owned(),
        ),
        (
            Some(&good.replace(":8080/", ":0/")),
            format!("{name}:{}:10: ", line("listen")),
        ),
        (None, "cannot be read: No such file".to_owned()),
    ];
    for (text, reason) in nothing {
        for by in [By::Signal, By::Watch] {
            let what = format!("{reason} by {by:?}");
            match text {
                Some(text) => lb.0.overwrite_config(text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            if matches!(by, By::Signal) {
                lb.0.hup().unwrap();
            }
            let stale = async || {
                let source = source(lb).await;
                source["state"] == "stale" && source["reason"].as_str().unwrap().contains(reason)
            };
            lb.until(&what, stale).await;
            assert_eq!(in_force(lb).await, before, "{what}");
            let shown = lb.tell(&["status"]);
            assert!(
                shown.contains("stale for") && shown.contains(reason),
                "{what}: {shown}"
            );
            assert!(client.more(20, SOON).await, "{what}");
            lb.0.replace_config(&good).unwrap();
            if matches!(by, By::Signal) {
                lb.0.hup().unwrap();
            }
            let fresh = async || {
                let source = source(lb).await;
                source["state"] == "fresh" && source["reason"] == ""
            };
            lb.until(&what, fresh).await;
            assert_eq!((client.failed(), tunnels.broken()), (0, 0), "{what}");
        }
    }

    // What is mended with a change brings the change.
    lb.0.overwrite_config(half).unwrap();
    lb.0.hup().unwrap();
    let stale = async || source(lb).await["state"] == "stale";
    lb.until("it is stale", stale).await;
    let one = config::web(stage.lab.at("lb", HTTP), &[stage.victim.address()]);
    lb.0.replace_config(&one.text()).unwrap();
    let changed = async || in_force(lb).await.len() == 1;
    lb.until("the change is in force", changed).await;
    assert_eq!(source(lb).await["state"], "fresh");
    let place = stage.lab.place("client");
    let mut raw = Raw::connect_from(&place, stage.lab.at("lb", HTTP))
        .await
        .unwrap();
    let answer = raw.get("web.example", "/", SOON).await.unwrap();
    assert!(
        answer.text().contains(stage.victim.id()),
        "{}",
        answer.text()
    );
    drop(raw);
    client.stop().await.assert_clean();
    tunnels.stop().await.assert_clean();
    stage.close().await;
}
