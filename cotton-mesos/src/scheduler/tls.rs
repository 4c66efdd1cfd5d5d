//! Which authority a master's certificate must come from.

use super::error::SchedulerError;
use reqwest::Certificate;
use std::path::Path;

/// The certificates in a file, at least one.
pub(super) fn authorities(path: &Path) -> Result<Vec<Certificate>, SchedulerError> {
    let unusable = |reason: String| SchedulerError::Ca { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(unusable("there is no certificate in it".to_owned())),
        Err(error) => Err(unusable(error.to_string())),
    }
}
