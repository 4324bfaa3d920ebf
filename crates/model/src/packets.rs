//! What of a service is about packets; the proxy, which has connections instead, does not look at it.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::Invalid;

/// What planes that forward packets go by, beside what all planes go by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct PacketRules {
    /// What becomes of TCP packets in mid-stream that belong to no known flow; none: those of a
    /// scheduler that hashes go by their hash, others are reset.
    pub mid_stream: Option<MidStream>,
    /// The greatest segment that TCP's ends are let announce to each other, as far as their SYNs pass
    /// the director; none: what they like.
    pub mss: Option<Mss>,
}

/// What becomes of a TCP packet in mid-stream that belongs to no known flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MidStream {
    /// It is given to a backend as a new flow is.
    Rehash,
    /// Nothing is answered.
    Drop,
    /// Its client is told by a reset (RFC 9293 §3.10.7.1).
    Reset,
}

impl MidStream {
    /// Every one by its name.
    pub const NAMES: [(&'static str, MidStream); 3] = [
        ("rehash", MidStream::Rehash),
        ("drop", MidStream::Drop),
        ("reset", MidStream::Reset),
    ];
}

/// The greatest TCP segment (MSS, RFC 9293 §3.7.1). As text: `fit`, or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mss {
    /// What fits the way to the backend, the header of a tunnel counted.
    Fit,
    /// So many bytes of payload, [`Mss::MIN`]..=[`Mss::MAX`].
    Bytes(u16),
}

impl Mss {
    /// The least that Linux knows (`TCP_MIN_MSS`).
    pub const MIN: u16 = 88;
    /// The most that an IPv4 packet holds without options.
    pub const MAX: u16 = 65_495;

    /// So many bytes.
    ///
    /// # Errors
    /// They are too few or too many.
    pub fn bytes(bytes: u16) -> Result<Self, Invalid> {
        if !(Self::MIN..=Self::MAX).contains(&bytes) {
            return Err(Invalid(format!(
                "a segment of {bytes} bytes: expected {} to {}",
                Self::MIN,
                Self::MAX
            )));
        }
        Ok(Self::Bytes(bytes))
    }
}

impl fmt::Display for Mss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fit => f.pad("fit"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

impl FromStr for Mss {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "fit" {
            return Ok(Self::Fit);
        }
        let bytes: u16 = text.parse().map_err(|_| {
            Invalid(format!(
                "{text:?} is no segment size: expected \"fit\" or {} to {}",
                Self::MIN,
                Self::MAX
            ))
        })?;
        Self::bytes(bytes)
    }
}

impl Serialize for Mss {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fit => serializer.serialize_str("fit"),
            Self::Bytes(bytes) => serializer.serialize_u16(*bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_as_text() {
        for text in ["fit", "88", "1400", "65495"] {
            assert_eq!(text.parse::<Mss>().unwrap().to_string(), text);
        }
        for text in ["", "tunnel", "87", "65496", "-1", "1400B"] {
            assert!(text.parse::<Mss>().is_err(), "{text}");
        }
    }
}
