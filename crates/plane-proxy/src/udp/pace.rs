//! When a worker lets datagrams gather before it looks for them again. Pure: time is passed in.
//!
//! A worker that is faster than those who send to it is woken for every few datagrams, and to be woken
//! costs as much as to pass one on. So it does what network cards do (adaptive interrupt moderation):
//! where many come in short order it sleeps first, for less than a network takes to carry them. A
//! client that sends one datagram at a time and waits for the answer never waits for that.

use std::time::Duration;

/// How long datagrams gather.
pub(crate) const GATHER: Duration = Duration::from_micros(20);

/// Times at which datagrams were served are close together if they are so many µs apart at most.
const CLOSE: u64 = 200;

/// Fewer datagrams at a time are those of one or two clients who wait for their answers.
const SEVERAL: usize = 3;

/// So many at a time are worth being woken for.
const MANY: usize = 64;

/// It has been worth it if so many have gathered.
const WORTH: usize = 4;

/// So often in a row it is not tried again, at most, where it has not been worth it.
const LONGEST: u32 = 1023;

/// What has come of late.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    served: u64,
    gathered: bool,
    /// How often it is not tried again, and how often it still is not.
    pause: u32,
    left: u32,
}

impl Pace {
    /// All there was, `datagrams`, has been served at `now` (in µs). Whether to let some gather.
    pub(crate) fn gathers(&mut self, datagrams: usize, now: u64) -> bool {
        let close = now.saturating_sub(self.served) <= CLOSE;
        self.served = now;
        if self.gathered {
            self.pause = match datagrams >= WORTH {
                true => 0,
                false => (self.pause * 2 + 1).min(LONGEST),
            };
            self.left = self.pause;
        }
        self.gathered = close && (SEVERAL..MANY).contains(&datagrams) && self.left == 0;
        self.left = self.left.saturating_sub(1);
        self.gathered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often datagrams gather, of 1000 times that so many come, so many µs apart.
    fn times(datagrams: impl Fn(bool) -> usize, apart: u64) -> usize {
        let (mut pace, mut gathered) = (Pace::default(), false);
        let mut count = 0;
        for turn in 1..=1000 {
            gathered = pace.gathers(datagrams(gathered), turn * apart);
            count += usize::from(gathered);
        }
        count
    }

    #[test]
    fn they_gather_where_several_come_in_short_order() {
        assert!(times(|_| 4, 30) > 990);
        assert_eq!(times(|_| 4, 1000), 0, "there is time enough");
        assert_eq!(times(|_| 1, 30), 0, "one client waits for its answer");
        assert_eq!(times(|_| MANY, 30), 0, "they are many already");
    }

    #[test]
    fn where_nothing_comes_of_it_it_is_seldom_tried() {
        let lost = times(|gathered| if gathered { 2 } else { 3 }, 30);
        assert!((5..=10).contains(&lost), "{lost}");
        // And it is taken up again as soon as it is worth it.
        let mut pace = Pace::default();
        let mut now = 0;
        let mut turn = |pace: &mut Pace, datagrams| {
            now += 30;
            pace.gathers(datagrams, now)
        };
        assert!(turn(&mut pace, 3));
        assert!(!turn(&mut pace, 2));
        assert!(turn(&mut pace, 5));
        assert!(turn(&mut pace, 5));
    }
}
