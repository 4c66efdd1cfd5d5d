//! Amounts of cpus, memory and disk, in whole numbers: thousandths of a cpu and bytes.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One mebibyte, in bytes.
pub const MIB: u64 = 1024 * 1024;

/// Cpus, memory and disk of one task, or of what an agent offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a cpu.
    pub cpus_milli: u64,
    /// Memory in bytes.
    pub mem_bytes: u64,
    /// Disk in bytes.
    pub disk_bytes: u64,
}

/// One of the amounts in [`Resources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// Cpus.
    Cpus,
    /// Memory.
    Mem,
    /// Disk.
    Disk,
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpus => "cpus",
            Self::Mem => "mem",
            Self::Disk => "disk",
        })
    }
}

impl Resources {
    /// What an executor needs for itself, taken from the member's size: 0.01 cpus, 32 MiB memory, 1 MiB disk.
    pub const EXECUTOR: Self = Self { cpus_milli: 10, mem_bytes: 32 * MIB, disk_bytes: MIB };

    /// A member's size when none is asked for: 1 cpu, 512 MiB memory, 2 GiB disk.
    pub const DEFAULT: Self = Self { cpus_milli: 1000, mem_bytes: 512 * MIB, disk_bytes: 2048 * MIB };

    /// The three amounts with their kinds.
    pub const fn amounts(&self) -> [(ResourceKind, u64); 3] {
        [
            (ResourceKind::Cpus, self.cpus_milli),
            (ResourceKind::Mem, self.mem_bytes),
            (ResourceKind::Disk, self.disk_bytes),
        ]
    }

    /// The first amount of which `self` has less than `wanted`.
    pub fn lacks(&self, wanted: &Self) -> Option<ResourceKind> {
        let pairs = self.amounts().into_iter().zip(wanted.amounts());
        pairs.into_iter().find(|((_, have), (_, want))| have < want).map(|((kind, _), _)| kind)
    }

    /// What is left after taking `other`; `None` when there is not enough.
    #[must_use]
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        Some(Self {
            cpus_milli: self.cpus_milli.checked_sub(other.cpus_milli)?,
            mem_bytes: self.mem_bytes.checked_sub(other.mem_bytes)?,
            disk_bytes: self.disk_bytes.checked_sub(other.disk_bytes)?,
        })
    }

    /// What is still needed of it when there is `other`.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        Self {
            cpus_milli: self.cpus_milli.saturating_sub(other.cpus_milli),
            mem_bytes: self.mem_bytes.saturating_sub(other.mem_bytes),
            disk_bytes: self.disk_bytes.saturating_sub(other.disk_bytes),
        }
    }

    /// The sum; saturates.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            cpus_milli: self.cpus_milli.saturating_add(other.cpus_milli),
            mem_bytes: self.mem_bytes.saturating_add(other.mem_bytes),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
        }
    }

    /// `self` taken `n` times; saturates.
    #[must_use]
    pub fn times(&self, n: u64) -> Self {
        Self {
            cpus_milli: self.cpus_milli.saturating_mul(n),
            mem_bytes: self.mem_bytes.saturating_mul(n),
            disk_bytes: self.disk_bytes.saturating_mul(n),
        }
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, milli) = (self.cpus_milli / 1000, self.cpus_milli % 1000);
        let (mem, disk) = (self.mem_bytes / MIB, self.disk_bytes / MIB);
        if milli == 0 {
            let s = if whole == 1 { "" } else { "s" };
            write!(f, "{whole} cpu{s}, {mem} MiB memory, {disk} MiB disk")
        } else {
            write!(f, "{whole}.{milli:03} cpus, {mem} MiB memory, {disk} MiB disk")
        }
    }
}

/// TCP ports as inclusive ranges, ascending and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// From inclusive ranges in any order; empty ranges (`begin > end`) are dropped, touching ones joined.
    pub fn new(ranges: impl IntoIterator<Item = (u16, u16)>) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().filter(|(begin, end)| begin <= end).collect();
        sorted.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::with_capacity(sorted.len());
        for (begin, end) in sorted {
            match joined.last_mut() {
                Some(last) if u32::from(begin) <= u32::from(last.1) + 1 => last.1 = last.1.max(end),
                _ => joined.push((begin, end)),
            }
        }
        Self(joined)
    }

    /// The ranges, ascending, inclusive.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// How many ports there are.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|(begin, end)| u32::from(end - begin) + 1).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `port` is among them.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|&(begin, end)| (begin..=end).contains(&port))
    }

    /// Takes a port by rule: the `seed mod len`-th, so that consecutive seeds spread over the ranges and a port
    /// that was just given up is not the next to be used.
    pub fn take(&mut self, seed: u64) -> Option<u16> {
        let len = u64::from(self.len());
        let mut index = u32::try_from(seed.checked_rem(len)?).ok()?;
        for &(begin, end) in &self.0 {
            let size = u32::from(end - begin) + 1;
            if index < size {
                let port = begin + u16::try_from(index).ok()?;
                self.remove(port);
                return Some(port);
            }
            index -= size;
        }
        None
    }

    /// Removes one port, if it is there.
    pub fn remove(&mut self, port: u16) {
        let ranges = std::mem::take(&mut self.0);
        for (begin, end) in ranges {
            if !(begin..=end).contains(&port) {
                self.0.push((begin, end));
                continue;
            }
            if begin < port {
                self.0.push((begin, port - 1));
            }
            if port < end {
                self.0.push((port + 1, end));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lacks_names_the_first_shortage() {
        let have = Resources { cpus_milli: 100, mem_bytes: 5, disk_bytes: 5 };
        assert_eq!(have.lacks(&have), None);
        assert_eq!(have.lacks(&Resources { mem_bytes: 6, ..have }), Some(ResourceKind::Mem));
        assert_eq!(have.lacks(&Resources { cpus_milli: 101, ..have }), Some(ResourceKind::Cpus));
        assert_eq!(have.checked_sub(&Resources { disk_bytes: 6, ..have }), None);
    }

    #[test]
    fn prints_for_people() {
        assert_eq!(Resources::DEFAULT.to_string(), "1 cpu, 512 MiB memory, 2048 MiB disk");
        assert_eq!(Resources::EXECUTOR.to_string(), "0.010 cpus, 32 MiB memory, 1 MiB disk");
    }

    #[test]
    fn ports_join_and_split() {
        let mut ports = Ports::new([(5, 6), (1, 2), (3, 4), (9, 8), (65535, 65535)]);
        assert_eq!(ports.ranges(), [(1, 6), (65535, 65535)]);
        ports.remove(3);
        assert_eq!(ports.ranges(), [(1, 2), (4, 6), (65535, 65535)]);
        assert_eq!((ports.take(0), ports.take(4), ports.take(4)), (Some(1), Some(65535), Some(2)));
        assert_eq!(Ports::default().take(1), None);
    }

    proptest! {
        #[test]
        fn taking_every_port_gives_each_once(begin in 1u16..1000, size in 1u16..40, seed: u64) {
            let mut ports = Ports::new([(begin, begin + size)]);
            let mut taken: Vec<u16> = std::iter::from_fn(|| ports.take(seed)).collect();
            taken.sort_unstable();
            prop_assert_eq!(taken, (begin..=begin + size).collect::<Vec<_>>());
        }
    }
}
