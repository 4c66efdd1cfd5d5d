//! Storage engines: which tables replication and copies keep whole, and what keeps users from making others.
//!
//! Only InnoDB's tables take part in transactions. A statement on any other engine can be half done on one member and
//! undone on the next, a `MEMORY` table is empty after a restart, and MySQL's clone copies other tables without their
//! rows and without a word. So the servers refuse such tables where they can:
//!
//! - MySQL 5.7.8 and later: `disabled_storage_engines`, also for temporary tables of clients. What the server makes for
//!   itself, as for a large `GROUP BY`, is not concerned.
//! - MariaDB: `enforce_storage_engine`. It takes InnoDB instead, with a note, or refuses the engine where the session's
//!   `sql_mode` has `NO_ENGINE_SUBSTITUTION`. It overlooks an engine that is named for partitions only, and for a table with
//!   partitions `default_storage_engine` of the session (10.11, 11.8).
//! - MySQL 5.6 can refuse what is not built in for good: `MyISAM`, `MEMORY` and `CSV` stay possible.
//!
//! What exists all the same is named where a copy would lose it.

use crate::Error;
use crate::dialect::Dialect;
use crate::sql::{Link, Record};
use std::time::Duration;

/// MySQL's engines without transactions, with all that a build may have.
pub(crate) const REFUSED: &str = "MyISAM,MRG_MyISAM,MEMORY,CSV,ARCHIVE,BLACKHOLE,FEDERATED,EXAMPLE,NDBCLUSTER,NDBINFO";

/// The one engine that every table shall have.
pub(crate) const ENFORCED: &str = "InnoDB";

/// Engines whose tables are complete in a copy by `mariabackup`, which stops all writers before it copies the last of them.
const IN_A_BACKUP: &str = "'InnoDB', 'MyISAM', 'MRG_MyISAM', 'Aria', 'CSV', 'ARCHIVE', 'BLACKHOLE', 'ROCKSDB'";
/// Engines whose tables are complete in a clone.
const IN_A_CLONE: &str = "'InnoDB'";

/// Names that are told; more would hide the rest of the message.
const NAMES_MAX: usize = 5;

/// Fails with the names of the tables whose rows a copy of this server would lack.
///
/// # Errors
/// That there are such tables, or that this cannot be found out.
pub(crate) async fn check_copy(dialect: Dialect, donor: &Link, limit: Duration) -> Result<(), Error> {
    let what = "look for tables that a copy would lack";
    let (complete, tool) = if dialect.is_mariadb() {
        (IN_A_BACKUP, "a backup")
    } else {
        check_sight(donor, limit).await?;
        (IN_A_CLONE, "a clone")
    };
    let mut rows = donor.query(what, &select(&format!("ENGINE NOT IN ({complete})")), limit).await?;
    if dialect.is_mariadb() {
        // it takes their files for what an interrupted ALTER TABLE has left
        rows.extend(donor.query(what, &select("TABLE_NAME LIKE '#mysql50##sql%'"), limit).await?);
    }
    let Some(tables) = names(&rows) else { return Ok(()) };
    Err(Error::Unsupported(format!(
        "{tool} would lack the rows of {tables}: change them on the primary (ALTER TABLE ... ENGINE = InnoDB, or \
         another name where it begins with #mysql50##sql) or drop them; the copy is tried again"
    )))
}

/// Base tables of clients of which this is true.
fn select(condition: &str) -> String {
    format!(
        "SELECT TABLE_SCHEMA AS s, TABLE_NAME AS t, ENGINE AS e FROM information_schema.tables WHERE TABLE_TYPE = 'BASE \
         TABLE' AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') AND {condition} \
         ORDER BY 1, 2"
    )
}

/// For people: the first few, and how many more there are.
fn names(rows: &[Record]) -> Option<String> {
    let name = |row: &Record| Some(format!("{}.{} ({})", row.text("s")?, row.text("t")?, row.text("e")?));
    let mut names: Vec<String> = rows.iter().filter_map(name).collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    (!names.is_empty()).then(|| names.join(", "))
}

/// Whether the replication account sees all tables: one that it has no right to is not listed for it, and would be missed.
async fn check_sight(donor: &Link, limit: Duration) -> Result<(), Error> {
    let sql = "SELECT COUNT(*) AS n FROM information_schema.user_privileges WHERE PRIVILEGE_TYPE = 'SHOW VIEW'";
    let row = donor.row("read the rights of the replication account", sql, limit).await?;
    if row.number("n").is_some_and(|n| n > 0) {
        return Ok(());
    }
    let text = "the donor's replication account lacks the right SHOW VIEW, so that tables which a clone would lack cannot \
                be seen";
    Err(Error::Unsupported(text.to_owned()))
}
