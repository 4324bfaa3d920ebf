#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;

const MAC: Mac = [2, 0, 0, 0, 0, 7];

fn vip(address: &str) -> Vip {
    Vip {
        address: address.parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    }
}

fn all(all: &[&str]) -> BTreeSet<Vip> {
    all.iter().map(|address| vip(address)).collect()
}

fn wanted(add: &[&str]) -> Wanted {
    Wanted {
        add: all(add),
        ..Wanted::default()
    }
}

/// A namespace that does what it is told.
struct World {
    now: Instant,
    machine: Machine,
    found: Found,
    others: BTreeSet<Spot>,
    /// Whether its kernel keeps marks.
    marks: bool,
}

impl World {
    fn new() -> Self {
        Self::with(true)
    }

    fn with(marks: bool) -> Self {
        let link = Link {
            index: 7,
            name: "eth0".to_owned(),
            mac: Some(MAC),
            mtu: 1500,
            up: true,
            carrier: true,
            kind: String::new(),
            master: None,
            lower: None,
        };
        Self {
            now: Instant::now(),
            machine: Machine::new(marks),
            found: Found {
                links: vec![link],
                addresses: Vec::new(),
            },
            others: BTreeSet::new(),
            marks,
        }
    }

    fn put(&mut self, text: &str, mark: u8) {
        let VipAddress { ip, prefix } = text.parse().unwrap();
        let interface = 7;
        self.found.addresses.push(Marked {
            address: Address {
                interface,
                ip,
                prefix,
            },
            mark,
        });
    }

    fn has(&self) -> Vec<String> {
        let each = self.found.addresses.iter();
        each.map(|a| format!("{}/{}", a.address.ip, a.address.prefix))
            .collect()
    }

    fn delete(&mut self, address: &Address) {
        self.found.addresses.retain(|a| a.address != *address);
    }

    /// A look, and all that follows from it: what there is to say.
    fn step(&mut self, all: &[&str]) -> Vec<String> {
        self.step_after(all, &[])
    }

    fn step_after(&mut self, all: &[&str], shaken: &[u32]) -> Vec<String> {
        self.look(&wanted(all), shaken)
    }

    /// The same for services that are put aside.
    fn step_aside(&mut self, keep: &[&str]) -> Vec<String> {
        let wanted = Wanted {
            keep: all(keep),
            ..Wanted::default()
        };
        self.look(&wanted, &[])
    }

    fn look(&mut self, wanted: &Wanted, shaken: &[u32]) -> Vec<String> {
        let shaken = |index| shaken.contains(&index);
        let (steps, mut notes) = (self.machine).reach(self.now, wanted, &self.found, shaken);
        for step in steps {
            match step {
                Step::Add(vip, address) => {
                    let mark = if self.marks { MARK } else { 0 };
                    self.found.addresses.push(Marked { address, mark });
                    notes.extend(self.machine.added(self.now, &vip));
                }
                Step::Delete(_, address) => self.delete(&address),
            }
        }
        let others = self.others.clone();
        let (steps, more) = self.machine.leave(wanted, &self.found, || others);
        notes.extend(more);
        for step in steps {
            let Step::Delete(vip, address) = step else {
                panic!("{step:?}")
            };
            self.delete(&address);
            let event = VipEvent::Removed;
            notes.push(VipNote { vip, event });
        }
        let said = notes.iter();
        said.map(|note| format!("{} {}", note.vip.address.ip, note.event))
            .collect()
    }

    /// Announcements until nothing more is due: when each was, in milliseconds.
    fn announcements(&mut self) -> Vec<u128> {
        let start = self.now;
        let mut times = Vec::new();
        while let Some(at) = self.machine.next_deadline() {
            self.now = self.now.max(at);
            for due in self.machine.due(self.now) {
                assert_eq!((due.interface, due.mac), (7, MAC));
                assert_eq!(self.machine.announced(&due.vip, Ok(())), None);
                times.push((self.now - start).as_millis());
            }
        }
        times
    }

    fn state(&self) -> (VipState, String, u64, u64) {
        let views = self.machine.views();
        let [view] = views.as_slice() else {
            panic!("{views:?}")
        };
        let reason = view.reason.clone();
        (view.state, reason, view.announced, view.restored)
    }
}

const ONE: &[&str] = &["203.0.113.9"];

#[test]
fn added_announced_and_removed() {
    for (address, shown) in [
        ("203.0.113.9", "203.0.113.9/32"),
        ("2001:db8::9/64", "2001:db8::9/64"),
    ] {
        let mut world = World::new();
        let ip = address.split('/').next().unwrap();
        assert_eq!(world.step(&[address]), [format!("{ip} added")]);
        assert_eq!(world.has(), [shown]);
        assert_eq!(world.announcements(), [0, 200, 1200, 3200, 8200]);
        assert_eq!(world.step(&[address]), [""; 0]);
        assert_eq!(world.announcements(), [0; 0]);
        assert_eq!(world.state(), (VipState::Added, String::new(), 5, 0));
        assert_eq!(world.step(&[]), [format!("{ip} removed")]);
        assert_eq!(world.has(), [""; 0]);
        assert!(world.machine.is_empty());
    }
}

#[test]
fn what_was_there_is_left_alone() {
    for there in ["203.0.113.9/32", "203.0.113.9/24"] {
        let mut world = World::new();
        world.put(there, 0);
        let said = world.step(ONE);
        assert!(said[0].contains("was there before"), "{said:?}");
        assert_eq!(world.step(ONE), [""; 0]);
        assert_eq!(world.state().0, VipState::WasThere);
        assert_eq!(world.announcements(), [0; 0], "that is its owner's to do");
        assert_eq!(world.step(&[]), [""; 0]);
        assert_eq!(world.has(), [there]);
    }
}

#[test]
fn one_that_was_there_and_goes_is_added() {
    let mut world = World::new();
    world.put("203.0.113.9", 0);
    world.step(ONE);
    world.found.addresses.clear();
    assert_eq!(world.step(ONE), ["203.0.113.9 added"]);
    assert_eq!(world.step(&[]), ["203.0.113.9 removed"]);
}

#[test]
fn an_address_of_a_killed_process_is_ours() {
    let mut world = World::new();
    world.put("203.0.113.9", MARK);
    assert_eq!(
        world.step(ONE),
        ["203.0.113.9 taken over from another process"]
    );
    assert_eq!(world.announcements().len(), 5);
    assert_eq!(world.step(&[]), ["203.0.113.9 removed"]);
    // And if nobody wants it any more, it goes at once.
    let mut world = World::new();
    world.put("203.0.113.9", MARK);
    assert_eq!(world.step(&[]), ["203.0.113.9 removed"]);
    assert_eq!(world.has(), [""; 0]);
}

#[test]
fn what_a_process_leaves_that_is_killed_beside_this_one_stays() {
    let mut world = World::new();
    world.step(ONE);
    world.put("203.0.113.10", MARK);
    assert_eq!(world.step(ONE), [""; 0]);
    assert_eq!(world.step(&[]), ["203.0.113.9 removed"]);
    assert_eq!(world.has(), ["203.0.113.10/32"]);
    // Wanted, it is taken over, also with another length of its network, and goes then.
    assert_eq!(world.step(&["203.0.113.10/24"])[0], "203.0.113.10 added");
    assert_eq!(world.has(), ["203.0.113.10/24"]);
    assert_eq!(world.step(&[]), ["203.0.113.10 removed"]);
    assert_eq!(world.has(), [""; 0]);
}

#[test]
fn that_of_a_service_that_is_put_aside_stays_where_it_is() {
    // Of a killed process whose programs may forward: nobody's, until the service is in force.
    let mut world = World::new();
    world.put("203.0.113.9", MARK);
    assert_eq!(world.step_aside(ONE), [""; 0]);
    assert_eq!(world.state().0, VipState::WasThere);
    assert_eq!(world.announcements(), [0; 0]);
    let mut in_force = World::new();
    in_force.put("203.0.113.9", MARK);
    in_force.step_aside(ONE);
    assert!(in_force.step(ONE)[0].contains("taken over"));
    assert_eq!(in_force.step(&[]), ["203.0.113.9 removed"]);
    assert_eq!(world.step(&[]), [""; 0]);
    assert_eq!(world.has(), ["203.0.113.9/32"]);
    // Of this process: it stays ours.
    let mut world = World::new();
    world.step(ONE);
    assert_eq!(world.step_aside(ONE), [""; 0]);
    assert_eq!(world.state().0, VipState::Added);
    assert_eq!(world.step(&[]), ["203.0.113.9 removed"]);
    // Not there: not added.
    let mut world = World::new();
    assert_eq!(world.step_aside(ONE), [""; 0]);
    assert_eq!(world.has(), [""; 0]);
    let (state, why, ..) = world.state();
    assert_eq!(state, VipState::Missing);
    assert!(why.contains("put aside"), "{why}");
    assert_eq!(world.step(ONE), ["203.0.113.9 added"]);
}

#[test]
fn what_another_process_has_stays() {
    let mut world = World::new();
    world.step(ONE);
    world.others = BTreeSet::from([crate::claims::spot(&vip(ONE[0]))]);
    let said = world.step(&[]);
    assert!(said[0].contains("another process has it"), "{said:?}");
    assert_eq!(world.step(&[]), [""; 0], "said once");
    assert_eq!(world.has(), ["203.0.113.9/32"]);
}

#[test]
fn one_that_is_removed_by_others_comes_back() {
    let mut world = World::new();
    world.step(ONE);
    world.announcements();
    world.found.addresses.clear();
    assert_eq!(world.step(ONE), ["203.0.113.9 was gone: added again"]);
    assert_eq!(world.announcements().len(), 5);
    assert_eq!(world.state(), (VipState::Added, String::new(), 10, 1));
}

#[test]
fn a_link_that_comes_back_has_it_announced_again() {
    let mut world = World::new();
    world.step(ONE);
    world.announcements();
    world.found.links[0].carrier = false;
    assert_eq!(world.step(ONE), [""; 0]);
    assert_eq!(world.machine.next_deadline(), None);
    world.found.links[0].carrier = true;
    let said = world.step(ONE);
    assert!(said[0].contains("announced again"), "{said:?}");
    assert_eq!(world.announcements().len(), 5);
    // Down and up between two looks.
    let said = world.step_after(ONE, &[7]);
    assert!(said[0].contains("announced again"), "{said:?}");
    assert_eq!(world.announcements().len(), 5);
    assert_eq!(world.step_after(ONE, &[8]), [""; 0]);
    // With another address of the link layer.
    world.found.links[0].mac = Some([2, 0, 0, 0, 0, 8]);
    assert_eq!(world.step(ONE).len(), 1);
    world.found.links[0].mac = Some(MAC);
    world.step(ONE);
    assert_eq!(world.announcements().len(), 5);
}

#[test]
fn links_that_are_not_there_are_waited_for() {
    let mut world = World::new();
    let link = world.found.links.pop().unwrap();
    let said = world.step(ONE);
    assert!(said[0].contains("no interface eth0"), "{said:?}");
    assert_eq!(world.step(ONE), [""; 0], "said once");
    let (state, reason, ..) = world.state();
    assert_eq!(state, VipState::Missing);
    assert!(reason.contains("no interface"), "{reason}");
    world.found.links.push(link);
    assert_eq!(world.step(ONE), ["203.0.113.9 added"]);
    assert_eq!(world.state().0, VipState::Added);
    // It goes with its address, and comes again.
    let link = world.found.links.pop().unwrap();
    world.found.addresses.clear();
    assert_eq!(world.step(ONE).len(), 1);
    world.found.links.push(link);
    assert_eq!(world.step(ONE), ["203.0.113.9 added"]);
}

#[test]
fn an_ipv6_address_waits_for_its_link_and_an_ipv4_one_does_not() {
    let mut world = World::new();
    world.found.links[0].up = false;
    assert_eq!(world.step(ONE), ["203.0.113.9 added"]);
    assert_eq!(world.machine.next_deadline(), None, "nobody hears it");
    let mut world = World::new();
    world.found.links[0].up = false;
    let said = world.step(&["2001:db8::9"]);
    assert!(said[0].contains("eth0 is down"), "{said:?}");
    world.found.links[0].up = true;
    assert_eq!(world.step(&["2001:db8::9"]), ["2001:db8::9 added"]);
    assert_eq!(world.announcements().len(), 5);
}

#[test]
fn another_length_of_the_network_takes_the_place_of_the_first() {
    for (first, second) in [
        ("203.0.113.9/32", "203.0.113.9/24"),
        ("2001:db8::9/128", "2001:db8::9/64"),
    ] {
        let mut world = World::new();
        world.step(&[first]);
        world.step(&[second]);
        assert_eq!(world.has(), [second]);
        world.step(&[]);
        assert_eq!(world.has(), [""; 0]);
    }
}

#[test]
fn loopback_has_nobody_to_tell() {
    let mut world = World::new();
    world.found.links[0].mac = Some([0; 6]);
    assert_eq!(world.step(ONE), ["203.0.113.9 added"]);
    assert_eq!(world.machine.next_deadline(), None);
}

#[test]
fn a_kernel_without_marks_is_believed_to_have_what_was_added() {
    let mut world = World::with(false);
    world.step(ONE);
    assert_eq!(world.step(ONE), [""; 0]);
    assert_eq!(world.state().0, VipState::Added);
    assert_eq!(world.step(&[]), ["203.0.113.9 removed"]);
    // But not what another process added.
    world.put("203.0.113.9", 0);
    world.step(ONE);
    assert_eq!(world.state().0, VipState::WasThere);
}

#[test]
fn what_fails_is_said_once() {
    let mut world = World::new();
    let (now, vip) = (world.now, vip(ONE[0]));
    let mut fails = || world.machine.missing(now, &vip, "no privilege".to_owned());
    assert!(fails().is_some());
    assert!(fails().is_none());
    assert_eq!(world.state().1, "no privilege");
    world.step(ONE);
    assert_eq!(world.state().1, "");
    let due = world.machine.due(world.now);
    assert_eq!(due.len(), 1);
    let mut fails = || world.machine.announced(&vip, Err("no socket".to_owned()));
    assert!(fails().is_some());
    assert!(fails().is_none());
    assert_eq!(
        world.state(),
        (VipState::Added, "no socket".to_owned(), 0, 0)
    );
}

mod any {
    use proptest::prelude::*;

    use super::*;

    /// What happens to a host.
    #[derive(Clone, Debug)]
    enum Happening {
        Wanted(Vec<&'static str>),
        Removed(usize),
        Put(&'static str),
        Link(bool),
        Time(u64),
    }

    const SOME: [&str; 4] = [
        "203.0.113.9",
        "203.0.113.10/24",
        "2001:db8::9",
        "2001:db8::10/64",
    ];

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            proptest::sample::subsequence(SOME.to_vec(), 0..=4).prop_map(Happening::Wanted),
            (0..4_usize).prop_map(Happening::Removed),
            proptest::sample::select(SOME.to_vec()).prop_map(Happening::Put),
            any::<bool>().prop_map(Happening::Link),
            (0..10_000_u64).prop_map(Happening::Time),
        ]
    }

    proptest! {
        /// Whatever has happened: after a look what is wanted is there, and at the end what others have put
        /// there is left, and nothing else.
        #[test]
        fn nothing_is_left_and_nothing_of_others_is_taken(
            all in proptest::collection::vec(happening(), 0..40),
        ) {
            let mut world = World::new();
            let mut wanted = Vec::new();
            for one in all {
                match one {
                    Happening::Wanted(now) => wanted = now,
                    Happening::Removed(n) if n < world.found.addresses.len() => {
                        world.found.addresses.remove(n);
                    }
                    Happening::Removed(_) => {}
                    Happening::Put(text) => {
                        let ip = text.parse::<VipAddress>().unwrap().ip;
                        if world.found.addresses.iter().all(|a| a.address.ip != ip) {
                            world.put(text, 0);
                        }
                    }
                    Happening::Link(carrier) => world.found.links[0].carrier = carrier,
                    Happening::Time(ms) => {
                        world.now += Duration::from_millis(ms);
                        world.machine.due(world.now);
                    }
                }
                world.step(&wanted);
                for text in &wanted {
                    let ip = text.parse::<VipAddress>().unwrap().ip;
                    let there = world.found.addresses.iter();
                    prop_assert_eq!(there.filter(|a| a.address.ip == ip).count(), 1);
                }
                for (view, text) in world.machine.views().iter().zip(wanted.iter().collect::<BTreeSet<_>>()) {
                    prop_assert!(view.state != VipState::Missing, "{}", text);
                }
            }
            let foreign = world.found.addresses.iter().filter(|a| a.mark == 0).count();
            world.step(&[]);
            prop_assert_eq!(world.has().len(), foreign);
            prop_assert!(world.found.addresses.iter().all(|a| a.mark == 0));
        }
    }
}
