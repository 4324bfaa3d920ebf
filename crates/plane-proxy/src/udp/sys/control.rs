//! Control messages: where a datagram was sent to or leaves from, and the size of the datagrams of a
//! train (ip(7), ipv6(7), udp(7)).

use std::mem::size_of_val;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

use super::{Local, Outgoing};

/// What the control messages of a received message tell: where it was sent to, and the size of the
/// datagrams of a train.
pub(super) fn told(head: &libc::msghdr) -> (Option<Local>, Option<usize>) {
    let (mut to, mut stride) = (None, None);
    // SAFETY: the kernel filled the control buffer of this head in and set its length; the macros stay
    // inside of it, and each message that they give is as long as its type says.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(head);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    // Not `ipi_addr`: nothing can be sent from a broadcast address.
                    to = Some(Local {
                        ip: Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into(),
                        interface: 0,
                    });
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    to = (!ip.is_multicast()).then(|| Local {
                        ip: ip.into(),
                        interface: match ip.is_unicast_link_local() {
                            true => info.ipi6_ifindex,
                            false => 0,
                        },
                    });
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let size = data.cast::<libc::c_int>().read_unaligned();
                    stride = usize::try_from(size).ok();
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(head, message);
        }
    }
    (to, stride)
}

/// Writes the control messages of a message to send. Their length.
pub(super) fn say(head: &libc::msghdr, message: &Outgoing) -> usize {
    let mut used = 0;
    // SAFETY: the head points to a control buffer of CONTROL bytes, which is more than both messages
    // need together; each is written where the one before it ends.
    unsafe {
        let base = head.msg_control.cast::<u8>();
        let mut put = |level, kind, data: *const u8, len: usize| {
            let (Ok(room), true) = (u32::try_from(len), len <= 24) else {
                return;
            };
            let header = base.add(used).cast::<libc::cmsghdr>();
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = libc::CMSG_LEN(room) as usize;
            ptr::copy_nonoverlapping(data, libc::CMSG_DATA(header), len);
            used += libc::CMSG_SPACE(room) as usize;
        };
        match message.from {
            Some(Local {
                ip: IpAddr::V4(ip), ..
            }) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from(ip).to_be(),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let data = ptr::from_ref(&info).cast();
                put(libc::IPPROTO_IP, libc::IP_PKTINFO, data, size_of_val(&info));
            }
            Some(Local {
                ip: IpAddr::V6(ip),
                interface,
            }) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: ip.octets(),
                    },
                    ipi6_ifindex: interface,
                };
                let data = ptr::from_ref(&info).cast();
                put(
                    libc::IPPROTO_IPV6,
                    libc::IPV6_PKTINFO,
                    data,
                    size_of_val(&info),
                );
            }
            None => {}
        }
        if let Some(size) = message.train.segment {
            let data = ptr::from_ref(&size).cast();
            put(libc::SOL_UDP, libc::UDP_SEGMENT, data, size_of_val(&size));
        }
    }
    used
}
