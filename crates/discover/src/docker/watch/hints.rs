//! What events mean.

use std::time::Instant;

use super::Watch;
use crate::docker::known::{Cause, Facts};
use crate::docker::wire::Event;

/// Signals that are remembered of a container before it is inspected.
const EARLY_SIGNALS: usize = 4;

impl Watch {
    /// Something happened.
    pub fn event(&mut self, event: &Event, now: Instant) {
        self.last_event = self.last_event.max(Some(event.time_nano));
        let actor = &event.actor;
        match (event.kind.as_str(), event.action.as_str()) {
            ("network", "connect" | "disconnect") => {
                let container = actor.attributes.get("container");
                let id = container.map_or("", String::as_str);
                self.untold.remove(id);
                // A container that does not run is not reached by any network.
                self.hint(id, true);
            }
            ("container", action) if !actor.id.is_empty() => {
                self.untold.remove(&actor.id);
                match action {
                    "kill" => self.signal(event, now),
                    "destroy" => {
                        self.gone(&actor.id, now);
                    }
                    // `die` and `start` have told it already.
                    "stop" => self.hint(&actor.id, true),
                    "restart" => self.hint(&actor.id, false),
                    // Nothing changes by what happens inside.
                    action if action.starts_with("exec_") => {}
                    _ => self.changed(&actor.id),
                }
            }
            _ => {}
        }
    }

    /// Something happened to a container.
    fn changed(&mut self, id: &str) {
        let known = self.known.entry(id.to_owned()).or_default();
        known.learnt = self.lists;
        // What its image and its maker say never changes.
        if !known.is_foreign() {
            self.want(id, Cause::Told);
        }
    }

    /// Something may have happened to a container; it has if, as far as is known, it runs, or does
    /// not.
    fn hint(&mut self, id: &str, if_running: bool) {
        let Some(known) = self.known.get_mut(id) else {
            return;
        };
        if known.asked {
            known.hints.if_running |= if_running;
            known.hints.if_stopped |= !if_running;
        } else if known
            .inspect()
            .is_some_and(|it| it.state.running == if_running)
        {
            self.changed(id);
        }
    }

    /// A container was sent a signal.
    fn signal(&mut self, event: &Event, now: Instant) {
        let id = &event.actor.id;
        let Some(signal) = event.actor.attributes.get("signal") else {
            return;
        };
        let Some(known) = self.known.get_mut(id) else {
            // It runs, and nobody told us.
            self.changed(id);
            if let Some(known) = self.known.get_mut(id) {
                known.signals.push((signal.clone(), event.time_nano, now));
            }
            return;
        };
        if matches!(known.facts, Facts::None | Facts::Unreadable(_)) {
            if known.signals.len() < EARLY_SIGNALS {
                known.signals.push((signal.clone(), event.time_nano, now));
            }
            return;
        }
        if known.hear(signal, event.time_nano, now) {
            self.say(id, now);
        }
    }
}
