//! Whatever is lost, doubled, late or out of order: after one more list all is right.

use std::time::Duration;

use plimsoll_discover::docker::read::{Inspected, Listed};
use plimsoll_discover::docker::wire::Event;
use plimsoll_testkit::FakeContainer;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::sim::{Said, Sim, apply};

#[derive(Clone, Debug)]
enum Step {
    /// Something happens to a container.
    Do(Deed, usize),
    /// An event of those under way is told.
    Tell(usize),
    /// One is told, and stays under way.
    TellTwice(usize),
    /// One is lost.
    Lose(usize),
    /// What is due is asked for: the engine answers, the answer is under way.
    Ask,
    /// An answer that is under way arrives.
    Answer(usize),
    /// An inspection under way fails.
    Fail(usize),
    /// A list is made.
    List,
    /// A list that was made arrives.
    Listed,
    /// Seconds pass.
    Pass(u64),
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Run,
    Start,
    Stop,
    Term,
    Hup,
    Die,
    Pause,
    Unpause,
    Healthy,
    Unhealthy,
    Rename,
    Connect,
    Disconnect,
    Restart,
    Remove,
}

fn deed() -> impl Strategy<Value = Deed> {
    use Deed::*;
    prop_oneof![
        3 => Just(Run),
        1 => Just(Start),
        1 => Just(Stop),
        1 => Just(Term),
        1 => Just(Hup),
        1 => Just(Die),
        2 => Just(Pause),
        2 => Just(Unpause),
        1 => Just(Healthy),
        1 => Just(Unhealthy),
        1 => Just(Rename),
        1 => Just(Connect),
        1 => Just(Disconnect),
        1 => Just(Restart),
        2 => Just(Remove),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<usize>;
    prop_oneof![
        6 => (deed(), any()).prop_map(|(deed, at)| Step::Do(deed, at)),
        8 => any().prop_map(Step::Tell),
        1 => any().prop_map(Step::TellTwice),
        3 => any().prop_map(Step::Lose),
        6 => Just(Step::Ask),
        6 => any().prop_map(Step::Answer),
        1 => any().prop_map(Step::Fail),
        1 => Just(Step::List),
        1 => Just(Step::Listed),
        1 => (0_u64..20).prop_map(Step::Pass),
    ]
}

/// A world of which everything comes late, if at all.
struct Chaos {
    sim: Sim,
    made: usize,
    events: Vec<Event>,
    answers: Vec<(String, Inspected)>,
    list: Option<Vec<Listed>>,
}

impl Chaos {
    fn new() -> Self {
        let mut sim = Sim::new();
        sim.begin();
        Self {
            sim,
            made: 0,
            events: Vec::new(),
            answers: Vec::new(),
            list: None,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Do(deed, at) => self.act(*deed, *at),
            Step::Tell(at) => {
                if let Some(event) = take(&mut self.events, *at) {
                    self.sim.watch.event(&event, self.sim.now);
                }
            }
            Step::TellTwice(at) => {
                let count = self.events.len().max(1);
                if let Some(event) = self.events.get(at % count) {
                    self.sim.watch.event(event, self.sim.now);
                }
            }
            Step::Lose(at) => drop(take(&mut self.events, *at)),
            Step::Ask => {
                if self.sim.watch.take_networks_due() {
                    let networks = serde_json::from_value(self.sim.world.networks()).unwrap();
                    self.sim.watch.networks(networks, self.sim.now);
                }
                for id in self.sim.watch.take_wanted(2) {
                    let answer = self.sim.inspection(&id);
                    self.answers.push((id, answer));
                }
            }
            Step::Answer(at) => {
                if let Some((id, answer)) = take(&mut self.answers, *at) {
                    self.sim.watch.inspected(&id, Ok(answer), self.sim.now);
                }
            }
            Step::Fail(at) => {
                if let Some((id, _)) = take(&mut self.answers, *at) {
                    self.sim
                        .watch
                        .inspected(&id, Err("lost".into()), self.sim.now);
                }
            }
            Step::List if self.list.is_none() => {
                self.sim.watch.list_begins();
                self.list = Some(self.sim.listed());
            }
            Step::List => {}
            Step::Listed => {
                if let Some(list) = self.list.take() {
                    self.sim.watch.list(list, self.sim.now);
                }
            }
            Step::Pass(seconds) => {
                self.sim.now += Duration::from_secs(*seconds);
                self.sim.watch.tick(self.sim.now);
            }
        }
        let events = self.sim.events();
        self.events.extend(events);
        self.sim.hear();
    }

    fn act(&mut self, deed: Deed, at: usize) {
        let world = &mut self.sim.world;
        let ids = world.ids();
        if matches!(deed, Deed::Run) && ids.len() < 5 {
            self.made += 1;
            let container = match self.made % 4 {
                0 => FakeContainer::new(&format!("db{}", self.made)),
                1 => FakeContainer::web(&format!("web{}", self.made), "a.example")
                    .label("plimsoll.service", "a"),
                2 => FakeContainer::web(&format!("web{}", self.made), "b.example").with_health(),
                _ => {
                    let owner = ids.get(at % ids.len().max(1)).cloned().unwrap_or_default();
                    FakeContainer::web(&format!("side{}", self.made), "c.example")
                        .mode(&format!("container:{owner}"))
                }
            };
            world.run(container);
            return;
        }
        let Some(id) = ids.get(at % ids.len().max(1)) else {
            return;
        };
        match deed {
            Deed::Run | Deed::Start => world.start(id),
            Deed::Stop => world.stop(id),
            Deed::Term => world.signal(id, 15),
            Deed::Hup => world.signal(id, 1),
            Deed::Die => world.die(id),
            Deed::Pause => world.pause(id),
            Deed::Unpause => world.unpause(id),
            Deed::Healthy => world.health(id, "healthy", ""),
            Deed::Unhealthy => world.health(id, "unhealthy", "no"),
            Deed::Rename => world.rename(id, &format!("name{at}")),
            Deed::Connect => world.connect(id, "front"),
            Deed::Disconnect => world.disconnect(id, "front"),
            Deed::Restart => world.restart(id),
            Deed::Remove => world.remove(id),
        }
    }

    /// What is still under way arrives, and one more list.
    fn end(&mut self, tell: bool) {
        if let Some(list) = self.list.take() {
            self.sim.watch.list(list, self.sim.now);
        }
        for event in std::mem::take(&mut self.events) {
            if tell {
                self.sim.watch.event(&event, self.sim.now);
            }
        }
        self.sim.list();
        for (id, answer) in std::mem::take(&mut self.answers) {
            self.sim.watch.inspected(&id, Ok(answer), self.sim.now);
        }
        self.sim.settle();
        // Drains end, what was removed is let go of.
        self.sim.pass(Duration::from_secs(200));
        self.sim.pass(Duration::from_secs(200));
    }

    /// What somebody says who only now looks at the world.
    fn fresh(&self) -> Said {
        let mut other = Sim::new();
        other.world = self.sim.world.clone();
        other.begin();
        other.said
    }
}

fn take<T>(from: &mut Vec<T>, at: usize) -> Option<T> {
    let place = at.checked_rem(from.len())?;
    Some(from.remove(place))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_list_puts_all_right(steps in vec(step(), 1..120), tell in any::<bool>()) {
        let mut chaos = Chaos::new();
        for step in &steps {
            chaos.step(step);
        }
        chaos.end(tell);
        prop_assert_eq!(&chaos.sim.said, &chaos.fresh());
        // What was said bit by bit is what there is.
        let mut whole = Said::new();
        let reset = chaos.sim.watch.reset();
        apply(&mut whole, reset);
        prop_assert_eq!(&chaos.sim.said, &whole);
        prop_assert!(!chaos.sim.watch.is_wanting());
    }

    #[test]
    fn events_that_all_come_need_no_list(deeds in vec((deed(), any::<usize>()), 1..60)) {
        let mut chaos = Chaos::new();
        for (deed, at) in deeds {
            chaos.act(deed, at);
            chaos.sim.tell();
        }
        chaos.sim.pass(Duration::from_secs(200));
        prop_assert_eq!(&chaos.sim.said, &chaos.fresh());
        let before = chaos.sim.inspections;
        chaos.sim.list();
        chaos.sim.settle();
        prop_assert_eq!(chaos.sim.inspections, before);
        prop_assert!(!chaos.sim.watch.is_deaf(chaos.sim.now + Duration::from_secs(9)));
    }
}
