//! Sets of transaction numbers as inclusive intervals. Always ascending, apart (two never touch) and none empty, so
//! that equal sets are equal values.

/// Largest transaction number that MySQL accepts: 2^63 - 2. Adding 1 to it cannot overflow.
pub(super) const GNO_MAX: u64 = i64::MAX as u64 - 1;

/// First and last number, both included.
pub(super) type Interval = (u64, u64);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Intervals(Vec<Interval>);

impl Intervals {
    /// From intervals in any order, each within `1..=GNO_MAX` and not reversed.
    pub(super) fn new(mut any: Vec<Interval>) -> Self {
        any.sort_unstable();
        let mut joined: Vec<Interval> = Vec::with_capacity(any.len());
        for (first, last) in any {
            debug_assert!((1..=last).contains(&first) && last <= GNO_MAX, "the parser lets no other interval in");
            match joined.last_mut() {
                Some(open) if first <= open.1 + 1 => open.1 = open.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Interval> + '_ {
        self.0.iter().copied()
    }

    /// How many numbers there are; fits, because the intervals are apart and below 2^63.
    pub(super) fn count(&self) -> u64 {
        self.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        Self::new([self.0.as_slice(), &other.0].concat())
    }

    /// What is in `self` and not in `other`.
    pub(super) fn subtract(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut holes = other.iter().peekable();
        for (mut first, last) in self.iter() {
            while holes.next_if(|hole| hole.1 < first).is_some() {}
            // A hole may reach into the next interval: it is looked at, and only dropped once it lies behind.
            while let Some(&(from, to)) = holes.peek().filter(|hole| hole.0 <= last) {
                if first < from {
                    left.push((first, from - 1));
                }
                first = to + 1;
                if last <= to {
                    break;
                }
                holes.next();
            }
            if first <= last {
                left.push((first, last));
            }
        }
        Self(left)
    }

    pub(super) fn contains(&self, other: &Self) -> bool {
        let mut mine = self.iter().peekable();
        other.iter().all(|(first, last)| {
            while mine.next_if(|have| have.1 < first).is_some() {}
            mine.peek().is_some_and(|have| have.0 <= first && last <= have.1)
        })
    }
}
