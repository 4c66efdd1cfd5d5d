//! Copies of MySQL, by its own clone plugin: into a directory beside the data, so that this server's own data stays
//! until the copy is complete.

use crate::config::Timing;
use crate::dialect::quote;
use crate::sql::Link;
use crate::status::Reader;
use crate::{Error, accounts, engines};
use cotton_core::Endpoint;
use secrecy::{ExposeSecret, SecretString};
use std::path::Path;
use std::time::Duration;

/// How often the donor is looked at while it is cloned, and how many failures in a row mean that it is gone.
const LOOK: Duration = Duration::from_secs(2);
const FAILURES_MAX: u32 = 5;

/// So many looks with commits that wait and without a replica: the clone waits for them, and the donor did not let go of them
/// (see `unblock`), as it does within a few seconds.
const STUCK_MAX: u32 = 15;

/// Makes a complete data directory of a donor's in `building`, which must not exist. `admin` is the own, running server,
/// the link is to the donor with the replication account.
///
/// When this fails, the own server may still be at it and must be killed.
pub(crate) async fn clone_from(
    admin: &Link,
    donor: &Endpoint,
    (donor_link, reader): (&Link, Reader),
    password: &SecretString,
    building: &Path,
    timing: Timing,
) -> Result<(), Error> {
    let (host, port, user) = (quote(&donor.host)?, donor.port, accounts::REPLICATION);
    let list = quote(&format!("{}:{port}", donor.host))?;
    engines::check_copy(reader.dialect, donor_link, timing.statement).await?;
    admin.run("allow the donor", &format!("SET GLOBAL clone_valid_donor_list = {list}"), timing.statement).await?;
    let (secret, directory) = (quote(password.expose_secret())?, quote(&building.display().to_string())?);
    let sql = format!("CLONE INSTANCE FROM '{user}'@{host}:{port} IDENTIFIED BY {secret} DATA DIRECTORY = {directory}");
    tokio::select! {
        cloned = admin.run("clone the donor", &sql, timing.copy) => cloned?,
        error = until_hopeless(donor_link, reader.clone(), timing.connect) => return Err(error),
    }
    // again: what the first look did not see yet may have been cloned without its rows
    engines::check_copy(reader.dialect, donor_link, timing.statement).await
}

/// The server itself would try for five minutes to reach a dead donor, and wait without end for commits that wait.
async fn until_hopeless(donor: &Link, reader: Reader, limit: Duration) -> Error {
    let (mut failures, mut stuck) = (0, 0);
    loop {
        tokio::time::sleep(LOOK).await;
        let looked = if reader.semi_sync {
            reader.counters(donor, true, limit).await
        } else {
            donor.warm(limit).await.map(|()| (0, 0))
        };
        match looked {
            Ok((replicas, waiting)) => {
                failures = 0;
                stuck = if replicas == 0 && waiting > 0 { stuck + 1 } else { 0 };
            }
            Err(error) if failures + 1 == FAILURES_MAX => {
                return Error::CopyIncomplete(format!("the donor is gone: {error}"));
            }
            Err(_) => failures += 1,
        }
        if stuck == STUCK_MAX {
            let text = "the donor's commits wait for an acknowledgement, and it cannot be cloned before one has come: \
                        bring one of its replicas back, or make commits asynchronous for the time of the copy";
            return Error::NotYet(text.to_owned());
        }
    }
}
