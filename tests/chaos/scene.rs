//! One round as those see it that act in it.

use crate::ledger::Ledger;
use crate::stage::Stage;
use cotton_tests::{Api, Cluster};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// See the module.
pub(crate) struct Scene<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) api: Api,
    pub(crate) ledger: &'a Ledger,
    /// The cluster before anything happened, healthy.
    pub(crate) before: Cluster,
    pub(crate) begun: Instant,
    notes: Mutex<Vec<String>>,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(stage: &'a Stage, ledger: &'a Ledger, before: Cluster) -> Self {
        Self { stage, api: stage.api(), ledger, before, begun: Instant::now(), notes: Mutex::default() }
    }

    /// Writes down what is done, with the time.
    pub(crate) fn note(&self, text: &str) {
        let line = format!("{:>7.3} s  {text}", self.begun.elapsed().as_secs_f64());
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// All that was done.
    pub(crate) fn notes(&self) -> String {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}
