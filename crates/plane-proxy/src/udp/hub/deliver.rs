//! Sending what can be sent.

use std::io;
use std::os::fd::AsFd;

use crate::udp::sys::{Mailbox, Outgoing};

/// Sends all messages that can be sent: how many datagrams could not, and for a connected socket the
/// error and the message at which its peer turned out not to be there.
pub(super) fn deliver(
    mailbox: &mut Mailbox,
    socket: impl AsFd + Copy,
    messages: &[Outgoing],
) -> (u64, Option<(usize, io::Error)>) {
    let (mut at, mut lost) = (0, 0);
    // An error of an earlier datagram is told at the next, which then was not tried.
    let mut told = false;
    while let Some(rest @ [first, ..]) = messages.get(at..) {
        match mailbox.send(socket, rest) {
            Ok(n) => {
                at += n.max(1);
                told = false;
            }
            Err(error) if first.to.is_none() && is_of_peer(&error) => {
                return (lost, Some((at, error)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                lost += rest.iter().map(|m| m.train.count() as u64).sum::<u64>();
                break;
            }
            Err(_) if first.to.is_none() && !std::mem::replace(&mut told, true) => {}
            Err(_) if first.train.segment.is_some() => {
                // Larger than the link carries, or a device that cannot: one by one they may pass.
                for train in first.train.uncouple() {
                    let (to, from) = (first.to, first.from);
                    let alone = [Outgoing { train, to, from }];
                    lost += u64::from(mailbox.send(socket, &alone).is_err());
                }
                at += 1;
                told = false;
            }
            Err(_) => {
                lost += 1;
                at += 1;
                told = false;
            }
        }
    }
    (lost, None)
}

/// Whether an error says that nothing is there, or no way leads to it.
pub(super) fn is_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}
