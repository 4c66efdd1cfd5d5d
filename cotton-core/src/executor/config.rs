//! How patient the agent-side machine is.

use crate::resources::MIB;

/// Times and limits of an [`Executor`](super::Executor). The defaults suit production; tests shorten them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorConfig {
    /// Longest silence between two reports.
    pub report_interval_ms: u64,
    /// From the start of one probe to the start of the next.
    pub probe_interval_ms: u64,
    /// So many failed probes in a row, and the server counts as hung: it is killed.
    pub probe_failures_max: u32,
    /// The same of a server that is certainly not open for writes. Ending it would fence nothing, and a disk that stalls
    /// for some seconds should not cost a start of it.
    pub probe_failures_closed_max: u32,
    /// How long one call to apply what was received may take: so long may a newer order have to wait.
    pub drain_ms: u64,
    /// For how long a primary without a lease believes what it saw of its replicas.
    pub replicas_known_ms: u64,
    /// A server that was killed and is still there so long is reported as hung, so that a primary is replaced.
    pub hung_ms: u64,
    /// Pause before the first repetition of a failed operation; doubles with each further one.
    pub retry_ms_min: u64,
    /// Longest pause before the repetition of a failed operation.
    pub retry_ms_max: u64,
    /// Pause before a refusal that will hardly change by itself (errant, incomplete) is checked again.
    pub recheck_ms: u64,
    /// Pause after the first copy of the data that failed; doubles with each further one in a row.
    pub copy_pause_ms_min: u64,
    /// Longest pause between two copies.
    pub copy_pause_ms_max: u64,
    /// After so many copies that failed, a member that is to begin with one does without, if the primary's binary logs reach
    /// back.
    pub first_copies_max: usize,
    /// So many unplanned starts of the server within [`Self::restart_window_ms`]; one more, and the member is reported
    /// as unstable, and rests before each further start. A server that never ran at all is then given up.
    pub restarts_max: usize,
    /// See [`Self::restarts_max`].
    pub restart_window_ms: u64,
    /// Pause before the second unplanned start within the window (the first is immediate); doubles with each one.
    pub restart_pause_ms: u64,
    /// Pause before a start of an unstable server.
    pub restart_rest_ms: u64,
    /// So many ends of a replica's applier with an error within [`Self::applier_window_ms`], and the member is reported as
    /// broken: a fresh copy of the data will do better.
    pub applier_failures_max: usize,
    /// See [`Self::applier_failures_max`].
    pub applier_window_ms: u64,
    /// How long a crashed semi-synchronous primary stays down for the order to follow its successor, so that it can
    /// drop what nobody acknowledged. Without that order it starts with all it has: an election may need it.
    pub restart_hold_ms: u64,
    /// A primary that was told to step down opens again when so long no other order has come, nor an answer to a report.
    /// Longer than a scheduler takes to go on with the switchover or to take it back
    /// ([`Timing::step_down_ms`](crate::cluster::Timing::step_down_ms) and what follows it).
    pub take_back_ms: u64,
    /// So long after that order it opens again in any case, when no later one has come.
    pub take_back_ms_max: u64,
    /// How much of the time that a kill grants is kept for a clean stop; a primary waits for its successor during the rest.
    pub stop_reserve_ms: u64,
    /// How long the last task state waits for its acknowledgement before the executor ends anyway.
    pub farewell_ms: u64,
    /// Less free space than this where the data is, and the member reports a storage trouble.
    pub disk_free_bytes_min: u64,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self {
            report_interval_ms: 2_000,
            probe_interval_ms: 1_000,
            probe_failures_max: 3,
            probe_failures_closed_max: 30,
            drain_ms: 500,
            replicas_known_ms: 2_000,
            hung_ms: 4_000,
            retry_ms_min: 50,
            retry_ms_max: 2_000,
            recheck_ms: 10_000,
            copy_pause_ms_min: 1_000,
            copy_pause_ms_max: 60_000,
            first_copies_max: 6,
            restarts_max: 5,
            restart_window_ms: 600_000,
            restart_pause_ms: 100,
            restart_rest_ms: 60_000,
            applier_failures_max: 5,
            applier_window_ms: 60_000,
            restart_hold_ms: 1_500,
            take_back_ms: 20_000,
            take_back_ms_max: 60_000,
            stop_reserve_ms: 5_000,
            farewell_ms: 5_000,
            disk_free_bytes_min: 64 * MIB,
        }
    }
}
