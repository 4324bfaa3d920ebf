//! Which changes of backends are worth a line: a backend whose state flaps gets a few at once, and
//! then one per second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use plimsoll_model::{Backend, BackendAddr, Name, State};
use tracing::{debug, info, warn};

/// Between two lines about one backend, in the long run.
const EVERY: Duration = Duration::from_secs(1);
/// Lines that may come at once after a time of quiet.
const AT_ONCE: u32 = 4;

/// What was said last about a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    /// By then there would have been time for all that was said, one line after another.
    paid: Instant,
    state: State,
    /// Changes since that were not said.
    unsaid: u32,
}

impl Said {
    fn may_say(&self, now: Instant) -> bool {
        self.paid <= now + EVERY * (AT_ONCE - 1)
    }

    fn say(&mut self, now: Instant, state: State) {
        *self = Self {
            paid: self.paid.max(now) + EVERY,
            state,
            unsaid: 0,
        };
    }
}

/// What was said of late.
#[derive(Debug, Default)]
pub(super) struct Standings(BTreeMap<(Name, BackendAddr), Said>);

/// A change to say, and how many others it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    from: State,
    unsaid: u32,
}

impl Standings {
    /// The status of a backend has changed.
    pub(super) fn changed(&mut self, now: Instant, service: &Name, old: &Backend, new: &Backend) {
        let (from, to) = (old.status.state, new.status.state);
        if from == to {
            let (service, backend) = (service.as_str(), &new.addr);
            debug!(service, %backend, reason = &*new.status.reason, "backend is still {to}");
        } else if let Some(change) = self.change(now, service, &new.addr, from, to) {
            say(service, new, change);
        }
    }

    /// Says what was kept back for long enough. `find` gives the backend as it is now.
    pub(super) fn catch_up<'a>(
        &mut self,
        now: Instant,
        find: impl Fn(&Name, &BackendAddr) -> Option<&'a Backend>,
    ) {
        self.0.retain(|(service, addr), said| {
            if said.unsaid == 0 || !said.may_say(now) {
                return said.paid > now || said.unsaid > 0;
            }
            let Some(backend) = find(service, addr) else {
                return false;
            };
            let change = Change {
                from: said.state,
                unsaid: said.unsaid - 1,
            };
            say(service, backend, change);
            said.say(now, backend.status.state);
            true
        });
    }

    fn change(
        &mut self,
        now: Instant,
        service: &Name,
        addr: &BackendAddr,
        from: State,
        to: State,
    ) -> Option<Change> {
        let key = (service.clone(), addr.clone());
        let said = self.0.entry(key).or_insert(Said {
            paid: now,
            state: from,
            unsaid: 0,
        });
        if !said.may_say(now) {
            said.unsaid = said.unsaid.saturating_add(1);
            return None;
        }
        let unsaid = said.unsaid;
        said.say(now, to);
        Some(Change { from, unsaid })
    }
}

fn say(service: &Name, backend: &Backend, change: Change) {
    let Change { from, unsaid } = change;
    let to = backend.status.state;
    let (service, reason) = (service.as_str(), &*backend.status.reason);
    let called = (!backend.name.is_empty()).then_some(&*backend.name);
    let unsaid = (unsaid > 0).then_some(unsaid);
    let backend = &backend.addr;
    match to {
        State::Down => {
            warn!(service, %backend, called, %from, reason, unsaid, "backend is {to}");
        }
        _ => info!(service, %backend, called, %from, reason, unsaid, "backend is {to}"),
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_model::{Origin, Status};

    use super::*;

    #[test]
    fn one_line_a_second_for_each_backend() {
        let start = Instant::now();
        let mut standings = Standings::default();
        let web: Name = "web".parse().unwrap();
        let addrs: [BackendAddr; 2] = ["10.0.0.1:80", "10.0.0.2:80"].map(|a| a.parse().unwrap());
        let mut lines = Vec::new();
        for ms in (0..3500).step_by(10) {
            let now = start + Duration::from_millis(ms);
            let (from, to) = match ms % 20 {
                0 => (State::Ready, State::Down),
                _ => (State::Down, State::Ready),
            };
            lines.extend(standings.change(now, &web, &addrs[0], from, to));
        }
        assert_eq!(
            lines.len(),
            4 + 3,
            "4 at once, then one a second: {lines:?}"
        );
        let all: u32 = lines.iter().map(|line| line.unsaid + 1).sum();
        let left = standings.0.values().map(|said| said.unsaid).sum::<u32>();
        assert_eq!(all + left, 350);
        let other = standings.change(start, &web, &addrs[1], State::Ready, State::Down);
        assert!(other.is_some(), "another backend is another matter");
    }

    #[test]
    fn what_was_kept_back_is_said_once_and_forgotten() {
        let start = Instant::now();
        let mut standings = Standings::default();
        let web: Name = "web".parse().unwrap();
        let addr: BackendAddr = "10.0.0.1:80".parse().unwrap();
        let mut backend = Backend::new(addr.clone(), Origin::new("test", "web"));
        backend.status = Status::new(State::Down, "refused");
        for _ in 0..AT_ONCE {
            standings.change(start, &web, &addr, State::Down, State::Ready);
            standings.change(start, &web, &addr, State::Ready, State::Down);
        }
        let key = (web, addr);
        assert_eq!(standings.0[&key].unsaid, AT_ONCE);
        let find = |_: &Name, _: &BackendAddr| Some(&backend);
        standings.catch_up(start + EVERY / 2, find);
        assert_eq!(standings.0[&key].unsaid, AT_ONCE, "not yet");
        standings.catch_up(start + EVERY, find);
        let said = standings.0[&key];
        assert_eq!((said.unsaid, said.state), (0, State::Down));
        standings.catch_up(start + (AT_ONCE + 1) * EVERY, find);
        assert!(standings.0.is_empty());
    }
}
