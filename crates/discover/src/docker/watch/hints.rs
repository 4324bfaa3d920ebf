//! What events mean.

use std::time::Instant;

use super::Watch;
use crate::docker::known::Cause;
use crate::docker::wire::Event;

/// Times of events may be so many nanoseconds out of order. One that is further back shows that the
/// engine's clock was set back.
const DISORDER: i64 = 1_000_000_000;

impl Watch {
    /// Something happened.
    pub fn event(&mut self, event: &Event, now: Instant) {
        // Some engines do not say when.
        if event.time_nano > 0 {
            let back = event.time_nano.saturating_add(DISORDER);
            let last = self.last_event.filter(|last| *last <= back);
            self.last_event = last.max(Some(event.time_nano));
        }
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
                    "start" => {
                        if let Some(known) = self.known.get_mut(&actor.id) {
                            known.forget_signals();
                        }
                        self.changed(&actor.id);
                    }
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
        if !self.known.contains_key(id) {
            // It runs, and nobody told us.
            self.changed(id);
        }
        let Some(known) = self.known.get_mut(id) else {
            return;
        };
        if known.hear(signal, event.time_nano, now) {
            self.say(id, now);
        }
    }
}
