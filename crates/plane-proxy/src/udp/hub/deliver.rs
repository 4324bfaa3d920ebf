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
    while let Some(rest @ [first, ..]) = messages.get(at..) {
        match mailbox.send(socket, rest) {
            Ok(n) => at += n.max(1),
            Err(error) if first.to.is_none() && is_of_peer(&error) => {
                return (lost, Some((at, error)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                lost += rest.iter().map(|m| m.train.count() as u64).sum::<u64>();
                break;
            }
            Err(_) if first.train.segment.is_some() => {
                // Larger than the link carries, or a device that cannot: one by one they may pass.
                for train in first.train.uncouple() {
                    let (to, from) = (first.to, first.from);
                    let alone = [Outgoing { train, to, from }];
                    lost += u64::from(mailbox.send(socket, &alone).is_err());
                }
                at += 1;
            }
            Err(_) => {
                lost += 1;
                at += 1;
            }
        }
    }
    (lost, None)
}

/// Whether an error says that nothing is there, or no way leads to it.
fn is_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}
