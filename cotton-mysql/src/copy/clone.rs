//! Copies of MySQL, by its own clone plugin: into a directory beside the data, so that this server's own data stays
//! until the copy is complete.

use crate::config::Timing;
use crate::dialect::quote;
use crate::sql::Link;
use crate::{Error, accounts};
use cotton_core::Endpoint;
use secrecy::{ExposeSecret, SecretString};
use std::path::Path;
use std::time::Duration;

/// How often the donor is looked at while it is cloned, and how many failures in a row mean that it is gone.
const LOOK: Duration = Duration::from_secs(2);
const FAILURES_MAX: u32 = 5;

/// Makes a complete data directory of a donor's in `building`, which must not exist. `admin` is the own, running server,
/// `donor_link` the donor with the replication account.
///
/// When this fails, the own server may still be at it and must be killed.
pub(crate) async fn clone_from(
    admin: &Link,
    donor: &Endpoint,
    donor_link: &Link,
    password: &SecretString,
    building: &Path,
    timing: Timing,
) -> Result<(), Error> {
    let (host, port, user) = (quote(&donor.host)?, donor.port, accounts::REPLICATION);
    let list = quote(&format!("{}:{port}", donor.host))?;
    admin.run("allow the donor", &format!("SET GLOBAL clone_valid_donor_list = {list}"), timing.statement).await?;
    let (secret, directory) = (quote(password.expose_secret())?, quote(&building.display().to_string())?);
    let sql = format!("CLONE INSTANCE FROM '{user}'@{host}:{port} IDENTIFIED BY {secret} DATA DIRECTORY = {directory}");
    tokio::select! {
        cloned = admin.run("clone the donor", &sql, timing.copy) => cloned,
        error = until_gone(donor_link, timing.connect) => Err(error),
    }
}

/// The server itself would try for five minutes to reach a dead donor.
async fn until_gone(donor: &Link, limit: Duration) -> Error {
    let mut failures = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        match donor.warm(limit).await {
            Ok(()) => failures = 0,
            Err(error) if failures + 1 == FAILURES_MAX => {
                return Error::CopyIncomplete(format!("the donor is gone: {error}"));
            }
            Err(_) => failures += 1,
        }
    }
}
