//! What is wrong with one container is said, and touches no other.

use plimsoll_testkit::{Client, list};
use serde_json::Value;

use crate::dock::{Dock, SOON, WEB};
use crate::lb::{Lb, names};

/// What is put aside of a container, by the command that users have for it: subject and reason have
/// all of these words.
#[track_caller]
fn assert_aside(lb: &Lb, container: &str, words: &[&str]) {
    let status = lb.status();
    let entry = format!("container {container}");
    let mut items = list(&status["quarantine"]).iter();
    let found = items.find(|item| item["origin"]["entry"] == *entry);
    let found = found.unwrap_or_else(|| panic!("{entry}: {}", status["quarantine"]));
    let said = format!("{}: {}", found["subject"], found["reason"]);
    for word in words {
        assert!(said.contains(word), "{entry}: {said:?} without {word:?}");
    }
}

fn has_aside(status: &Value, container: &str) -> bool {
    let entry = format!("container {container}");
    let mut items = list(&status["quarantine"]).iter();
    items.any(|item| item["origin"]["entry"] == *entry)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broken_are_put_aside_and_the_good_serve() {
    let Some(dock) = Dock::new("the_broken_are_put_aside_and_the_good_serve") else {
        return;
    };
    let lb = dock.run().await;
    dock.start("good", "--label plimsoll.host=good.example", "");
    dock.until_answer("good.example", 200, &[0, 404, 502, 503])
        .await;
    let load = Client::start(dock.load("good.example"));
    let broken: [(&str, &str, &[&str]); 6] = [
        (
            "typo",
            "--label plimsoll.hots=typo.example",
            &["plimsoll.hots", "host"],
        ),
        (
            "value",
            "--label plimsoll.host=value.example --label plimsoll.weight=heavy",
            &["plimsoll.weight", "heavy"],
        ),
        (
            "word",
            "--label plimsoll.host=word.example --label plimsoll.scheduler=rrr",
            &["plimsoll.scheduler", "rrr", "rr"],
        ),
        (
            "ports",
            "--label plimsoll.host=ports.example --expose 9000",
            &["8080", "9000", "plimsoll.port"],
        ),
        (
            "regex",
            "--env VIRTUAL_HOST=~^www\\..*$",
            &["VIRTUAL_HOST", "regular expressions"],
        ),
        (
            "lonely",
            "--label plimsoll.host=lonely.example --network none",
            &["network_mode", "none"],
        ),
    ];
    for (name, run, words) in broken {
        dock.start(name, run, "");
        lb.until("it is put aside", async || {
            has_aside(&lb.look().await, name)
        })
        .await;
        assert_aside(&lb, name, words);
        let host = format!("{name}.example");
        let answer = dock.answer(WEB, &host).await;
        assert!(matches!(answer, 404 | 503), "{host}: {answer}");
    }
    // One service of a container is broken, another one is not.
    let half = "--label plimsoll.host=half.example --label plimsoll.admin.host=adm..example";
    dock.start("half", half, "");
    dock.until_answer("half.example", 200, &[404, 502, 503])
        .await;
    assert_aside(&lb, "half", &["plimsoll.admin.host", "adm..example"]);

    // Mended, nothing is left of it.
    for (name, ..) in broken {
        dock.docker(&format!("rm -f {name}"));
    }
    dock.start("typo", "--label plimsoll.host=typo.example", "");
    dock.until_answer("typo.example", 200, &[404, 502, 503])
        .await;
    lb.until("what is gone is put aside no more", async || {
        let status = lb.look().await;
        broken.iter().all(|(name, ..)| !has_aside(&status, name))
    })
    .await;
    assert!(load.more(50, SOON).await);
    load.stop().await.assert_clean();
    dock.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_claim_one_host_and_the_first_has_it() {
    let Some(dock) = Dock::new("two_claim_one_host_and_the_first_has_it") else {
        return;
    };
    let lb = dock.run().await;
    let label = "--label plimsoll.host=web.example --label plimsoll.service";
    dock.start("first", &format!("{label}=first"), "");
    dock.until_answer("web.example", 200, &[0, 404, 502, 503])
        .await;
    let load = Client::start(dock.load("web.example"));
    // Another service of the same host, and another wish for the same service.
    dock.start("second", &format!("{label}=second"), "");
    let wish = format!("{label}=first --label plimsoll.scheduler=sh");
    dock.start("third", &wish, "");
    for (name, words) in [
        ("second", ["web.example", "first"]),
        ("third", ["scheduler", "first"]),
    ] {
        lb.until("it is put aside", async || {
            has_aside(&lb.look().await, name)
        })
        .await;
        assert_aside(&lb, name, &words);
    }
    assert_eq!(names(&lb.service("first").await), ["first"]);
    // Without its host it does not take all of them.
    assert_eq!(dock.answer(WEB, "unknown.example").await, 404);
    assert!(load.more(50, SOON).await);
    let report = load.stop().await;
    report.assert_clean();
    assert_eq!(report.of("first"), report.answered);

    // When it is gone, the next one has it.
    dock.docker("rm -f first");
    dock.until_answer("web.example", 200, &[502, 503]).await;
    let report = Client::run(dock.load("web.example"), 20).await;
    report.assert_clean();
    assert_eq!(report.of("first"), 0, "{report}");
    dock.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn virtual_hosts_are_shared_and_ports_are_found() {
    let Some(dock) = Dock::new("virtual_hosts_are_shared_and_ports_are_found") else {
        return;
    };
    let lb = dock.run().await;
    dock.start("one", "--env VIRTUAL_HOST=web.example,www.web.example", "");
    let other = "--env VIRTUAL_HOST=web.example --env VIRTUAL_PORT=9000";
    dock.start("two", other, "--http 9000");
    for name in ["one", "two"] {
        lb.until_state("web.example", name, "ready").await;
    }
    let report = Client::run(dock.load("web.example"), 40).await;
    report.assert_clean();
    assert!(report.of("one") > 0 && report.of("two") > 0, "{report}");
    assert_eq!(dock.answer(WEB, "www.web.example").await, 200);
    // An address of the host itself, and two services of one container, one of them TCP.
    let more = "--label plimsoll.host=three.example --label plimsoll.port=8081 \
                --label plimsoll.db.protocol=tcp --label plimsoll.db.port=5000 \
                --label plimsoll.db.listen=127.0.0.1:5001";
    let network = "--network host";
    dock.start(
        "three",
        &format!("{more} {network}"),
        "--http 8081 --tcp 5000",
    );
    dock.until_answer("three.example", 200, &[404, 502, 503])
        .await;
    let seen = lb.backend("three/db", "three").await;
    assert_eq!(seen["addr"], "127.0.0.1:5000");
    let mut plan = plimsoll_testkit::ClientPlan::tcp(([127, 0, 0, 1], 5001).into());
    plan.place = dock.0.place();
    Client::run(plan, 20).await.assert_clean();
    dock.close(lb);
}
