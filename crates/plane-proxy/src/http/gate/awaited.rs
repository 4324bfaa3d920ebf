//! For what the client is waited for in the middle of a body, and how long.

use super::Gate;

/// What the client is waited for in the middle of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Awaited {
    /// More of its request.
    pub(super) bytes: bool,
    /// Room for more of the answer.
    pub(super) room: bool,
}

impl Gate {
    /// How long the client is waited for in the middle of a body from now on, in ms; 0 is no limit.
    pub(crate) fn set_patience(&self, limit: u64) {
        self.patience.set(limit);
    }

    /// The client is waited for. Whatever it does, in either direction, is progress.
    pub(super) fn wait(&self, wait: impl FnOnce(&mut Awaited)) {
        let mut awaited = self.awaited.get();
        wait(&mut awaited);
        self.awaited.set(awaited);
        self.conn
            .await_client(self.worker.now(), self.patience.get());
    }

    /// Whether the client has taken some of what is on its way since it was last looked. There is room
    /// for more only when a good part of it is gone. If so, it is waited for anew.
    pub(crate) fn has_taken(&self) -> bool {
        if !self.awaited.get().room {
            return false;
        }
        let now = self.socket.borrow().unacknowledged();
        let before = self.queued.replace(now);
        let taken = now.zip(before).is_some_and(|(now, before)| now < before);
        if taken {
            self.conn.client_went_on();
            self.wait(|_| {});
        }
        taken
    }

    /// The client has gone on.
    pub(super) fn went_on(&self, end: impl FnOnce(&mut Awaited)) {
        let mut awaited = self.awaited.get();
        if awaited == Awaited::default() {
            return;
        }
        end(&mut awaited);
        self.awaited.set(awaited);
        self.conn.client_went_on();
        if awaited != Awaited::default() {
            self.wait(|_| {});
        }
    }
}
