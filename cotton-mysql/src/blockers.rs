//! What holds an applier back, and how to end that.
//!
//! A client's session on a replica can keep the applier waiting for as long as it likes: with a transaction that has only
//! read (its metadata locks hold up an `ALTER TABLE`), with rows that it locked, with `LOCK TABLES`, `FLUSH TABLES` or a
//! long statement. Who holds a metadata lock is told by no server in all its configurations. So first those are ended who
//! are in a transaction or run a statement, since most such locks are theirs, and a moment later everybody.
//!
//! On MySQL, locks also stay with transactions that a client has prepared (`XA PREPARE`) and left: nobody's session has them.
//! One that has only read is in no binary log, and can be rolled back; the engine does not list it (9.7). Those that have
//! written came by replication and stay.
//!
//! Our own sessions, those of replication and the server's own threads are never ended.

use crate::Error;
use crate::dialect::Dialect;
use crate::sessions::{self, Kill};
use crate::sql::{Link, Record};
use std::collections::BTreeSet;
use std::time::Duration;

/// Threads of a server that replicates.
const APPLIERS: &str = "system user";

/// One look after the other at the same applier, while one operation goes on.
#[derive(Debug, Default)]
pub(crate) struct Blockers {
    /// Looks that found it waiting for a lock of the server.
    waits: u32,
    /// What it waits for, by the last look.
    pub(crate) waits_for: Option<String>,
}

/// The threads of a server, at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Threads {
    appliers: BTreeSet<u64>,
    /// What an applier waits for, if that is a lock of the server.
    waits_for: Option<String>,
    clients: BTreeSet<u64>,
    /// Those of them that run a statement, and do not wait themselves.
    busy: BTreeSet<u64>,
}

/// The engine's transactions, at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Transactions {
    /// Whether the server could list them.
    is_known: bool,
    all: BTreeSet<u64>,
    /// Those that have locked rows.
    locking: BTreeSet<u64>,
    /// Those that wait for rows.
    waiting: BTreeSet<u64>,
    /// Whether there is one that is prepared and has no session.
    detached: bool,
}

impl Blockers {
    /// Ends sessions that hold the applier back, if it is held back. Gives how many.
    pub(crate) async fn end(&mut self, link: &Link, dialect: Dialect, limit: Duration) -> Result<usize, Error> {
        let threads = Threads::read(&link.query("list sessions", "SHOW FULL PROCESSLIST", limit).await?);
        let sql = "SELECT trx_mysql_thread_id AS id, trx_state AS state, trx_lock_structs AS locks FROM \
                   information_schema.innodb_trx";
        let transactions = match link.query("list transactions", sql, limit).await {
            Ok(rows) => Transactions::read(&rows),
            // It needs a temporary table, which a server with a full disk cannot make.
            Err(error @ Error::Sql { source: mysql_async::Error::Server(_), .. }) => {
                tracing::warn!(%error, "transactions of clients are not known");
                Transactions::default()
            }
            Err(error) => return Err(error),
        };
        let ended = self.choose(&threads, &transactions);
        for id in &ended {
            sessions::end(link, *id, Kill::Hard, limit).await?;
        }
        let everybody_is_gone = self.waits > 2 && ended.is_empty() && threads.waits_for.is_some();
        // MariaDB and earlier versions of MySQL roll back what a client has prepared and left.
        let may_be_left = dialect.is_mysql_from((5, 7, 7)) && transactions.is_known && !transactions.detached;
        if everybody_is_gone && may_be_left {
            roll_back_prepared(link, limit).await?;
        }
        if !ended.is_empty() {
            let waits_for = self.waits_for.as_deref().unwrap_or_default();
            tracing::warn!(count = ended.len(), waits_for, "ended sessions of clients that the applier waited for");
        }
        Ok(ended.len())
    }

    fn choose(&mut self, threads: &Threads, transactions: &Transactions) -> BTreeSet<u64> {
        self.waits_for.clone_from(&threads.waits_for);
        let mut chosen = BTreeSet::new();
        if threads.waits_for.is_some() {
            self.waits += 1;
            chosen.extend(&threads.busy);
            chosen.extend(&transactions.all);
            if self.waits > 1 {
                chosen.extend(&threads.clients);
            }
        }
        if transactions.waiting.iter().any(|id| threads.appliers.contains(id)) {
            self.waits_for.get_or_insert_with(|| "Waiting for a row lock".to_owned());
            chosen.extend(&transactions.locking);
        }
        chosen.intersection(&threads.clients).copied().collect()
    }
}

impl Threads {
    fn read(rows: &[Record]) -> Self {
        let mut threads = Self::default();
        for row in rows {
            let Some(id) = row.number("Id") else { continue };
            let text = |column| row.text(column).unwrap_or_default();
            threads.add(id, &text("User"), &text("Command"), &text("State"));
        }
        threads
    }

    fn add(&mut self, id: u64, user: &str, command: &str, state: &str) {
        let waits = is_lock_wait(state);
        if user == APPLIERS {
            self.appliers.insert(id);
            if waits {
                self.waits_for = Some(state.to_owned());
            }
        } else if sessions::is_client(user) {
            self.clients.insert(id);
            if command != "Sleep" && !waits {
                self.busy.insert(id);
            }
        }
    }
}

impl Transactions {
    fn read(rows: &[Record]) -> Self {
        let mut transactions = Self { is_known: true, ..Self::default() };
        for row in rows {
            let Some(id) = row.number("id").filter(|id| *id != 0) else {
                transactions.detached = true;
                continue;
            };
            transactions.all.insert(id);
            if row.text("state").as_deref() == Some("LOCK WAIT") {
                transactions.waiting.insert(id);
            }
            if row.number("locks").is_some_and(|locks| locks > 0) {
                transactions.locking.insert(id);
            }
        }
        transactions
    }
}

/// Rolls back what clients have prepared and left, where none of that has written.
async fn roll_back_prepared(link: &Link, limit: Duration) -> Result<(), Error> {
    for row in link.query("list prepared transactions", "XA RECOVER CONVERT XID", limit).await? {
        let (format, first, data) = (row.number("formatID"), row.number("gtrid_length"), row.text("data"));
        let Some(xid) = data.and_then(|data| xid(format?, first?, &data)) else { continue };
        let rolled_back = link.run("roll back a prepared transaction", &format!("XA ROLLBACK {xid}"), limit).await;
        if let Err(error) = rolled_back {
            tracing::warn!(xid, %error, "could not roll back a prepared transaction");
        } else {
            tracing::warn!(xid, "rolled back a prepared transaction without writes, which held the applier up");
        }
    }
    Ok(())
}

/// A name that `XA RECOVER` tells as one hexadecimal number, as a statement wants it.
fn xid(format: u64, first: u64, data: &str) -> Option<String> {
    let digits = data.strip_prefix("0x")?;
    let (global, branch) = digits.split_at_checked(usize::try_from(first).ok()?.checked_mul(2)?)?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| format!("X'{global}',X'{branch}',{format}"))
}

/// Whether a thread in that state waits for a lock that others hold, or for others to close their tables.
fn is_lock_wait(state: &str) -> bool {
    // "Waiting for table metadata lock", "... global read lock", "... backup lock", "... table flush"; not what appliers
    // wait for among themselves: "Waiting for prior transaction to commit"
    state.starts_with("Waiting for") && (state.ends_with("lock") || state.ends_with("flush"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = "Waiting for table metadata lock";

    fn threads(rows: &[(u64, &str, &str, &str)]) -> Threads {
        let mut threads = Threads::default();
        for (id, user, command, state) in rows {
            threads.add(*id, user, command, state);
        }
        threads
    }

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    #[test]
    fn those_who_may_hold_a_lock_are_ended_first() {
        let threads = threads(&[
            (1, "system user", "Slave_SQL", METADATA),
            (2, "orders", "Sleep", ""),
            (3, "orders", "Sleep", ""), // in a transaction
            (4, "orders", "Query", "Sending data"),
            (5, "orders", "Query", METADATA), // behind the applier
            (6, "cotton", "Query", "Sending data"),
            (7, "cotton_repl", "Binlog Dump", "Source has sent all binlog to replica"),
        ]);
        let transactions = Transactions { all: set(&[1, 3, 6]), ..Transactions::default() };
        let mut blockers = Blockers::default();
        assert_eq!(blockers.choose(&threads, &transactions), set(&[3, 4]));
        assert_eq!(blockers.waits_for.as_deref(), Some(METADATA));
        assert_eq!(blockers.choose(&threads, &transactions), set(&[2, 3, 4, 5]), "then everybody else");
    }

    #[test]
    fn who_holds_rows_is_ended_when_the_applier_waits_for_rows() {
        let threads = threads(&[
            (1, "system user", "Slave_worker", "Update_rows_log_event::find_row"),
            (2, "orders", "Sleep", ""),
            (3, "orders", "Sleep", ""),
        ]);
        let mut transactions =
            Transactions { all: set(&[1, 2, 3]), locking: set(&[1, 2]), waiting: set(&[1]), ..Transactions::default() };
        assert_eq!(Blockers::default().choose(&threads, &transactions), set(&[2]));
        transactions.waiting = set(&[3]);
        assert_eq!(Blockers::default().choose(&threads, &transactions), set(&[]), "clients among themselves");
    }

    #[test]
    fn names_of_prepared_transactions_are_written_as_statements_want_them() {
        assert_eq!(xid(7, 1, "0x7862").as_deref(), Some("X'78',X'62',7"));
        assert_eq!(xid(1, 2, "0x7862").as_deref(), Some("X'7862',X'',1"));
        for (first, data) in [(3, "0x7862"), (1, "7862"), (1, "0x78'--"), (u64::MAX, "0x7862")] {
            assert_eq!(xid(1, first, data), None, "{first} {data}");
        }
    }

    #[test]
    fn an_applier_that_works_disturbs_nobody() {
        for state in ["System lock", "Waiting for prior transaction to commit", "Waiting for work from SQL thread", ""]
        {
            let threads = threads(&[(1, "system user", "Slave_worker", state), (2, "orders", "Query", "Sending data")]);
            let transactions = Transactions { all: set(&[1, 2]), locking: set(&[1, 2]), ..Transactions::default() };
            assert_eq!(Blockers::default().choose(&threads, &transactions), set(&[]), "{state}");
        }
    }
}
