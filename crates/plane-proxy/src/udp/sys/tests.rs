//! Batches, trains and addresses over real sockets.

use std::net::UdpSocket;

use super::*;
use crate::udp::train::couple;

fn socket() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

/// Receives until so many datagrams are there. What came, in order.
fn receive(mailbox: &mut Mailbox, socket: &UdpSocket, count: usize) -> Vec<Received> {
    let mut got = Vec::new();
    let there = |got: &[Received]| got.iter().map(|g| g.piece.count()).sum::<usize>();
    let done = plimsoll_testkit::wait_until(std::time::Duration::from_secs(10), || {
        let first = got.len();
        // Nothing waits: there is more to come.
        let _ = mailbox.receive(socket, first, BATCH - first, &mut got);
        there(&got) >= count
    });
    assert!(done && there(&got) == count, "{got:?}");
    got
}

/// Sends what was received as trains.
fn pass_on(mailbox: &mut Mailbox, got: &[Received], by: &UdpSocket, to: SocketAddr) -> Vec<usize> {
    let pieces: Vec<Piece> = got.iter().map(|got| got.piece).collect();
    let mut trains = Vec::new();
    couple(&pieces, |train| {
        let (to, from) = (Some(to), None);
        trains.push(Outgoing { train, to, from });
    });
    let lengths = trains.iter().map(|t| t.train.count()).collect();
    let mut left = &trains[..];
    while !left.is_empty() {
        let sent = mailbox.send(by, left).unwrap();
        assert!(sent > 0);
        left = &left[sent..];
    }
    lengths
}

#[test]
fn datagrams_travel_as_trains_and_arrive_as_they_were() {
    let (client, door, inner, last) = (socket(), socket(), socket(), socket());
    let address = |socket: &UdpSocket| socket.local_addr().unwrap();
    receive_trains(&inner);
    let lengths = [1200; 20].into_iter().chain([7, 0, 900, 900]);
    let sent: Vec<Vec<u8>> = (lengths.zip(1_u8..))
        .map(|(length, number)| vec![number; length])
        .collect();
    for datagram in &sent {
        client.send_to(datagram, address(&door)).unwrap();
    }
    let mut mailbox = Mailbox::new();
    let got = receive(&mut mailbox, &door, sent.len());
    assert!(got.iter().all(|got| got.from == address(&client)));
    assert!(got.iter().all(|got| got.to.is_none()), "nobody asked");
    let trains = pass_on(&mut mailbox, &got, &door, address(&inner));
    assert_eq!(trains, [21, 1, 2], "twenty and a short one are one train");
    // The kernel hands them over as they were sent, or apart.
    let got = receive(&mut mailbox, &inner, sent.len());
    pass_on(&mut mailbox, &got, &inner, address(&last));
    let mut bytes = [0; 2000];
    for datagram in &sent {
        let n = last.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..n], datagram);
    }
}

#[test]
fn a_datagram_says_what_it_was_sent_to_and_an_answer_leaves_from_there() {
    let any = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    tell_destination(&any, false).unwrap();
    let (client, port) = (socket(), any.local_addr().unwrap().port());
    let asked = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 77), port));
    client.send_to(b"?", asked).unwrap();
    let mut mailbox = Mailbox::new();
    let got = receive(&mut mailbox, &any, 1);
    let local = Local {
        ip: asked.ip(),
        interface: 0,
    };
    assert_eq!(got[0].to, Some(local));
    couple(&[got[0].piece], |train| {
        let (to, from) = (Some(got[0].from), got[0].to);
        let sent = mailbox.send(&any, &[Outgoing { train, to, from }]);
        assert_eq!(sent.unwrap(), 1);
    });
    let mut bytes = [0; 9];
    assert_eq!(client.recv_from(&mut bytes).unwrap(), (1, asked));
}
