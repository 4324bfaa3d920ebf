use std::net::IpAddr;

use plimsoll_model::ProxyVersion;
use proptest::prelude::*;

use super::*;

fn ends(client: &str, server: &str) -> Option<Ends> {
    Some(Ends {
        client: client.parse().unwrap(),
        server: server.parse().unwrap(),
    })
}

/// A header of version 2 from its command and family on.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, body].concat()
}

const FOUR: [u8; 12] = [10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39, 0, 80];

#[test]
fn lines() {
    for (line, wanted) in [
        (
            "PROXY TCP4 255.255.255.255 10.0.0.1 65535 0\r\n",
            ends("255.255.255.255:65535", "10.0.0.1:0"),
        ),
        (
            "PROXY TCP6 2001:db8::1 ::ffff:10.0.0.1 1 443\r\n",
            ends("[2001:db8::1]:1", "[::ffff:10.0.0.1]:443"),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 whatever \u{1f6a2} 1\r\n", None),
    ] {
        let with_data = format!("{line}PROXY more");
        let Ok(Parsed::Whole(header, length)) = parse(with_data.as_bytes()) else {
            panic!("{line}");
        };
        assert_eq!((header.ends, length), (wanted, line.len()), "{line}");
        for cut in 0..line.len() {
            assert_eq!(parse(&line.as_bytes()[..cut]), Ok(Parsed::Part), "{line}");
        }
    }
}

#[test]
fn lines_that_are_none() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    assert_eq!(long.len(), MAX_LINE + 1);
    for line in [
        "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 1\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 1 2 3\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 1 2 \r\n",
        "PROXY TCP4  10.0.0.1 10.0.0.2 1 2\r\n",
        "PROXY TCP4 10.0.0.01 10.0.0.2 1 2\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 +1 2\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 65536 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 10.0.0.1 10.0.0.2 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY UDP4 10.0.0.1 10.0.0.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        &long,
    ] {
        assert_eq!(parse(line.as_bytes()), Err(Malformed::Line), "{line:?}");
    }
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"proxy TCP4",
        b"\r\n\r\n\0\r\nQUIX",
        b"\0",
    ] {
        assert_eq!(parse(bytes), Err(Malformed::NoHeader));
    }
}

#[test]
fn binary_headers() {
    let six = [[0; 15].as_slice(), &[1], &[0; 15], &[2], &[0, 1, 0, 2]].concat();
    let unix = [0; 216];
    let extra = [0xE0, 0, 2, 7, 8];
    let noop = [4, 0, 1, 0];
    let body = |parts: &[&[u8]]| parts.concat();
    let of_four = ends("10.0.0.1:12345", "10.0.0.2:80");
    for (bytes, wanted, extras) in [
        (v2(0x21, 0x11, &FOUR), of_four, &[][..]),
        (v2(0x21, 0x21, &six), ends("[::1]:1", "[::2]:2"), &[]),
        (
            v2(0x21, 0x11, &body(&[&FOUR, &noop, &extra])),
            of_four,
            &extra,
        ),
        (v2(0x21, 0x12, &body(&[&FOUR, &extra])), None, &extra),
        (v2(0x21, 0x31, &body(&[&unix, &extra])), None, &extra),
        (v2(0x21, 0x00, &extra), None, &extra),
        // What is to be ignored may be anything.
        (v2(0x21, 0x00, &[1, 2]), None, &[]),
        (v2(0x20, 0x00, &[]), None, &[]),
        (v2(0x20, 0x11, &body(&[&FOUR, &extra])), None, &[]),
        (v2(0x20, 0xFF, &[1]), None, &[]),
    ] {
        let Ok(Parsed::Whole(header, length)) = parse(&body(&[&bytes, b"data"])) else {
            panic!("{bytes:?}");
        };
        assert_eq!(
            (header.ends, &*header.extras),
            (wanted, extras),
            "{bytes:?}"
        );
        assert_eq!((length, header.checksum), (bytes.len(), false));
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(Parsed::Part), "{cut} of {bytes:?}");
        }
    }
}

#[test]
fn binary_headers_that_are_none() {
    let four_and = |more: &[u8]| v2(0x21, 0x11, &[&FOUR, more].concat());
    let mut long = v2(0x21, 0x11, &FOUR);
    long[14..16].copy_from_slice(&[0x40, 0]);
    for (bytes, why) in [
        (v2(0x22, 0x11, &FOUR), Malformed::Unknown),
        (v2(0x11, 0x11, &FOUR), Malformed::Unknown),
        (v2(0x21, 0x41, &FOUR), Malformed::Unknown),
        (v2(0x21, 0x13, &FOUR), Malformed::Unknown),
        (v2(0x21, 0x11, &FOUR[..11]), Malformed::Length),
        (v2(0x21, 0x21, &FOUR), Malformed::Length),
        (four_and(&[1]), Malformed::Length),
        (four_and(&[1, 0, 1]), Malformed::Length),
        (four_and(&[3, 0, 3, 0, 0, 0]), Malformed::Length),
        (four_and(&[3, 0, 4, 0, 0, 0, 0]), Malformed::Checksum),
        (long, Malformed::Length),
    ] {
        assert_eq!(parse(&bytes), Err(why), "{bytes:?}");
    }
}

#[test]
fn a_checksum_is_kept_and_found_out() {
    let header = ProxyHeader {
        ends: ends("10.0.0.1:12345", "10.0.0.2:80"),
        extras: Box::new([0xE0, 0, 1, 9]),
        checksum: true,
    };
    let bytes = write(ProxyVersion::V2, &header);
    assert_eq!(parse(&bytes), Ok(Parsed::Whole(header, bytes.len())));
    for i in 16..bytes.len() {
        let mut other = bytes.clone();
        other[i] ^= 1;
        let parsed = parse(&other);
        assert!(
            !matches!(parsed, Ok(Parsed::Whole(h, _)) if h.checksum),
            "{i}"
        );
    }
}

#[test]
fn what_is_written_is_what_others_write() {
    let header = |client, server| ProxyHeader {
        ends: ends(client, server),
        ..ProxyHeader::default()
    };
    let four = header("10.0.0.1:12345", "10.0.0.2:80");
    assert_eq!(
        write(ProxyVersion::V1, &four),
        b"PROXY TCP4 10.0.0.1 10.0.0.2 12345 80\r\n"
    );
    assert_eq!(write(ProxyVersion::V2, &four), v2(0x21, 0x11, &FOUR));
    let mixed = header("10.0.0.1:1", "[fd00::2]:80");
    assert_eq!(
        write(ProxyVersion::V1, &mixed),
        b"PROXY TCP6 ::ffff:10.0.0.1 fd00::2 1 80\r\n"
    );
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let own = write(version, &ProxyHeader::default());
        assert_eq!(own, version.own_header());
        assert_eq!(
            parse(&own),
            Ok(Parsed::Whole(ProxyHeader::default(), own.len()))
        );
    }
}

#[test]
fn a_header_may_say_whether_the_client_came_over_tls() {
    let ssl = |value: &[u8]| [&[0x20, 0, value.len() as u8], value].concat();
    let noop = [4, 0, 1, 0];
    let other = [0xE0, 0, 2, 7, 8];
    for (extras, wanted) in [
        (vec![], None),
        (other.to_vec(), None),
        (ssl(&[1, 0, 0, 0, 0]), Some(true)),
        (
            [
                &other[..],
                &noop,
                &ssl(&[0x07, 0, 0, 0, 0, 0x21, 0, 1, b'x']),
            ]
            .concat(),
            Some(true),
        ),
        (ssl(&[0x06, 0, 0, 0, 0]), Some(false)),
        // The first counts.
        (
            [ssl(&[0, 0, 0, 0, 0]), ssl(&[1, 0, 0, 0, 0])].concat(),
            Some(false),
        ),
        (ssl(&[]), None),
    ] {
        let bytes = v2(0x21, 0x11, &[&FOUR, &extras[..]].concat());
        let Ok(Parsed::Whole(header, _)) = parse(&bytes) else {
            panic!("{extras:?}");
        };
        assert_eq!(header.is_tls(), wanted, "{extras:?}");
    }
    // What nobody has read may be anything.
    let extras = Box::new([0x20, 0, 9, 1]);
    let cut = ProxyHeader {
        extras,
        ..ProxyHeader::default()
    };
    assert_eq!(cut.is_tls(), None);
}

#[test]
fn a_header_does_not_grow_beyond_what_is_taken() {
    let room = MAX_HEADER - 16 - FOUR.len() - 3;
    let value = vec![7; room];
    let length = u16::try_from(room).unwrap().to_be_bytes();
    let longest = [&[0xE0], &length[..], &value].concat();
    let bytes = v2(0x21, 0x11, &[&FOUR, &longest[..]].concat());
    assert_eq!(bytes.len(), MAX_HEADER);
    let Ok(Parsed::Whole(read, _)) = parse(&bytes) else {
        panic!("it is as long as it may be");
    };
    assert_eq!(write(ProxyVersion::V2, &read), bytes);
    let wide = ProxyHeader {
        ends: ends("10.0.0.1:1", "[fd00::2]:80"),
        ..read.clone()
    };
    let summed = ProxyHeader {
        checksum: true,
        ..read
    };
    for header in [wide, summed] {
        let bytes = write(ProxyVersion::V2, &header);
        let Ok(Parsed::Whole(read, length)) = parse(&bytes) else {
            panic!("{} bytes", bytes.len());
        };
        assert_eq!((read.checksum, length), (header.checksum, bytes.len()));
        assert!(read.extras.is_empty() && read.ends.is_some());
    }
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ]
    .prop_flat_map(|ip| any::<u16>().prop_map(move |port| SocketAddr::new(ip, port)))
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(
        (client, server) in (address(), address()),
        values in prop::collection::vec((5u8.., prop::collection::vec(any::<u8>(), 0..20)), 0..5),
        checksum in any::<bool>(),
        data in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let extras: Vec<u8> = values
            .iter()
            .flat_map(|(kind, value)| [&[*kind, 0, value.len() as u8], &value[..]].concat())
            .collect();
        let header = ProxyHeader {
            ends: Some(Ends { client, server }),
            extras: extras.into(),
            checksum,
        };
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let written = write(version, &header);
            let bytes = [&written[..], &data].concat();
            let Ok(Parsed::Whole(read, length)) = parse(&bytes) else {
                panic!("{written:?}");
            };
            prop_assert_eq!(length, written.len());
            let read_ends = read.ends.unwrap();
            prop_assert_eq!(read_ends.client.ip().to_canonical(), client.ip().to_canonical());
            prop_assert_eq!(read_ends.server.ip().to_canonical(), server.ip().to_canonical());
            prop_assert_eq!(read_ends.client.port(), client.port());
            if version == ProxyVersion::V2 {
                prop_assert_eq!(&read.extras, &header.extras);
                prop_assert_eq!(read.checksum, header.checksum);
            }
            for cut in 0..written.len() {
                prop_assert_eq!(parse(&written[..cut]), Ok(Parsed::Part));
            }
        }
    }
}
