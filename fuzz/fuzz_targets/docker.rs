//! Whatever an engine says: what is made of it is valid, and what was said bit by bit is what there
//! is. The input are the engine's answers, with a zero byte between them; the first byte of each
//! says what it is an answer to.
//!
//! On stable: `cargo fuzz run -s none docker -- -max_total_time=60`.
#![no_main]

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use plimsoll_discover::docker::events::{Line, Lines};
use plimsoll_discover::docker::read::{Inspected, Listed, read_inspect, read_list};
use plimsoll_discover::docker::view::{Settings, Whereabouts};
use plimsoll_discover::docker::watch::Watch;
use plimsoll_discover::{Item, Update};

/// What was said, by its key.
type Said = BTreeMap<String, Item>;

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let mut said = Said::new();
    let mut watch = Watch::new(Settings {
        source: "docker:fuzz".into(),
        http: "*:80/http".parse().expect("a listen"),
    });
    watch.begin(None, Whereabouts::Host, None, now);
    for answer in data.split(|byte| *byte == 0) {
        let Some((kind, answer)) = answer.split_first() else {
            continue;
        };
        match kind {
            b'l' => {
                if let Ok(mut items) = read_list(answer) {
                    items.iter_mut().for_each(|item| match item {
                        Listed::Container(summary) => summary.id = id(&summary.id),
                        Listed::Unreadable(text) => *text = id(text),
                    });
                    watch.list_begins();
                    watch.list(items, now);
                }
            }
            b'e' => {
                let mut lines = Lines::default();
                lines.push(answer);
                lines.push(b"\n");
                while let Some(line) = lines.next_line() {
                    if let Line::Event(mut event) = line {
                        event.actor.id = id(&event.actor.id);
                        if let Some(text) = event.actor.attributes.get_mut("container") {
                            *text = id(text);
                        }
                        watch.event(&event, now);
                    }
                }
            }
            b'i' => {
                for id in watch.take_wanted(4) {
                    let found = match read_inspect(answer) {
                        Inspected::Container(mut found) => {
                            found.id.clone_from(&id);
                            Inspected::Container(found)
                        }
                        other => other,
                    };
                    watch.inspected(&id, Ok(found), now);
                }
            }
            b'o' => {
                if let Inspected::Container(mut own) = read_inspect(answer) {
                    own.id = id(&own.id);
                    watch.begin(None, Whereabouts::Host, Some(*own), now);
                }
            }
            b'n' => {
                if let Ok(networks) = serde_json::from_slice(answer) {
                    watch.networks(networks, now);
                }
            }
            b't' => {
                now += Duration::from_secs(answer.len() as u64);
                watch.tick(now);
            }
            _ => {}
        }
        for update in watch.take_updates() {
            apply(&mut said, update);
        }
    }
    let mut whole = Said::new();
    apply(&mut whole, watch.reset());
    assert_eq!(said, whole);
    whole.values().for_each(valid);
});

/// A text as an id of 64 digits: ids are as good as random, so no two begin in the same way.
fn id(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish()).repeat(4)
}

fn valid(item: &Item) {
    match item {
        Item::Service(service) => service.validate().expect("a valid service"),
        Item::Route(route) => route.validate().expect("a valid route"),
        Item::Invalid {
            subject, reason, ..
        } => {
            assert!(!subject.is_empty() && !reason.is_empty());
            assert!(!reason.contains(['\n', '\r', '\u{1b}']), "{reason:?}");
        }
    }
}

fn apply(said: &mut Said, update: Update) {
    match update {
        Update::Reset(entries) => {
            for entry in entries {
                let key = entry.key.to_string();
                assert!(
                    said.insert(key, entry.item).is_none(),
                    "{} twice",
                    entry.key
                );
            }
        }
        Update::Upsert(entry) => {
            said.insert(entry.key.to_string(), entry.item);
        }
        Update::Remove(key) => {
            assert!(said.remove(key.as_str()).is_some(), "{key} was never there");
        }
        Update::Stale { .. } | Update::Fresh => {}
    }
}
