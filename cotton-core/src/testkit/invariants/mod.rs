//! What must hold whatever happens: one rule a file. Each checker sees what really happened in the simulated world,
//! not what the machines believe, and answers with words when its rule is broken.

pub(crate) mod durable_first;
pub(crate) mod healing;
pub(crate) mod last_copy;
pub(crate) mod let_go;
pub(crate) mod no_loss;
pub(crate) mod no_more_than_wanted;
pub(crate) mod one_writer;
pub(crate) mod published_primary;
pub(crate) mod way_out;
pub(crate) mod withdrawal;

/// Number of one life of a cluster: the same name asked for again after a deletion is another one.
pub(crate) type Life = usize;

/// Number of one task in the whole world.
pub(crate) type Task = usize;

/// What a checker says of what it saw.
pub(crate) type Verdict = Result<(), String>;
