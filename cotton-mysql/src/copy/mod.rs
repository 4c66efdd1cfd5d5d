//! Copies of a working server's data, for members that the primary's binary logs do not reach back to.
//!
//! MySQL clones by itself, over SQL. MariaDB's tool must run where the donor's files are, so every MariaDB instance runs
//! a small copy server: [`donor`] streams what `mariabackup` writes, [`recipient`] unpacks and prepares it. Both prove
//! to each other that they know the cluster's replication password. The port of the copy server can be read with the
//! replication account, in the free text `report_user`.
//!
//! A copy grows in a directory of its own. It takes the place of the old data only after the donor has said, under the
//! same password, that this was all of it. Until then the old data stays.

mod clone;
mod donor;
mod recipient;
pub(crate) mod unblock;
mod wire;

pub(crate) use clone::clone_from;
pub(crate) use donor::{CopyServer, Donor};
pub(crate) use recipient::{Received, Recipient, make_ready, receive};

/// What to do when the backup programs are not there.
const INSTALL_BACKUP: &str = "install mariadb-backup on every agent";
