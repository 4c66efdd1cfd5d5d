//! What keeps commits on an open primary: they are on disk before they are answered, and wait for acknowledgements.
//!
//! All of that is set when the server starts or is promoted. An administrator with the server's socket can change it
//! afterwards, and nothing would be seen until a failover loses commits. So it is looked at every now and then, and put right.

use crate::Error;
use crate::cnf::ACK_TIMEOUT_MS;
use crate::dialect::Dialect;
use crate::sql::{Link, Record};
use std::fmt::Write;
use std::time::Duration;

/// A global variable, and the value that it shall have as `SELECT` shows it.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    name: String,
    value: String,
}

impl Setting {
    fn new(name: &str, value: &dyn ToString) -> Self {
        Self { name: name.to_owned(), value: value.to_string() }
    }
}

/// Makes commits wait for that many acknowledgements.
pub(crate) async fn want_acks(link: &Link, dialect: Dialect, acks: u32, limit: Duration) -> Result<(), Error> {
    set(link, "switch semi-sync on", &of_acks(dialect, acks), limit).await?;
    if do_commits_wait(link, dialect, limit).await? {
        Ok(())
    } else {
        Err(Error::NotYet("semi-sync does not work although it was switched on".to_owned()))
    }
}

/// Whether the server waits for acknowledgements. One that waited in vain for as long as it was told to does not any more,
/// although that is switched on.
async fn do_commits_wait(link: &Link, dialect: Dialect, limit: Duration) -> Result<bool, Error> {
    let word = dialect.statements().semi_sync_source;
    let sql = format!("SHOW GLOBAL STATUS LIKE 'rpl_semi_sync_{word}_status'");
    Ok(link.row("check semi-sync", &sql, limit).await?.at(1).as_deref() == Some("ON"))
}

/// Puts right what was changed on an open primary whose commits wait for that many acknowledgements, perhaps none.
pub(crate) async fn keep(link: &Link, dialect: Dialect, acks: u32, limit: Duration) -> Result<(), Error> {
    let wanted = wanted(dialect, acks);
    let mut sql = String::from("SELECT @@GLOBAL.read_only AS read_only");
    for Setting { name, .. } in &wanted {
        let _ = write!(sql, ", @@GLOBAL.{name} AS {name}");
    }
    let row = link.row("read what keeps commits", &sql, limit).await?;
    let changed = differing(&row, wanted);
    if row.is_on("read_only") {
        return Ok(());
    }
    let waits = acks == 0 || do_commits_wait(link, dialect, limit).await?;
    if !waits {
        // it begins to wait again when that is switched on, but not when it is on already
        let off = format!("SET GLOBAL rpl_semi_sync_{}_enabled = 0", dialect.statements().semi_sync_source);
        link.run("switch semi-sync off and on", &off, limit).await?;
        want_acks(link, dialect, acks, limit).await?;
        tracing::warn!("commits had stopped waiting for acknowledgements: they wait again");
    }
    if changed.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = changed.iter().map(|setting| setting.name.as_str()).collect();
    tracing::warn!(settings = names.join(", "), "what keeps commits was changed by hand: it is put right");
    set(link, "put right what keeps commits", &changed, limit).await
}

fn differing(row: &Record, mut wanted: Vec<Setting>) -> Vec<Setting> {
    wanted.retain(|setting| row.text(&setting.name).is_none_or(|value| value != setting.value));
    wanted
}

/// In one statement and in that order.
async fn set(link: &Link, what: &'static str, settings: &[Setting], limit: Duration) -> Result<(), Error> {
    let each = settings.iter().map(|Setting { name, value }| format!("GLOBAL {name} = {}", literal(value)));
    link.run(what, &format!("SET {}", each.collect::<Vec<_>>().join(", ")), limit).await
}

/// Numbers, or names such as `AFTER_SYNC`.
fn literal(value: &str) -> String {
    if value.bytes().all(|byte| byte.is_ascii_digit()) { value.to_owned() } else { format!("'{value}'") }
}

fn wanted(dialect: Dialect, acks: u32) -> Vec<Setting> {
    let mut wanted = vec![Setting::new("sync_binlog", &1), Setting::new("innodb_flush_log_at_trx_commit", &1)];
    if acks > 0 {
        wanted.append(&mut of_acks(dialect, acks));
    }
    if dialect.is_mysql_from((5, 7, 5)) {
        wanted.push(Setting::new("offline_mode", &0)); // clients are let in once commits wait again
    }
    wanted
}

/// What is switched on comes last.
fn of_acks(dialect: Dialect, acks: u32) -> Vec<Setting> {
    let words = dialect.statements();
    let name = format!("rpl_semi_sync_{}", words.semi_sync_source);
    let mut wanted = vec![
        Setting::new(&format!("{name}_timeout"), &ACK_TIMEOUT_MS),
        Setting::new(&format!("{name}_wait_no_{}", words.semi_sync_replica), &1),
    ];
    if !dialect.is_mysql_before((5, 7, 2)) {
        wanted.push(Setting::new(&format!("{name}_wait_point"), &"AFTER_SYNC"));
    }
    if let Some(count) = words.wait_acks {
        wanted.push(Setting::new(&format!("{name}_{count}"), &acks));
    }
    wanted.push(Setting::new(&format!("{name}_enabled"), &1));
    wanted
}
