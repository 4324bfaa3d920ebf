//! What is around the containers: where we run, networks, and containers that share one.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Watch;
use crate::docker::known::{Cause, Known};
use crate::docker::view::{View, Whereabouts};
use crate::docker::whereami;
use crate::docker::wire::{Inspect, Network};

impl Watch {
    /// A new connection: whatever was asked before is not answered any more. Events are told that
    /// happened since this time, in nanoseconds after 1970 by the engine's clock. `outside` is
    /// where we run if `own`, our own container, is none.
    pub fn begin(
        &mut self,
        since: Option<i64>,
        outside: Whereabouts,
        own: Option<Inspect>,
        now: Instant,
    ) {
        self.last_event = self.last_event.max(since);
        self.listed = false;
        (self.networks_due, self.networks_asked) = (true, false);
        self.missing.clear();
        self.untold.clear();
        let retries = std::mem::take(&mut self.retries);
        let asked = self.known.iter().filter(|(_, known)| known.asked);
        let mut again: Vec<String> = asked.map(|(id, _)| id.clone()).collect();
        again.extend(retries.into_keys());
        let before = self.own.take();
        self.own = own.as_ref().map(|own| own.id.clone());
        if before != self.own {
            again.extend(before);
        }
        for id in again {
            if let Some(known) = self.known.get_mut(&id) {
                (known.asked, known.due) = (false, false);
                self.want(&id, Cause::Told);
            }
        }
        self.outside = outside;
        match own {
            Some(own) => {
                self.known.entry(own.id.clone()).or_default();
                self.learn(own, Cause::Told, now);
            }
            None => self.look_around(now),
        }
    }

    /// Whether the networks are to be asked for; they are, from now on. Never while an answer is
    /// awaited: of two, an older one could come last.
    pub fn take_networks_due(&mut self) -> bool {
        let due = self.networks_due && !self.networks_asked;
        if due {
            (self.networks_due, self.networks_asked) = (false, true);
        }
        due
    }

    /// The networks of the engine: the answer to what was asked last.
    pub fn networks(&mut self, networks: Vec<Network>, now: Instant) {
        self.networks_asked = false;
        let networks = networks
            .into_iter()
            .map(|network| (network.id.clone(), network));
        let networks = networks.collect();
        if self.networks != networks {
            self.networks = networks;
            self.say_all(now);
        }
    }

    /// A container uses the network of another one, which has to be known for that.
    pub(super) fn join(&mut self, id: &str, owner: String) {
        let owners = self
            .known
            .iter()
            .filter(|(id, known)| known.is_called(id, &owner));
        let unknown = owners.filter(|(_, known)| known.is_foreign());
        let unknown: Vec<String> = unknown.map(|(id, _)| id.clone()).collect();
        self.joined.insert(id.to_owned(), owner);
        for id in unknown {
            self.want(&id, Cause::Told);
        }
    }

    pub(super) fn is_needed(&self, id: &str, name: &str) -> bool {
        let known = |owner: &String| {
            owner == id || owner == name || (owner.len() >= 12 && id.starts_with(owner.as_str()))
        };
        self.joined.values().any(known)
    }

    /// Says anew what those say that use the network of this container.
    pub(super) fn say_joined(&mut self, owner: &str, now: Instant) {
        let name = self
            .known
            .get(owner)
            .map_or("", |known| known.name.as_str());
        let called = |called: &str| {
            called == owner || called == name || (called.len() >= 12 && owner.starts_with(called))
        };
        let users = self.joined.iter().filter(|(_, owner)| called(owner));
        let users: Vec<String> = users.map(|(id, _)| id.clone()).collect();
        for id in users {
            if self.own.as_ref() == Some(&id) {
                self.look_around(now);
            } else {
                self.say(&id, now);
            }
        }
    }

    /// Asks for the networks if a container is in one that is not known.
    pub(super) fn look_for_networks(&mut self, id: &str) {
        let Some(inspect) = self.known.get(id).and_then(Known::inspect) else {
            return;
        };
        for network in unknown(inspect, &self.networks) {
            self.networks_due |= self.missing.insert(network.clone());
        }
    }

    /// Asks for them, also once more, if any container is that runs; another one may be in networks
    /// that are gone.
    pub(super) fn look_again_for_networks(&mut self) {
        let known = self.known.values().filter_map(Known::inspect);
        let known = known.filter(|inspect| inspect.state.running);
        let unknown = known.flat_map(|inspect| unknown(inspect, &self.networks));
        self.missing = unknown.cloned().collect();
        self.networks_due |= !self.missing.is_empty();
    }

    /// Finds out where we run, and says all anew if that has changed.
    pub(super) fn look_around(&mut self, now: Instant) {
        let own = self
            .own
            .as_ref()
            .and_then(|id| self.known.get(id)?.inspect());
        let whereabouts = match own {
            Some(own) => whereami::whereabouts(own, self.shared(own)),
            None => self.outside.clone(),
        };
        if self.whereabouts != whereabouts {
            self.whereabouts = whereabouts;
            self.say_all(now);
        }
    }

    /// The container whose network this one uses. One that does not run has no network, and gets
    /// another one when it is started.
    pub(super) fn shared(&self, inspect: &Inspect) -> Option<&Inspect> {
        let owner = inspect
            .host_config
            .network_mode
            .strip_prefix("container:")?;
        let exact = self.known.get(owner);
        let found = exact.or_else(|| {
            let mut all = self.known.iter();
            all.find_map(|(id, known)| known.is_called(id, owner).then_some(known))
        });
        let found = found.and_then(Known::inspect);
        found.filter(|owner| owner.state.running)
    }

    pub(super) fn view<'a>(&'a self, inspect: &Inspect) -> View<'a> {
        View {
            settings: &self.settings,
            whereabouts: &self.whereabouts,
            networks: &self.networks,
            shared: self.shared(inspect),
        }
    }

    fn say_all(&mut self, now: Instant) {
        let ids: Vec<String> = self.known.keys().cloned().collect();
        for id in ids {
            self.say(&id, now);
        }
    }
}

/// The networks that a container is in and that are not among these.
fn unknown<'a>(
    inspect: &'a Inspect,
    networks: &'a BTreeMap<String, Network>,
) -> impl Iterator<Item = &'a String> {
    let ends = inspect.network_settings.networks.values();
    let ids = ends.map(|end| &end.network_id);
    ids.filter(|id| !id.is_empty() && !networks.contains_key(*id))
}
