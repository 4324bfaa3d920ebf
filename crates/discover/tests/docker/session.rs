//! Connections that are lost, streams that tell nothing, or too much.

use std::time::Duration;

use plimsoll_discover::docker::client::Engine;
use plimsoll_discover::docker::host::EngineHost;
use plimsoll_discover::docker::source::Timing;
use plimsoll_discover::docker::whereami::Traces;
use plimsoll_discover::{Item, Update};
use plimsoll_testkit::{Ask, FakeContainer, FakeEngine, Fault, Telling};

use crate::running::{Running, asked, calm, host};

fn web(name: &str) -> FakeContainer {
    FakeContainer::web(name, &format!("{name}.example"))
}

/// Lists in quick succession.
fn eager() -> Timing {
    Timing {
        relist: Duration::from_millis(50),
        ..calm()
    }
}

#[tokio::test]
async fn it_waits_for_an_engine_for_ever() {
    let engine = FakeEngine::start().unwrap();
    engine.stop();
    let source = Running::start(&engine, calm());
    let why = source.stale().await;
    assert!(why.contains("no such socket"), "{why}");
    engine.world(|world| world.run(web("web")));
    engine.start_again().unwrap();
    source.until("ready", |heard| heard.is_ready("web")).await;
    assert!(source.look(|heard| heard.stale.is_none()));
}

#[tokio::test]
async fn an_engine_that_does_not_answer_holds_nobody_up() {
    let engine = FakeEngine::start().unwrap();
    engine.adjust(|how| {
        how.faults.insert(Ask::Ping, Fault::Hang);
    });
    let timing = Timing {
        first: Duration::from_millis(50),
        ..calm()
    };
    let source = Running::start(&engine, timing);
    let why = source.stale().await;
    assert!(why.contains("waiting for the engine"), "{why}");

    let engine = FakeEngine::start().unwrap();
    engine.adjust(|how| {
        how.faults.insert(Ask::List, Fault::Hang);
    });
    let source = Running::start(&engine, timing);
    let why = source.stale().await;
    assert!(why.contains("waiting for the engine"), "{why}");
}

#[tokio::test]
async fn while_the_engine_is_away_nothing_changes() {
    let engine = FakeEngine::start().unwrap();
    let [kept, lost] = engine.world(|world| ["kept", "lost"].map(|name| world.run(web(name))));
    let source = Running::start(&engine, calm());
    source.up().await;
    engine.stop();
    source.stale().await;
    source.look(|heard| assert!(heard.is_ready("kept") && heard.is_ready("lost")));
    // What happens now, nobody tells.
    engine.world(|world| {
        world.remove(&lost);
        world.restart(&kept);
        world.run(web("new"));
    });
    engine.stop();
    engine.start_again().unwrap();
    source
        .until("fresh", |heard| {
            heard.stale.is_none() && heard.is_ready("new")
        })
        .await;
    source.look(|heard| {
        assert!(heard.is_ready("kept"));
        assert_eq!(heard.status("lost"), None);
        assert_eq!(heard.resets(), 2);
    });
    // And it listens again.
    engine.world(|world| world.pause(&kept));
    source
        .until("paused", |heard| !heard.is_ready("kept"))
        .await;
}

#[tokio::test]
async fn the_version_is_agreed_on_anew() {
    let engine = FakeEngine::start().unwrap();
    let source = Running::start(&engine, calm());
    source.up().await;
    engine.stop();
    engine.adjust(|how| (how.api, how.min_api) = ("1.55".into(), "1.44".into()));
    engine.start_again().unwrap();
    source
        .until("two resets", |heard| heard.resets() == 2)
        .await;
    let (_, line) = engine.seen().pop().unwrap();
    assert!(line.starts_with("GET /v1.55/"), "{line}");
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again_where_it_ended() {
    let engine = FakeEngine::start().unwrap();
    let id = engine.world(|world| world.run(web("web")));
    let source = Running::start(&engine, calm());
    source.up().await;
    engine.world(|world| world.signal(&id, 1));
    // A signal that nobody hears of at first, and that no inspection shows.
    engine.end_streams();
    engine.world(|world| world.signal(&id, 15));
    let draining = Some("draining: told to stop (SIGTERM)".to_owned());
    source
        .until("draining", |heard| heard.status("web") == draining)
        .await;
}

#[tokio::test]
async fn no_time_before_1970_is_asked_for() {
    let fake = FakeEngine::start().unwrap();
    let engine = Engine::negotiate(&host(&fake)).await.unwrap();
    for (since, expected) in [
        (None, None),
        (Some(-5), None),
        (Some(0), None),
        (Some(1_500_000_000), Some("since=1.500000000")),
    ] {
        engine.events(since).await.unwrap();
        let (_, line) = fake.seen().pop().unwrap();
        let asked = line.split(['&', ' ']).find(|it| it.starts_with("since"));
        assert_eq!(asked, expected, "{line}");
    }
}

#[tokio::test]
async fn who_was_told_to_stop_a_moment_before_drains() {
    let engine = FakeEngine::start().unwrap();
    engine.world(|world| {
        let id = world.run(web("web"));
        world.signal(&id, 15);
    });
    let source = Running::start(&engine, calm());
    let draining = Some("draining: told to stop (SIGTERM)".to_owned());
    source
        .until("draining", |heard| heard.status("web") == draining)
        .await;
}

#[tokio::test]
async fn a_deaf_stream_is_found_and_opened_anew() {
    let engine = FakeEngine::start().unwrap();
    let id = engine.world(|world| world.run(web("web")));
    let source = Running::start(&engine, eager());
    source.up().await;
    engine.adjust(|how| how.telling = Telling::Nothing);
    engine.world(|world| world.pause(&id));
    // The list shows it.
    source.until("paused", |heard| !heard.is_ready("web")).await;
    asked(&engine, Ask::Events, 2).await;
    source.look(|heard| assert!(heard.stale.is_none(), "{heard:?}"));
}

#[tokio::test]
async fn a_stream_that_stalls_is_opened_anew_in_time() {
    let engine = FakeEngine::start().unwrap();
    engine.adjust(|how| how.telling = Telling::Nothing);
    let timing = Timing {
        idle: Duration::from_millis(50),
        ..calm()
    };
    let source = Running::start(&engine, timing);
    source.up().await;
    asked(&engine, Ask::Events, 3).await;
    assert!(source.look(|heard| heard.stale.is_none()));
}

#[tokio::test]
async fn what_cannot_be_read_in_the_stream_is_looked_up() {
    let engine = FakeEngine::start().unwrap();
    let id = engine.world(|world| world.run(web("web")));
    let source = Running::start(&engine, calm());
    source.up().await;
    engine.adjust(|how| how.telling = Telling::Garbage);
    engine.world(|world| world.pause(&id));
    source.until("paused", |heard| !heard.is_ready("web")).await;
    assert_eq!(engine.count(Ask::Events), 1);
}

#[tokio::test]
async fn an_event_of_any_length_loses_no_stream() {
    let engine = FakeEngine::start().unwrap();
    let id = engine.world(|world| world.run(web("web")));
    let source = Running::start(&engine, calm());
    source.up().await;
    let labels = (0..20).fold(web("large"), |made, n| {
        made.label(&format!("build.log.{n}"), &"x".repeat(60_000))
    });
    engine.world(|world| world.run(labels));
    // A list follows for what could not be read.
    source.until("large", |heard| heard.is_ready("large")).await;
    engine.world(|world| world.pause(&id));
    source.until("paused", |heard| !heard.is_ready("web")).await;
    assert_eq!(engine.count(Ask::Events), 1);
    source.look(|heard| assert!(heard.stale.is_none(), "{:?}", heard.stale));
}

/// Many changes, told in a bad way, and at last one list: the world as it is.
async fn storm(telling: Telling) {
    let engine = FakeEngine::start().unwrap();
    engine.adjust(|how| how.telling = telling);
    let ids: Vec<String> = engine.world(|world| {
        (0..20)
            .map(|n| world.run(web(&format!("web{n}"))))
            .collect()
    });
    let source = Running::start(&engine, calm());
    source.up().await;
    for round in 0..10 {
        engine.world(|world| {
            for (n, id) in ids.iter().enumerate() {
                match (n + round) % 5 {
                    0 => world.pause(id),
                    1 => world.unpause(id),
                    2 => world.restart(id),
                    3 => world.stop(id),
                    _ => world.start(id),
                }
            }
        });
        tokio::task::yield_now().await;
    }
    engine.world(|world| ids.iter().for_each(|id| world.unpause(id)));
    source.reload.notify_one();
    asked(&engine, Ask::List, 2).await;
    let running =
        |id: &String| engine.world(|world| world.inspect(id).unwrap()["State"]["Running"] == true);
    let expected: Vec<bool> = ids.iter().map(running).collect();
    source
        .until("as it is", |heard| {
            (0..20).all(|n| heard.is_ready(&format!("web{n}")) == expected[n])
        })
        .await;
}

#[tokio::test]
async fn lost_events_are_made_up_for() {
    storm(Telling::Nothing).await;
}

#[tokio::test]
async fn doubled_events_do_no_harm() {
    storm(Telling::Twice).await;
}

#[tokio::test]
async fn reordered_events_do_no_harm() {
    storm(Telling::Backwards).await;
}

#[tokio::test]
async fn late_events_do_no_harm() {
    storm(Telling::Late(Duration::from_millis(30))).await;
}

#[tokio::test]
async fn one_container_that_cannot_be_read_holds_up_no_other() {
    for fault in [
        Fault::Body("{\"Id\":7}".into()),
        Fault::Body("[]".into()),
        Fault::Status(500, "{\"message\":\"container is broken\"}".into()),
        Fault::Half,
        Fault::Nothing,
        Fault::Garbage,
    ] {
        let engine = FakeEngine::start().unwrap();
        let bad = engine.world(|world| {
            world.run(web("good"));
            world.run(web("bad"))
        });
        engine.adjust(|how| {
            how.inspections.insert(bad.clone(), fault.clone());
        });
        let source = Running::start(&engine, eager());
        source.up().await;
        let is_bad = |item: &Item| matches!(item, Item::Invalid { subject, .. } if &**subject == "container bad");
        source.look(|heard| {
            assert!(heard.is_ready("good"), "{fault:?}");
            assert_eq!(
                heard.said.values().filter(|item| is_bad(item)).count(),
                1,
                "{fault:?}"
            );
            assert!(heard.stale.is_none());
        });
        engine.adjust(|how| how.inspections.clear());
        source.until("mended", |heard| heard.is_ready("bad")).await;
        source.look(|heard| assert!(!heard.said.values().any(is_bad)));
    }
}

#[tokio::test]
async fn one_container_that_hangs_holds_up_no_other() {
    let engine = FakeEngine::start().unwrap();
    let bad = engine.world(|world| {
        world.run(web("good"));
        world.run(web("bad"))
    });
    engine.adjust(|how| {
        how.inspections.insert(bad, Fault::Hang);
    });
    let brief = Duration::from_millis(50);
    let (stall, patience) = (brief, brief);
    for timing in [Timing { stall, ..calm() }, Timing { patience, ..calm() }] {
        let source = Running::start(&engine, timing);
        source.until("ready", |heard| heard.is_ready("good")).await;
        assert_eq!(source.look(|heard| heard.status("bad")), None);
    }
}

#[tokio::test]
async fn many_containers_that_hang_hold_up_no_other() {
    let engine = FakeEngine::start().unwrap();
    // More than are inspected at once.
    let bad: Vec<String> = engine.world(|world| {
        (0..40)
            .map(|n| world.run(web(&format!("bad{n}"))))
            .collect()
    });
    engine.adjust(|how| {
        let hang = bad.into_iter().map(|id| (id, Fault::Hang));
        how.inspections.extend(hang);
    });
    let timing = Timing {
        stall: Duration::from_millis(50),
        ..calm()
    };
    let source = Running::start(&engine, timing);
    source.up().await;
    engine.world(|world| world.run(web("good")));
    source.until("ready", |heard| heard.is_ready("good")).await;
    // None of those was given up for it.
    let is_bad = |update: &Update| matches!(update, Update::Upsert(entry) if matches!(entry.item, Item::Invalid { .. }));
    let is_good = |update: &Update| matches!(update, Update::Upsert(entry) if matches!(entry.item, Item::Service(_)));
    source.look(|heard| {
        let good = heard.log.iter().position(is_good);
        let bad = heard.log.iter().position(is_bad);
        assert!(
            good.is_some() && bad.is_none_or(|bad| good < Some(bad)),
            "{heard:?}"
        );
    });
    // What was not answered is asked for again.
    engine.adjust(|how| how.inspections.clear());
    source
        .until("mended", |heard| {
            (0..40).all(|n| heard.is_ready(&format!("bad{n}")))
        })
        .await;
}

#[tokio::test]
async fn our_own_container_is_found_and_followed() {
    let engine = FakeEngine::start().unwrap();
    let ours = engine.world(|world| {
        world.run(web("web").network("back"));
        world.run(FakeContainer::new("lb").network("front"))
    });
    let traces = Traces {
        hostname: ours[..12].into(),
        ..Traces::default()
    };
    let source = Running::start_at(host(&engine), calm(), traces);
    source.up().await;
    source.look(|heard| assert_eq!(heard.status("web"), None));
    engine.world(|world| world.connect(&ours, "back"));
    source.until("reached", |heard| heard.is_ready("web")).await;
    engine.world(|world| world.disconnect(&ours, "back"));
    source
        .until("not reached", |heard| heard.status("web").is_none())
        .await;

    // A name that is no container's here: we are on the host.
    let traces = Traces {
        hostname: "0123456789ab".into(),
        ..Traces::default()
    };
    let source = Running::start_at(host(&engine), calm(), traces);
    source.up().await;
    source.look(|heard| assert!(heard.is_ready("web")));
}

#[tokio::test]
async fn an_engine_on_this_machine_is_not_remote() {
    let engine = FakeEngine::start().unwrap();
    engine.world(|world| world.run(web("web")));
    let address = engine.listen_tcp().await.unwrap();
    let host = EngineHost::parse(&format!("tcp://localhost:{}", address.port())).unwrap();
    let source = Running::start_at(host, calm(), Traces::default());
    source.up().await;
    source.look(|heard| assert!(heard.is_ready("web"), "{heard:?}"));
}

#[tokio::test]
async fn it_ends_when_nobody_listens() {
    let engine = FakeEngine::start().unwrap();
    let source = plimsoll_discover::docker::source::DockerSource::new(
        host(&engine),
        "*:80/http".parse().unwrap(),
    );
    let (sender, updates) = tokio::sync::mpsc::channel(1);
    drop(updates);
    let run = source.run(sender, std::sync::Arc::default());
    tokio::time::timeout(crate::running::BOUND, run)
        .await
        .unwrap();
}
