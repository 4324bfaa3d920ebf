//! Backends that are killed under load, in every phase of a request: what fails is what must, and
//! nothing else.

use std::collections::BTreeSet;

use plimsoll_testkit::{
    Answer, Client, ClientPlan, Ending, HttpBehaviour, ID_HEADER, Phase, Report,
};

use crate::lab::SOON;
use crate::stage::Stage;

/// The failures of a report are all of this kind.
#[track_caller]
fn assert_failures(report: &Report, words: &str) {
    for failure in &report.failures {
        assert!(failure.reason.contains(words), "{failure:?}: not {words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_cut_in_every_phase() {
    let Some(stage) = Stage::new("a_backend_cut_in_every_phase").await else {
        return;
    };
    let phases = [Phase::Accept, Phase::Request, Phase::Head, Phase::Body];
    let endings = [Ending::Close, Ending::Reset];
    for (phase, ending) in phases.iter().flat_map(|p| endings.map(|e| (*p, e))) {
        let what = format!("{phase:?}, {ending:?}");
        let before = stage.failures().await;
        let clients = stage.plans().map(Client::start);
        assert!(clients[0].more(50, SOON).await && clients[1].more(20, SOON).await);
        let cut = HttpBehaviour::answering(Answer::Cut(phase, ending));
        stage.victim.behave(cut);
        stage.until("down").await;
        let status = stage.status().await;
        assert_ne!(status["reason"], "", "{what}: {status}");
        assert!(status["since"].as_f64().unwrap() < 2.0, "{what}: {status}");
        assert!(clients[0].more(50, SOON).await && clients[1].more(20, SOON).await);
        let [gets, kept, fresh] = clients;
        let (gets, posts) = (gets.stop().await, kept.stop().await);
        let posts = posts.merge(fresh.stop().await);
        let lost = gets.failures.len() + posts.failures.len();
        let failed = stage.failures().await - before;
        eprintln!(
            "{what}: {failed} failed, {lost} of them lost; {}",
            status["reason"]
        );
        match phase {
            // Nothing of an answer was seen: what may be sent twice was sent elsewhere.
            Phase::Accept | Phase::Request => {
                gets.assert_clean();
                assert!(lost <= failed, "{what}: {posts}");
                assert_failures(&posts, "status 502");
            }
            Phase::Head => {
                assert_eq!(lost, failed, "{what}: {gets}\n{posts}");
                assert_failures(&gets, "status 502");
                assert_failures(&posts, "status 502");
            }
            // The head was passed on by then: that it is not whole is all the client can be told.
            Phase::Body => {
                assert_eq!(lost, failed, "{what}: {gets}\n{posts}");
                let told = posts.failures.iter().chain(&gets.failures);
                let mut told = told.filter(|f| !f.reason.contains("status"));
                assert_eq!(told.by_ref().count(), lost, "{what}: {gets}\n{posts}");
            }
        }
        if phase != Phase::Accept {
            // Whatever was lost had been given to the victim, and to nobody else.
            let seen = stage.victim.seen();
            let seen: BTreeSet<&str> = seen.iter().filter_map(|s| s.head.get(ID_HEADER)).collect();
            for failure in gets.failures.iter().chain(&posts.failures) {
                assert!(seen.contains(failure.id.as_str()), "{what}: {failure:?}");
            }
        }
        assert!(lost < 20, "{what}: {lost} before it was put out");
        stage.victim.behave(HttpBehaviour::default());
        stage.pardon();
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn few_requests_are_enough_to_put_a_backend_out() {
    let Some(stage) = Stage::new("few_requests_are_enough_to_put_a_backend_out").await else {
        return;
    };
    // One request after the other, so that no two fail at once.
    let plan = ClientPlan {
        tasks: 1,
        ..stage.lab.requests("web.example")
    };
    for phase in [Phase::Request, Phase::Head, Phase::Body] {
        let cut = HttpBehaviour::answering(Answer::Cut(phase, Ending::Reset));
        stage.victim.behave(cut);
        let before = stage.victim.stats().requests;
        let report = Client::run(plan.clone(), 20).await;
        let taken = stage.victim.stats().requests - before;
        assert_eq!(taken, 3, "{phase:?}: {report}");
        let lost = if phase == Phase::Request { 0 } else { 3 };
        assert_eq!(report.failures.len(), lost, "{phase:?}: {report}");
        assert_eq!(stage.status().await["state"], "down");
        stage.victim.behave(HttpBehaviour::default());
        stage.pardon();
        Client::run(plan.clone(), 20).await.assert_clean();
    }
    stage.close().await;
}
