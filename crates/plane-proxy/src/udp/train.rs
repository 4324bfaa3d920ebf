//! Trains: datagrams of one size behind each other that travel in one message (UDP GSO). Pure.

use super::sys::SLOT;

/// Datagrams in one train at most (`UDP_MAX_SEGMENTS` of kernels before 6.9).
const MOST: usize = 64;

/// Bytes in one train at most: a packet of 65 535 with the larger of the headers, IPv6's and UDP's.
const LONGEST: usize = SLOT - 48;

/// Datagrams larger than this are not put into trains: they could be larger than what a link
/// carries (Ethernet's 1500 without the headers), and such trains are refused.
const LARGEST: usize = 1452;

/// Bytes of a slot as they were received: one datagram, or several of `stride` bytes behind each
/// other, of which the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) slot: usize,
    pub(crate) len: usize,
    /// `len` for a single datagram.
    pub(crate) stride: usize,
}

/// Bytes of a slot to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) slot: usize,
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// What is sent as one message: the parts behind each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Train {
    pub(crate) pieces: Parts,
    /// The size of its datagrams, of which the last may be shorter; none for a single one.
    pub(crate) segment: Option<u16>,
}

/// The parts of a train; a single one, the usual case, needs no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    One([Part; 1]),
    Many(Vec<Part>),
}

impl std::ops::Deref for Parts {
    type Target = [Part];

    fn deref(&self) -> &[Part] {
        match self {
            Parts::One(one) => one,
            Parts::Many(many) => many,
        }
    }
}

impl<'a> IntoIterator for &'a Parts {
    type Item = &'a Part;
    type IntoIter = std::slice::Iter<'a, Part>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Piece {
    /// How many datagrams it holds.
    pub(crate) fn count(&self) -> usize {
        self.len.div_ceil(self.stride.max(1)).max(1)
    }

    fn part(&self) -> Part {
        Part {
            slot: self.slot,
            offset: 0,
            len: self.len,
        }
    }
}

/// The pieces of one flow, put into as few trains as can be, in their order.
pub(crate) fn couple(pieces: &[Piece], mut send: impl FnMut(Train)) {
    let mut rest = pieces;
    while let Some((first, mut after)) = rest.split_first() {
        let (mut total, mut count, mut parts) = (first.len, first.count(), Vec::new());
        let fits = first.stride <= LARGEST && first.stride > 0;
        while let Some((next, beyond)) = after.split_first() {
            let full = total.is_multiple_of(first.stride.max(1));
            let same =
                next.stride == first.stride || (next.count() == 1 && next.len < first.stride);
            let has_room = total + next.len <= LONGEST && count + next.count() <= MOST;
            if !(fits && full && same && has_room && next.len > 0) {
                break;
            }
            if parts.is_empty() {
                parts.push(first.part());
            }
            parts.push(next.part());
            total += next.len;
            count += next.count();
            after = beyond;
        }
        let segment = match count {
            1 => None,
            _ => u16::try_from(first.stride).ok(),
        };
        let pieces = match parts.is_empty() {
            true => Parts::One([first.part()]),
            false => Parts::Many(parts),
        };
        send(Train { pieces, segment });
        rest = after;
    }
}

impl Train {
    /// How many datagrams it holds.
    pub(crate) fn count(&self) -> usize {
        let Some(segment) = self.segment else {
            return 1;
        };
        let bytes: usize = self.pieces.iter().map(|part| part.len).sum();
        bytes.div_ceil(usize::from(segment).max(1))
    }

    /// The bytes of its datagrams.
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(|part| part.len).sum()
    }

    /// Each of its datagrams as a train of its own: for where trains are refused.
    pub(crate) fn uncouple(&self) -> impl Iterator<Item = Train> + '_ {
        let stride = self.segment.map_or(usize::MAX, |s| usize::from(s).max(1));
        self.pieces.iter().flat_map(move |part| {
            let starts = (0..part.len.max(1)).step_by(stride);
            starts.map(move |start| Train {
                pieces: Parts::One([Part {
                    slot: part.slot,
                    offset: part.offset + start,
                    len: stride.min(part.len - start),
                }]),
                segment: None,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn single(slot: usize, len: usize) -> Piece {
        let stride = len;
        Piece { slot, len, stride }
    }

    fn coupled(pieces: &[Piece]) -> Vec<Train> {
        let mut trains = Vec::new();
        couple(pieces, |train| trains.push(train));
        trains
    }

    /// The datagrams that a receiver of these trains gets: slot, offset, length.
    fn datagrams(trains: &[Train]) -> Vec<(usize, usize, usize)> {
        let parts = trains.iter().flat_map(Train::uncouple);
        parts
            .flat_map(|t| t.pieces.iter().copied().collect::<Vec<_>>())
            .map(|p| (p.slot, p.offset, p.len))
            .collect()
    }

    #[test]
    fn equal_ones_travel_together_and_a_shorter_one_ends_it() {
        let pieces = [1200, 1200, 1200, 7, 1200, 0, 0, 9000, 9000];
        let pieces: Vec<Piece> = (pieces.iter().enumerate())
            .map(|(slot, len)| single(slot, *len))
            .collect();
        let trains = coupled(&pieces);
        let sizes: Vec<_> = trains.iter().map(|t| (t.count(), t.segment)).collect();
        let alone = (1, None);
        let expected = [(4, Some(1200)), alone, alone, alone, alone, alone];
        assert_eq!(sizes, expected);
    }

    #[test]
    fn a_received_train_goes_on_as_one_whatever_its_size() {
        let piece = Piece {
            slot: 3,
            len: 10_000,
            stride: 4000,
        };
        let trains = coupled(&[piece]);
        assert_eq!((trains.len(), trains[0].segment), (1, Some(4000)));
        let expected = [(3, 0, 4000), (3, 4000, 4000), (3, 8000, 2000)];
        assert_eq!(datagrams(&trains), expected);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_added_or_reordered(
            shapes in prop::collection::vec((prop_oneof![0..4usize, 1195..1205usize, 1usize..9000], 1..70usize, 0..2usize), 0..32),
        ) {
            let pieces: Vec<Piece> = shapes.iter().enumerate().map(|(slot, (stride, count, cut))| {
                let len = (stride * count).saturating_sub(cut * stride / 2).min(LONGEST);
                Piece { slot, len, stride: if *stride == 0 { len } else { (*stride).min(len.max(1)) } }
            }).collect();
            let trains = coupled(&pieces);
            let single: Vec<Train> = pieces.iter().map(|p| Train {
                pieces: Parts::One([p.part()]),
                segment: (p.count() > 1).then(|| u16::try_from(p.stride).unwrap()),
            }).collect();
            prop_assert_eq!(datagrams(&trains), datagrams(&single));
            for train in &trains {
                let received = train.pieces.len() == 1;
                prop_assert!(received || (train.count() <= MOST && train.bytes() <= LONGEST));
                // All but the last datagram are full, or a receiver would cut them elsewhere.
                if let Some(segment) = train.segment {
                    let (last, body) = train.pieces.split_last().unwrap();
                    prop_assert!(body.iter().all(|p| p.len.is_multiple_of(usize::from(segment))));
                    prop_assert!(last.len > 0);
                }
            }
        }
    }
}
