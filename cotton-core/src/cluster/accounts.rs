//! Accounts: kept here, told to the primary with its reports, made and kept in order there.

use super::Cluster;
use crate::account::{ACCOUNTS_MAX, AccountChange, AccountError, NAMES_MAX, validate_account};
use crate::protocol::{MemberRole, Report, ToExecutor};
use crate::spec::Limits;
use crate::{MemberId, Millis};

impl Cluster {
    /// Makes, changes or drops a further account, or changes the password of the cluster's own user.
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
        if user == self.state.spec.user {
            let AccountChange::Rotate(password) = change else { return Err(AccountError::OwnUser(user.to_owned())) };
            self.change(|state| {
                state.spec.secrets.user = password;
                state.accounts_revision += 1;
            });
            self.accounts_changed(now);
            return Ok(());
        }
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
        self.accounts_changed(now);
        Ok(())
    }

    fn accounts_changed(&mut self, now: Millis) {
        if let Some(primary) = self.state.primary {
            self.tell_accounts(primary);
        }
        self.reconcile(now);
    }

    /// Tells the open primary of the accounts, if they were ever changed or it waits to be told.
    pub(super) fn tell_accounts(&mut self, member: MemberId) {
        self.pass_over_revisions(member);
        let (primary, revision) = (self.state.primary, self.state.accounts_revision);
        let report = self.observed.get(&member).and_then(|o| o.report_in(self.state.epoch));
        let told = |r: &Report| r.role == MemberRole::Primary && (revision > 0 || r.accounts_wanted);
        if primary == Some(member) && report.is_some_and(told) {
            let (user, accounts) = (Some(self.state.spec.secrets.user.clone()), self.state.accounts.clone());
            self.send(member, ToExecutor::Accounts { revision, user, accounts });
        }
    }

    /// A primary that was told a later revision than there is, as after an older record was put back, would take no other one.
    fn pass_over_revisions(&mut self, member: MemberId) {
        let report = self.observed.get(&member).and_then(|o| o.report_in(self.state.epoch));
        let told = report.map_or(0, |report| report.accounts_revision);
        if self.state.primary == Some(member) && told > self.state.accounts_revision {
            self.change(|state| state.accounts_revision = told.saturating_add(1));
        }
    }
}
