//! Further accounts: kept here, told to the primary with each of its reports, made there.

use super::Cluster;
use crate::account::{ACCOUNTS_MAX, AccountChange, AccountError, NAMES_MAX, validate_account};
use crate::protocol::{MemberRole, ToExecutor};
use crate::spec::Limits;
use crate::{MemberId, Millis};

impl Cluster {
    /// Makes, changes or drops a further account.
    ///
    /// # Errors
    /// When its name or a database is not allowed, it is there already, is not there, or there are too many.
    pub fn change_account(
        &mut self,
        now: Millis,
        limits: &Limits,
        user: &str,
        change: AccountChange,
    ) -> Result<(), AccountError> {
        let present = self.state.accounts.get(user).and_then(Option::as_ref);
        let unknown = || AccountError::Unknown(user.to_owned());
        let after = match change {
            AccountChange::Create(account) => {
                validate_account(user, &account.databases, &self.state.spec.user, limits)?;
                if present.is_some() {
                    return Err(AccountError::Exists(user.to_owned()));
                }
                if self.state.accounts.values().flatten().count() >= ACCOUNTS_MAX {
                    return Err(AccountError::TooMany);
                }
                if self.state.accounts.len() >= NAMES_MAX && !self.state.accounts.contains_key(user) {
                    return Err(AccountError::TooManyNames);
                }
                Some(account)
            }
            AccountChange::Rotate(password) => {
                let mut account = present.cloned().ok_or_else(unknown)?;
                account.password = password;
                Some(account)
            }
            AccountChange::Drop => {
                present.ok_or_else(unknown)?;
                None
            }
        };
        self.change(|state| {
            state.accounts.insert(user.to_owned(), after);
            state.accounts_revision += 1;
        });
        if let Some(primary) = self.state.primary {
            self.tell_accounts(primary);
        }
        self.reconcile(now);
        Ok(())
    }

    /// Tells the open primary of the further accounts, if there ever were some.
    pub(super) fn tell_accounts(&mut self, member: MemberId) {
        let (primary, revision) = (self.state.primary, self.state.accounts_revision);
        let report = self.observed.get(&member).and_then(|o| o.report_in(self.state.epoch));
        if revision > 0 && primary == Some(member) && report.is_some_and(|r| r.role == MemberRole::Primary) {
            let accounts = self.state.accounts.clone();
            self.send(member, ToExecutor::Accounts { revision, accounts });
        }
    }
}
