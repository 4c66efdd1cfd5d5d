//! What was measured, and the bars to hold it against.

use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// A statistic, and what it must not exceed.
type Bar = (&'static str, f64);

const BARS: [(&str, &[Bar]); 16] = [
    ("failover.kill_to_write_ms", &[("p50", 25.0), ("p99", 100.0)]),
    ("failover.kill_to_replica_row_ms", &[("p50", 250.0)]),
    ("failover.blocked_applier_ms", &[("p99", 2_000.0)]),
    ("failover.backlog_ratio", &[("max", 1.1)]),
    ("switchover.write_gap_ms", &[("p50", 60.0), ("p99", 300.0)]),
    ("create.three_members_ms", &[("p50", 3_000.0)]),
    ("fleet.offers_1000_idle_us", &[("p50", 2_000.0)]),
    ("fleet.launch_1000_ms", &[("p50", 50.0)]),
    ("fleet.recover_10000_ms", &[("p50", 2_000.0)]),
    ("mesos.failover.kill_to_write_ms", &[("p50", 45.0), ("p99", 120.0)]),
    ("mesos.agent_cut.to_write_ms", &[("p50", 2_500.0), ("p99", 4_000.0)]),
    ("mesos.idle_clients.kill_to_write_ms", &[("p99", 500.0)]),
    ("mesos.scheduler_restart_ms", &[("p50", 1_500.0)]),
    ("mesos.leader_takeover_ms", &[("p99", 6_000.0)]),
    ("memory.executor_mb", &[("max", 12.0)]),
    ("memory.scheduler_10000_clusters_mb", &[("max", 150.0)]),
];

/// One measured quantity.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    name: &'static str,
    unit: &'static str,
    n: usize,
    min: f64,
    p50: f64,
    p99: f64,
    max: f64,
}

impl Measurement {
    /// Of all these values; at least one. The unit is what the name ends with.
    pub(crate) fn of(name: &'static str, values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let unit = name.rsplit('_').next().unwrap_or_default();
        Self {
            name,
            unit,
            n: values.len(),
            min: percentile(&values, 0),
            p50: percentile(&values, 50),
            p99: percentile(&values, 99),
            max: percentile(&values, 100),
        }
    }

    fn verdict(&self) -> String {
        let bars = BARS.iter().find(|(name, _)| *name == self.name).map_or(&[][..], |(_, bars)| bars);
        let verdict = |(statistic, bar): &Bar| {
            let value = match *statistic {
                "p50" => self.p50,
                "p99" => self.p99,
                _ => self.max,
            };
            format!("{statistic} <= {bar}: {}", if value <= *bar { "met" } else { "MISSED" })
        };
        bars.iter().map(verdict).collect::<Vec<_>>().join(", ")
    }
}

/// Nearest rank, of sorted values.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or_default()
}

/// Milliseconds, with three digits after the point.
pub(crate) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// For people.
pub(crate) fn table(all: &[Measurement]) -> String {
    let number = |value: f64| if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") };
    let mut text = format!("{:38} {:>4} {:>9} {:>9} {:>9} {:>9}  bar\n", "name", "n", "min", "p50", "p99", "max");
    for m in all {
        let [min, p50, p99, max] = [m.min, m.p50, m.p99, m.max].map(number);
        let row = format!("{:38} {:>4} {min:>9} {p50:>9} {p99:>9} {max:>9}  {}", m.name, m.n, m.verdict());
        let _ = writeln!(text, "{}", row.trim_end()); // a String takes everything
    }
    text
}
