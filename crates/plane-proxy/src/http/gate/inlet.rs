//! What has come from the client, and what becomes of it by the verdict of [`Framing`].

use tokio::io::ReadBuf;

use super::{Gate, Last};
use crate::conn::Phase;
use crate::http::framing::{Framing, Limits, Then, hide_close};

/// A request in the place of one that is refused: see [`REFUSED`](super::REFUSED).
const STAND_IN: &[u8] =
    b"PLIMSOLL-REFUSED / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// What has been received and not yet been given on.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) framing: Framing,
    /// Time for a head, in ms.
    header: u64,
    /// A part of a head.
    pub(super) held: Vec<u8>,
    /// What is held has not been judged yet: it came before the answer to an upgrade.
    pub(super) unjudged: bool,
    /// What hyper gets before anything else is read.
    pub(super) ready: Vec<u8>,
    given: usize,
}

impl Inlet {
    /// For a fresh connection; `header` is the time for a head, in ms.
    pub(super) fn new(header: u64) -> Self {
        Self {
            framing: Framing::new(Limits::default()),
            header,
            held: Vec::new(),
            unjudged: false,
            ready: Vec::new(),
            given: 0,
        }
    }

    /// Gives hyper what is ready for it. Whether there was any.
    pub(super) fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Some(rest) = self.ready.get(self.given..).filter(|rest| !rest.is_empty()) else {
            return false;
        };
        let n = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..n).unwrap_or_default());
        self.given += n;
        if self.given == self.ready.len() {
            self.ready = Vec::new();
            self.given = 0;
        }
        true
    }
}

impl Gate {
    /// Judges what is held.
    pub(super) fn judge(&self, inlet: &mut Inlet) {
        let mut held = std::mem::take(&mut inlet.held);
        let outcome = inlet.framing.feed(&held);
        self.in_body.set(inlet.framing.in_body());
        let rest = held.split_off(outcome.pass);
        if let Then::Last { close } = outcome.then {
            self.end_after(&inlet.framing, &mut held, close, &rest);
        }
        inlet.ready.append(&mut held);
        self.settle(inlet, outcome.then, rest);
    }

    /// No request counts after the one at the end of `passed`, which says so in the word at `close`.
    /// hyper is not told if it gets this request and no other while it serves the client: then what
    /// it writes next is the answer to it. `rest` is what the client has sent besides.
    pub(super) fn end_after(
        &self,
        framing: &Framing,
        passed: &mut [u8],
        close: usize,
        rest: &[u8],
    ) {
        let alone = framing.heads() == self.served_before.get() + 1;
        self.last.set(if alone && rest.is_empty() {
            hide_close(passed, close);
            Last::Hidden
        } else {
            Last::Told {
                more: !rest.is_empty(),
            }
        });
    }

    /// Acts on a verdict; `rest` is what may not pass.
    pub(super) fn settle(&self, inlet: &mut Inlet, then: Then, rest: Vec<u8>) {
        match then {
            Then::More | Then::Last { .. } => {}
            Then::Hold => {
                inlet.held = rest;
                if self.conn.phase() == Phase::Idle {
                    self.conn.head_begins();
                    self.conn
                        .enter_until(Phase::Head, self.worker.now(), inlet.header);
                }
            }
            Then::Reject(status) => self.refuse(inlet, status),
            Then::Break => self.broken.set(true),
            Then::Upgrade => {
                self.paused.set(true);
                self.early.set(!rest.is_empty());
                inlet.unjudged = !rest.is_empty();
                inlet.held = rest;
            }
        }
    }

    /// Refuses the head that is being received.
    pub(super) fn refuse(&self, inlet: &mut Inlet, status: u16) {
        self.refusal.set(Some(status));
        inlet.held = Vec::new();
        inlet.ready.extend_from_slice(STAND_IN);
    }
}
