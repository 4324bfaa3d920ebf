//! The listens of the plane: opening, opening anew, closing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use plimsoll_model::{Listen, ListenOptions, Ports, ServiceSpec};
use plimsoll_plane::PlaneError;

use super::ProxyPlane;
use crate::listener::{self, Bound};
use crate::worker::{Command, PortSeed};

impl ProxyPlane {
    /// Opens what a service is to listen on and is not open yet, or not with its options.
    pub(super) fn open_all(&mut self, spec: &ServiceSpec) -> Result<(), PlaneError> {
        for listen in &spec.listens {
            let options = self.options(listen, spec);
            self.open(listen, options)?;
        }
        Ok(())
    }

    /// What the sockets of a listen of this service are told: what it says itself, or else those say
    /// that share it.
    fn options(&self, listen: &Listen, spec: &ServiceSpec) -> Option<Arc<ListenOptions>> {
        let others = || {
            let mut others = self.held.services.values().map(|service| &service.spec);
            others.find_map(|other| {
                let shares = other.name != spec.name && other.listens.contains(listen);
                other.listen_options.clone().filter(|_| shares)
            })
        };
        spec.listen_options.clone().or_else(others)
    }

    /// Opens the sockets of a listen. One that is open with other options is opened once more, and
    /// what was open closed once the new ones are served.
    fn open(
        &mut self,
        listen: &Listen,
        options: Option<Arc<ListenOptions>>,
    ) -> Result<(), PlaneError> {
        let known = self.listens.get(listen);
        if known.is_some_and(|bound| bound.options == options) {
            return Ok(());
        }
        self.closing.retain(|(_, open)| open.strong_count() > 0);
        // An http and a tcp listen on one socket are the same to the kernel.
        let ours = |port: u16| {
            let closing = self.closing.iter().map(|(listen, _)| listen);
            self.listens
                .keys()
                .chain(closing)
                .any(|ours| shares(ours, listen, port))
        };
        let said = options.as_deref().cloned().unwrap_or_default();
        let sockets = listener::open(listen, &said, self.workers, ours)?;
        let bound = match self.listens.get_mut(listen) {
            Some(bound) => {
                let before = std::mem::take(&mut bound.listening);
                self.closing.push((*listen, Arc::downgrade(&before)));
                let close = |worker| (worker, Command::Close(bound.index));
                self.opened.extend((0..self.workers).map(close));
                bound.options = options;
                bound
            }
            None => {
                let bound = Bound::new(self.next_listen, self.workers, options);
                self.next_listen += 1;
                self.listens.entry(*listen).or_insert(bound)
            }
        };
        for (port, of_port) in sockets {
            for (worker, socket) in of_port.into_iter().enumerate() {
                let index = bound.index;
                let port = Box::new(PortSeed {
                    index,
                    listen: *listen,
                    port,
                    transparent: said.transparent,
                    counts: bound.counts.clone(),
                    listening: bound.listening.clone(),
                });
                let command = Command::Listen {
                    index,
                    port,
                    socket,
                };
                self.opened.push((worker, command));
            }
        }
        Ok(())
    }

    /// Has the workers accept from what was opened.
    pub(super) fn accept_from_opened(&mut self) {
        let senders = self.shared.workers.get().map_or(&[][..], Vec::as_slice);
        for (worker, command) in self.opened.drain(..) {
            if let Some(sender) = senders.get(worker) {
                // A worker that has ended is found by the next read.
                let _ = sender.send(command);
            }
        }
    }

    /// Closes what no service listens on any more.
    pub(super) fn close_unused(&mut self) {
        let used: BTreeSet<Listen> = self
            .held
            .services
            .values()
            .flat_map(|s| s.spec.listens.iter().copied())
            .collect();
        self.listens.retain(|listen, bound| {
            let keep = used.contains(listen);
            if !keep {
                let index = bound.index;
                self.shared.tell_all(|| Command::Close(index));
                let open = Arc::downgrade(&bound.listening);
                self.closing.push((*listen, open));
            }
            keep
        });
    }
}

/// Whether a socket of ours on this port would be in the way of one for `listen`.
fn shares(ours: &Listen, listen: &Listen, port: u16) -> bool {
    let (
        Listen::Socket {
            ip: a,
            ports,
            proto: p,
        },
        Listen::Socket {
            ip: b, proto: q, ..
        },
    ) = (ours, listen)
    else {
        return false;
    };
    if p.transport() != q.transport() {
        return false;
    }
    let any = |ip: &Option<IpAddr>| ip.is_none_or(|ip| ip.is_unspecified());
    ports.overlaps(Ports::One(port)) && (a == b || any(a) || any(b))
}
