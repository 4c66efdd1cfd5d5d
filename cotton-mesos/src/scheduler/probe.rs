//! Whether the leading master can be reached from here, without subscribing: what schedulers that stand by tell the one
//! that leads.

use super::client::Client;
use super::config::SchedulerConfig;
use super::detector::MasterDetector;
use super::error::SchedulerError;
use reqwest::StatusCode;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How often in a row one master may point to another.
const REDIRECTS_MAX: usize = 5;

/// Looks whether there is a leading master that answers.
#[derive(Debug)]
pub struct MasterProbe {
    client: Client,
    detector: Arc<dyn MasterDetector>,
    patience: Duration,
}

impl MasterProbe {
    /// Prepares it: with the same configuration as the connection that it stands for.
    ///
    /// # Errors
    /// As [`HttpMesos::new`](super::HttpMesos::new).
    pub fn new(config: &SchedulerConfig, detector: Arc<dyn MasterDetector>) -> Result<Self, SchedulerError> {
        Ok(Self { client: Client::new(config)?, detector, patience: config.call_timeout })
    }

    /// Asks once. An answer that this caller may not have counts: it is one.
    pub async fn reaches_leader(&self) -> bool {
        let Ok(Ok(detected)) = timeout(self.patience, self.detector.leader()).await else { return false };
        let mut master = detected.clone();
        for _ in 0..=REDIRECTS_MAX {
            match self.client.operator(&master, &json!({ "type": "GET_HEALTH" })).await {
                Ok(_)
                | Err(SchedulerError::Denied { .. } | SchedulerError::Status { status: StatusCode::FORBIDDEN, .. }) => {
                    return true;
                }
                Err(SchedulerError::Redirected(to)) => master = to,
                Err(_) => break,
            }
        }
        self.detector.failed(&detected);
        false
    }
}
