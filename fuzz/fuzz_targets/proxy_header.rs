//! A PROXY header reads the same whatever follows it and however much of it is there; what was read is
//! written as a header that reads as the same.
//!
//! On stable: `cargo fuzz run -s none proxy_header -- -max_total_time=60`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_model::ProxyVersion;
use plimsoll_plane_proxy::proxy_header::{MAX_HEADER, Parsed, ProxyHeader, parse, write};

fuzz_target!(|bytes: &[u8]| match parse(bytes) {
    Ok(Parsed::Part) => assert!(bytes.len() < MAX_HEADER, "no more is waited for"),
    Ok(Parsed::Whole(header, length)) => {
        let own = &bytes[..length];
        for cut in [0, 1, length / 2, length - 1] {
            assert_eq!(parse(&own[..cut]), Ok(Parsed::Part));
        }
        let more = [own, b"PROXY TCP4"].concat();
        assert_eq!(parse(&more), Ok(Parsed::Whole(header.clone(), length)));
        again(&header);
    }
    // What is no header does not become one.
    Err(_) => {
        let more = [bytes, b"\r\n"].concat();
        assert!(parse(&more).is_err());
    }
});

/// What is written of a header has its addresses and, in version 2, all it says.
fn again(header: &ProxyHeader) {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let written = write(version, header);
        let Ok(Parsed::Whole(read, length)) = parse(&written) else {
            panic!("{}", written.escape_ascii());
        };
        assert_eq!(length, written.len());
        assert_eq!(read.ends, header.ends);
        if version == ProxyVersion::V2 && header.ends.is_some() {
            assert_eq!(&read, header);
        }
    }
}
