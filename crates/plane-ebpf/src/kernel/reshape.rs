//! From values of one layout to those of another, by the names of their numbers; pure.

use std::collections::BTreeMap;

use crate::sys::{Place, Shape};

/// Brings values of one shape into another. What the other does not have is left out; what only it has is
/// zero.
#[derive(Clone, Debug)]
pub(super) struct Reshape {
    size: usize,
    moves: Vec<(Place, Place)>,
}

impl Reshape {
    pub(super) fn new(from: &Shape, to: &Shape) -> Self {
        let moves = to.places.iter().filter_map(|(name, to)| {
            let from = from.places.get(name)?;
            Some((*from, *to))
        });
        Self {
            size: to.size,
            moves: moves.collect(),
        }
    }

    /// The value in its new shape; none if a number does not fit into its new place.
    pub(super) fn apply(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut reshaped = vec![0; self.size];
        for (from, to) in &self.moves {
            for i in 0..from.count.min(to.count) {
                write(&mut reshaped, *to, i, read(value, *from, i)?)?;
            }
        }
        Some(reshaped)
    }
}

/// One of the numbers at a place. Programs are compiled for machines that write the lowest byte first.
pub(super) fn read(value: &[u8], place: Place, i: usize) -> Option<u64> {
    let from = place.offset.checked_add(i.checked_mul(place.size)?)?;
    let bytes = value.get(from..from.checked_add(place.size)?)?;
    let mut number = [0; 8];
    number.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u64::from_le_bytes(number))
}

/// Writes one of the numbers at a place; none if it does not fit.
pub(super) fn write(value: &mut [u8], place: Place, i: usize, number: u64) -> Option<()> {
    let from = place.offset.checked_add(i.checked_mul(place.size)?)?;
    let bytes = value.get_mut(from..from.checked_add(place.size)?)?;
    let number = number.to_le_bytes();
    let (kept, cut) = number.split_at_checked(bytes.len())?;
    if cut.iter().any(|byte| *byte != 0) {
        return None;
    }
    bytes.copy_from_slice(kept);
    Some(())
}

/// Writes numbers by their names, as far as there are such.
pub(super) fn set(value: &mut [u8], shape: &Shape, numbers: &BTreeMap<&str, u64>) {
    for (name, number) in numbers {
        if let Some(place) = shape.places.get(*name) {
            let _ = write(value, *place, 0, *number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(size: usize, places: &[(&str, usize, usize, usize)]) -> Shape {
        let places = places.iter().map(|(name, offset, size, count)| {
            let place = Place {
                offset: *offset,
                size: *size,
                count: *count,
            };
            ((*name).to_owned(), place)
        });
        Shape {
            size,
            places: places.collect(),
        }
    }

    #[test]
    fn fields_move_widen_and_go() {
        let from = shape(8, &[("a", 0, 2, 1), ("b", 2, 1, 2), ("gone", 4, 4, 1)]);
        let to = shape(12, &[("b", 0, 2, 3), ("new", 6, 2, 1), ("a", 8, 4, 1)]);
        let value = [1, 2, 3, 4, 9, 9, 9, 9];
        let there = Reshape::new(&from, &to).apply(&value).unwrap();
        assert_eq!(there, [3, 0, 4, 0, 0, 0, 0, 0, 1, 2, 0, 0]);
        let back = Reshape::new(&to, &from).apply(&there).unwrap();
        assert_eq!(back, [1, 2, 3, 4, 0, 0, 0, 0]);
        let wide = [3, 1, 4, 0, 0, 0, 0, 0, 1, 2, 0, 0];
        assert_eq!(Reshape::new(&to, &from).apply(&wide), None);
        assert_eq!(Reshape::new(&to, &from).apply(&wide[..4]), None);
    }
}
