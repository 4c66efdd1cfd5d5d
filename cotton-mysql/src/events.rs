//! Events run on the open primary, and those that were disabled stay so.
//!
//! A replica notes of each event that it is not to run there, whether it was enabled or disabled on the primary: which of
//! them it was is lost. So the primary keeps the names of disabled events in a table of its own, which the replicas have by
//! replication, and whoever is primary next enables all others.

use crate::Error;
use crate::dialect::quote;
use crate::sql::Link;
use std::collections::BTreeSet;
use std::time::Duration;

/// Where the names of disabled events are; users do not see it.
const TABLE: &str = "mysql.cotton_disabled_events";
/// There is no such table.
const NO_SUCH_TABLE: u16 = 1146;

/// Database and name of an event.
type Name = (String, String);

/// Lets those events run that shall, and notes which shall not. Only what differs is written.
pub(crate) async fn keep(link: &Link, limit: Duration) -> Result<(), Error> {
    let sql = "SELECT EVENT_SCHEMA AS d, EVENT_NAME AS n, DEFINER AS who, STATUS AS s, CHARACTER_SET_CLIENT AS c, \
               COLLATION_CONNECTION AS l FROM information_schema.EVENTS";
    let events = link.query("look for events", sql, limit).await?;
    let noted = noted(link, limit).await?;
    let mut disabled: BTreeSet<Name> = BTreeSet::new();
    let mut failed = None;
    for row in &events {
        let (Some(database), Some(name), Some(status)) = (row.text("d"), row.text("n"), row.text("s")) else {
            continue;
        };
        let event = (database, name);
        let by_a_replica = matches!(status.as_str(), "SLAVESIDE_DISABLED" | "REPLICA_SIDE_DISABLED");
        let stays = status == "DISABLED" || by_a_replica && noted.as_ref().is_some_and(|noted| noted.contains(&event));
        if by_a_replica {
            let (definer, charset, collation) = (row.text("who"), row.text("c"), row.text("l"));
            let altered = alter(link, &event, definer, (charset, collation), !stays, limit).await;
            match altered {
                Err(error) if error.is_connection() => return Err(error),
                Err(error) => failed = failed.or(Some(error)), // the others shall run all the same
                Ok(()) => {}
            }
        }
        if stays {
            disabled.insert(event);
        }
    }
    note(link, noted, &disabled, limit).await?;
    failed.map_or(Ok(()), Err)
}

/// The names that the table has, if there is one.
async fn noted(link: &Link, limit: Duration) -> Result<Option<BTreeSet<Name>>, Error> {
    let sql = format!("SELECT event_schema AS d, event_name AS n FROM {TABLE}");
    match link.query("read which events are disabled", &sql, limit).await {
        Ok(rows) => Ok(Some(rows.iter().filter_map(|row| Some((row.text("d")?, row.text("n")?))).collect())),
        Err(error) if error.server_code() == Some(NO_SUCH_TABLE) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn note(
    link: &Link,
    noted: Option<BTreeSet<Name>>,
    disabled: &BTreeSet<Name>,
    limit: Duration,
) -> Result<(), Error> {
    let what = "note which events are disabled";
    if noted.is_none() && !disabled.is_empty() {
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {TABLE} (event_schema VARCHAR(64) NOT NULL, event_name VARCHAR(64) NOT NULL, PRIMARY \
             KEY (event_schema, event_name)) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        );
        link.run(what, &sql, limit).await?;
    }
    let noted = noted.unwrap_or_default();
    for (database, name) in disabled.difference(&noted) {
        let sql = format!("REPLACE INTO {TABLE} VALUES ({}, {})", quote(database)?, quote(name)?);
        link.run(what, &sql, limit).await?;
    }
    for (database, name) in noted.difference(disabled) {
        let (database, name) = (quote(database)?, quote(name)?);
        let sql = format!("DELETE FROM {TABLE} WHERE event_schema = {database} AND event_name = {name}");
        link.run(what, &sql, limit).await?;
    }
    Ok(())
}

/// Enables an event, or disables it on all servers. It stays its definer's, and its statements go on to be read in the
/// character set that they were written in: servers note that of whoever alters it.
async fn alter(
    link: &Link,
    (database, name): &Name,
    definer: Option<String>,
    (charset, collation): (Option<String>, Option<String>),
    enable: bool,
    limit: Duration,
) -> Result<(), Error> {
    let what = "enable an event";
    let Some(definer) = definer.as_deref().and_then(|definer| definer.rsplit_once('@')) else { return Ok(()) };
    let definer = format!("{}@{}", quote(definer.0)?, quote(definer.1)?);
    let state = if enable { "ENABLE" } else { "DISABLE" };
    let event = format!("{}.{}", identifier(database), identifier(name));
    let sql = format!("ALTER DEFINER = {definer} EVENT {event} {state}");
    let (Some(charset), Some(collation)) = (charset, collation) else { return link.run(what, &sql, limit).await };
    if !sql.is_ascii() && !charset.starts_with("utf8") {
        return link.run(what, &sql, limit).await; // its name could not be told in that character set
    }
    let as_its_author = format!(
        "SET SESSION character_set_client = {}, SESSION collation_connection = {}",
        quote(&charset)?,
        quote(&collation)?
    );
    link.run(what, &as_its_author, limit).await?;
    let altered = link.run(what, &sql, limit).await;
    link.run(what, "SET NAMES utf8mb4", limit).await?;
    altered
}

fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
