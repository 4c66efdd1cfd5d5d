//! Who may read the binary logs beside members, as tools for change data capture do, and where.
//!
//! Whoever reads them can say that it acknowledges what it gets, and a server believes it. So while commits wait for
//! acknowledgements, nobody but members may read from that server: the privilege is taken from all others *on this server
//! only*, before acknowledgements are switched on, and sessions that had it are ended. On replicas acknowledgements are
//! switched off, and readers have the privilege there; it is given back when a server follows. Neither is written to the
//! binary log: for the log, each such account has the privilege, and so it has on all new members.

use crate::Error;
use crate::accounts::{READ_BINLOG, REPLICATION, RESERVED};
use crate::dialect::quote;
use crate::replication::Control;
use crate::sessions::{self, Kill};
use crate::sql::Record;
use crate::status;

/// What a server lists instead of a user that has not said who it is.
const UNKNOWN_YET: &str = "unauthenticated user";

impl Control<'_> {
    /// Takes the binary logs from everybody but members. The server must not be open yet, or must be so without waiting for
    /// acknowledgements.
    pub(crate) async fn shut_out_readers(&self, writable: bool) -> Result<(), Error> {
        let readers = self.accounts_with("Repl_slave_priv = 'Y'", false).await?;
        let statements: Vec<String> =
            readers.iter().map(|account| format!("REVOKE {READ_BINLOG} ON *.* FROM {account}")).collect();
        self.unlogged(&statements, writable).await?;
        // privileges of the whole server are those that a session had when it began
        let reads = |process: &&Record| {
            let user = process.text("User").unwrap_or_default();
            let dumps = process.text("Command").is_some_and(|command| command.starts_with("Binlog Dump"));
            (dumps && user != REPLICATION) || (!readers.is_empty() && user == UNKNOWN_YET)
        };
        let processes = status::processes(self.link, self.limit).await?;
        let mut ids: Vec<u64> = processes.iter().filter(reads).filter_map(|row| row.number("Id")).collect();
        for account in &readers {
            let user = account.split("'@'").next().unwrap_or_default().trim_start_matches('\'');
            ids.extend(sessions::of_user(self.link, user, self.limit).await?);
        }
        for id in ids {
            sessions::end(self.link, id, Kill::Hard, self.limit).await?;
        }
        Ok(())
    }

    /// Gives readers the binary logs of a server that waits for no acknowledgements.
    pub(crate) async fn let_readers_in(&self, writable: bool) -> Result<(), Error> {
        let readers = self.accounts_with("Repl_slave_priv = 'N' AND Repl_client_priv = 'Y'", true).await?;
        let statements: Vec<String> =
            readers.iter().map(|account| format!("GRANT {READ_BINLOG} ON *.* TO {account}")).collect();
        self.unlogged(&statements, writable).await
    }

    /// Accounts that are not ours; without the cluster's user if it is not meant: it sees the state of the binary logs, too,
    /// and reads none.
    async fn accounts_with(&self, condition: &str, but_the_user: bool) -> Result<Vec<String>, Error> {
        let sql = format!("SELECT User, Host FROM mysql.user WHERE Super_priv = 'N' AND Host <> '' AND {condition}");
        let mut accounts = Vec::new();
        for row in self.link.query("look for readers", &sql, self.limit).await? {
            let (Some(user), Some(host)) = (row.text("User"), row.text("Host")) else { continue };
            let left_out = but_the_user && user == self.user || RESERVED.contains(&user.as_str());
            if !left_out {
                accounts.push(format!("{}@{}", quote(&user)?, quote(&host)?));
            }
        }
        Ok(accounts)
    }

    async fn unlogged(&self, statements: &[String], writable: bool) -> Result<(), Error> {
        if statements.is_empty() {
            return Ok(());
        }
        let what = "settle who reads the binary logs";
        // read_only stays: nobody but us passes it
        let lift = self.dialect().has_super_read_only() && !writable;
        if lift {
            self.run(what, "SET GLOBAL super_read_only = OFF").await?;
        }
        let mut done = self.run(what, "SET SESSION sql_log_bin = OFF").await;
        for statement in statements {
            if done.is_ok() {
                done = self.run(what, statement).await;
            }
        }
        self.run(what, "SET SESSION sql_log_bin = ON").await?;
        if lift {
            self.run(what, "SET GLOBAL super_read_only = ON").await?;
        }
        done
    }
}
