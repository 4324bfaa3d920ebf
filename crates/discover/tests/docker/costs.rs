//! What is asked of the engine, and how often.

use plimsoll_testkit::{Ask, FakeContainer, FakeEngine};

use crate::running::{Running, asked, calm};

fn web(number: usize) -> FakeContainer {
    let name = format!("web{number}");
    FakeContainer::web(&name, &format!("{name}.example"))
}

#[tokio::test]
async fn a_thousand_containers_cost_one_list_and_one_inspection_each() {
    let engine = FakeEngine::start().unwrap();
    let ids: Vec<String> = engine.world(|world| (0..1000).map(|n| world.run(web(n))).collect());
    let source = Running::start(&engine, calm());
    source.up().await;
    source.look(|heard| {
        assert_eq!(heard.resets(), 1);
        assert_eq!(heard.log.len(), 1);
        assert!((0..1000).all(|n| heard.is_ready(&format!("web{n}"))));
    });
    let counts = engine.counts();
    assert_eq!((counts[&Ask::List], counts[&Ask::Inspect]), (1, 1000));
    assert_eq!((counts[&Ask::Events], counts[&Ask::Networks]), (1, 1));
    assert!(!counts.contains_key(&Ask::Other), "{counts:?}");

    // One for events, and one for each of those that are inspected at the same time.
    assert!(
        engine.connections() <= 1 + 16 + 2,
        "{}",
        engine.connections()
    );

    // One change, one inspection.
    engine.world(|world| world.pause(&ids[7]));
    let paused = Some("draining: paused".to_owned());
    source
        .until("paused", |heard| heard.status("web7") == paused)
        .await;
    assert_eq!(engine.count(Ask::Inspect), 1001);

    // A stop is several events, and one inspection.
    engine.world(|world| world.stop(&ids[8]));
    source
        .until("stopped", |heard| heard.status("web8").is_none())
        .await;
    // A start, too.
    engine.world(|world| world.start(&ids[8]));
    source
        .until("started", |heard| heard.is_ready("web8"))
        .await;
    assert_eq!(engine.count(Ask::Inspect), 1003);

    // A list that shows nothing new costs nothing more.
    source.reload.notify_one();
    asked(&engine, Ask::List, 2).await;
    engine.world(|world| world.unpause(&ids[7]));
    source
        .until("unpaused", |heard| heard.is_ready("web7"))
        .await;
    assert_eq!(engine.count(Ask::Inspect), 1004);
    assert_eq!(engine.count(Ask::List), 2);
    assert_eq!(engine.count(Ask::Events), 1);
    assert_eq!(source.look(|heard| heard.resets()), 1);
}

#[tokio::test]
async fn only_what_may_be_asked_is_asked() {
    let engine = FakeEngine::start().unwrap();
    engine.world(|world| world.run(web(1)));
    let source = Running::start(&engine, calm());
    source.up().await;
    for (ask, line) in engine.seen() {
        let (method, rest) = line.split_once(' ').unwrap();
        assert!(
            method == "GET" || (method == "HEAD" && ask == Ask::Ping),
            "{line}"
        );
        let versioned = rest.starts_with("/v1.41/");
        assert_eq!(
            versioned,
            !matches!(ask, Ask::Ping | Ask::Version),
            "{line}"
        );
        assert_ne!(ask, Ask::Other, "{line}");
    }
}

#[tokio::test]
async fn the_newest_version_that_both_speak_is_taken() {
    for (api, min, expected) in [
        ("1.40", "1.12", "1.40"),
        ("1.47", "1.24", "1.47"),
        ("1.99", "1.55", "1.55"),
    ] {
        let engine = FakeEngine::start().unwrap();
        engine.adjust(|how| (how.api, how.min_api) = (api.into(), min.into()));
        let source = Running::start(&engine, calm());
        source.up().await;
        let (_, line) = engine.seen().pop().unwrap();
        assert!(line.starts_with(&format!("GET /v{expected}/")), "{line}");
    }
}

#[tokio::test]
async fn an_engine_that_does_not_say_its_version_in_a_ping_is_asked_for_it() {
    let engine = FakeEngine::start().unwrap();
    engine.adjust(|how| (how.says_version, how.knows_head) = (false, false));
    let source = Running::start(&engine, calm());
    source.up().await;
    assert!(
        engine
            .seen()
            .iter()
            .any(|(_, line)| line.starts_with("GET /v1.41/containers/json"))
    );
}
