//! What an account may do, as data: read from `SHOW GRANTS`, compared, and turned into the statements that lead from what
//! an account has to what it shall have.
//!
//! Objects and privileges are written as the servers print them (`*.*`, `` `app`.* ``, `` `mysql`.`proc` ``), so that what
//! was granted is recognised when it is read again.

use std::collections::{BTreeMap, BTreeSet};

/// What stands for every privilege on an object that is not the whole server.
const ALL: &str = "ALL PRIVILEGES";
/// Handing on what one has.
const GRANT_OPTION: &str = "GRANT OPTION";

/// Privileges by object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    granted: BTreeMap<String, BTreeSet<String>>,
    /// Taken away from what is granted on `*.*` (MySQL's partial revokes).
    revoked: BTreeMap<String, BTreeSet<String>>,
}

impl Grants {
    /// Adds privileges on an object.
    pub(crate) fn grant<'a>(&mut self, on: &str, privileges: impl IntoIterator<Item = &'a str>) {
        self.granted.entry(on.to_owned()).or_default().extend(privileges.into_iter().map(str::to_owned));
    }

    /// Takes privileges that are granted everywhere away from one object.
    pub(crate) fn except<'a>(&mut self, on: &str, privileges: impl IntoIterator<Item = &'a str>) {
        let privileges: BTreeSet<String> = privileges.into_iter().map(str::to_owned).collect();
        if !privileges.is_empty() {
            self.revoked.entry(on.to_owned()).or_default().extend(privileges);
        }
    }

    /// Leaves out one privilege everywhere.
    pub(crate) fn without(mut self, privilege: &str) -> Self {
        for privileges in self.granted.values_mut() {
            privileges.remove(privilege);
        }
        self
    }

    /// Whether anything is granted on that object.
    pub(crate) fn is_on(&self, on: &str) -> bool {
        self.granted.get(on).is_some_and(|privileges| !privileges.is_empty())
    }

    /// Whether that privilege is among those on that object, by its own name.
    pub(crate) fn has(&self, on: &str, privilege: &str) -> bool {
        self.granted.get(on).is_some_and(|privileges| privileges.contains(privilege))
    }

    /// Of these, what goes beyond `limit` on the whole server or may be handed on; on other objects an account may have
    /// what it likes.
    pub(crate) fn tamed(&self, limit: &Self) -> Self {
        let mut tamed = self.without_option();
        if let (Some(own), Some(most)) = (tamed.granted.get_mut("*.*"), limit.granted.get("*.*")) {
            own.retain(|privilege| most.contains(privilege));
        }
        tamed.granted.retain(|on, _| !on.starts_with("`mysql`.") || limit.granted.contains_key(on));
        if self.is_on("`%`.*") || self.is_on("*.*") {
            // whoever is let in everywhere is kept out of the same places as the cluster's user
            for (on, privileges) in limit.granted.iter().filter(|(on, _)| !matches!(on.as_str(), "*.*" | "`%`.*")) {
                tamed.granted.insert(on.clone(), privileges.clone());
            }
        }
        let everywhere = tamed.granted.get("*.*").cloned().unwrap_or_default();
        for (on, privileges) in &limit.revoked {
            let fitting = privileges.iter().filter(|privilege| everywhere.contains(*privilege)).cloned();
            tamed.revoked.entry(on.clone()).or_default().extend(fitting);
        }
        tamed
    }

    fn without_option(&self) -> Self {
        self.clone().without(GRANT_OPTION)
    }

    /// Reads the rows of `SHOW GRANTS`.
    pub(crate) fn parse<'a>(rows: impl IntoIterator<Item = &'a str>) -> Self {
        let mut this = Self::default();
        for row in rows {
            let (map, rest, before_account) = if let Some(rest) = row.strip_prefix("GRANT ") {
                (&mut this.granted, rest, " TO ")
            } else if let Some(rest) = row.strip_prefix("REVOKE ") {
                (&mut this.revoked, rest, " FROM ")
            } else {
                continue;
            };
            // what has no object is a role, which none of our accounts has
            let Some((privileges, rest)) = rest.split_once(" ON ") else { continue };
            let Some((object, options)) = split_object(rest, before_account) else { continue };
            let entry = map.entry(object.to_owned()).or_default();
            entry.extend(split_list(privileges).filter(|privilege| *privilege != "USAGE").map(str::to_owned));
            if options.contains("GRANT OPTION") {
                entry.insert(GRANT_OPTION.to_owned());
            }
        }
        this.granted.retain(|_, privileges| !privileges.is_empty());
        this
    }

    /// Statements that turn these grants into those wanted. What is missing is given before what is too much is taken: a
    /// more exact name of a database wins, so it must be there first.
    pub(crate) fn change_to(&self, wanted: &Self, account: &str) -> Vec<String> {
        let (mut give, mut take) = (Vec::new(), Vec::new());
        let none = BTreeSet::new();
        let objects: BTreeSet<&String> = self.granted.keys().chain(wanted.granted.keys()).collect();
        for on in objects {
            let have = self.granted.get(on).unwrap_or(&none);
            let want = wanted.granted.get(on).unwrap_or(&none);
            let option = |set: &BTreeSet<String>| set.contains(GRANT_OPTION);
            if option(have) && !option(want) {
                take.push(format!("REVOKE GRANT OPTION ON {on} FROM {account}"));
            }
            let plain = |set: &BTreeSet<String>| -> BTreeSet<String> {
                set.iter().filter(|privilege| *privilege != GRANT_OPTION).cloned().collect()
            };
            let (have, mut want_plain) = (plain(have), plain(want));
            if have.contains(ALL) && !want_plain.contains(ALL) {
                take.push(format!("REVOKE {ALL} ON {on} FROM {account}"));
                if !want_plain.is_empty() {
                    take.push(format!("GRANT {} ON {on} TO {account}", list(&want_plain)));
                }
                continue;
            }
            if want_plain.contains(ALL) {
                want_plain = BTreeSet::from([ALL.to_owned()]);
            }
            let missing: BTreeSet<String> = want_plain.difference(&have).cloned().collect();
            if !missing.is_empty() || option(want) && !self.has(on, GRANT_OPTION) {
                let what = if missing.is_empty() { "USAGE".to_owned() } else { list(&missing) };
                let with = if option(want) { " WITH GRANT OPTION" } else { "" };
                give.push(format!("GRANT {what} ON {on} TO {account}{with}"));
            }
            let extra: BTreeSet<String> = have.difference(&want_plain).cloned().collect();
            if !extra.is_empty() && !want_plain.contains(ALL) {
                take.push(format!("REVOKE {} ON {on} FROM {account}", list(&extra)));
            }
        }
        for (on, privileges) in &wanted.revoked {
            let done = self.revoked.get(on).unwrap_or(&none);
            let missing: BTreeSet<String> = privileges.difference(done).cloned().collect();
            if !missing.is_empty() {
                take.push(format!("REVOKE {} ON {on} FROM {account}", list(&missing)));
            }
        }
        give.append(&mut take);
        give
    }
}

fn list(privileges: &BTreeSet<String>) -> String {
    privileges.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Commas between parentheses belong to lists of columns.
fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

/// The object, whose names are in backticks, and what follows `before_account`.
fn split_object<'a>(text: &'a str, before_account: &str) -> Option<(&'a str, &'a str)> {
    let mut quoted = false;
    let end = text.char_indices().find_map(|(at, c)| {
        quoted ^= c == '`';
        (!quoted && text[at..].starts_with(before_account)).then_some(at)
    })?;
    Some((&text[..end], &text[end + before_account.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mariadb() -> Grants {
        Grants::parse([
            "GRANT SHOW DATABASES, BINLOG MONITOR ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*41' WITH \
             MAX_USER_CONNECTIONS 7",
            "GRANT SELECT ON `mysql`.* TO `u`@`%`",
            "GRANT ALL PRIVILEGES ON `%`.* TO `u`@`%` WITH GRANT OPTION",
            "GRANT SELECT (a, b), INSERT (a) ON `app`.`a TO b` TO `u`@`%`",
        ])
    }

    #[test]
    fn what_servers_print_is_read() {
        let grants = mariadb();
        assert!(grants.has("*.*", "SHOW DATABASES") && grants.has("*.*", "BINLOG MONITOR"));
        assert!(!grants.has("*.*", "GRANT OPTION"), "MAX_USER_CONNECTIONS is none");
        assert!(grants.has("`%`.*", "ALL PRIVILEGES") && grants.has("`%`.*", "GRANT OPTION"));
        assert!(grants.has("`app`.`a TO b`", "SELECT (a, b)") && grants.has("`app`.`a TO b`", "INSERT (a)"));
        let nothing =
            Grants::parse(["GRANT USAGE ON *.* TO 'u'@'%' IDENTIFIED BY PASSWORD '*1'", "GRANT `r` TO `u`@`%`"]);
        assert_eq!(nothing, Grants::default());
        let mysql = Grants::parse([
            "GRANT SELECT,XA_RECOVER_ADMIN ON *.* TO `u`@`%`",
            "REVOKE SELECT ON `mysql`.* FROM `u`@`%`",
        ]);
        assert!(mysql.has("*.*", "XA_RECOVER_ADMIN"));
        assert_eq!(mysql.revoked["`mysql`.*"], BTreeSet::from(["SELECT".to_owned()]));
    }

    #[test]
    fn a_change_gives_before_it_takes_and_is_none_when_nothing_differs() {
        let mut wanted = Grants::default();
        wanted.grant("*.*", ["SHOW DATABASES"]);
        wanted.grant("`%`.*", ["ALL PRIVILEGES"]);
        wanted.grant("`mysql`.*", ["SHOW VIEW"]);
        assert_eq!(
            mariadb().change_to(&wanted, "u"),
            [
                "GRANT SHOW VIEW ON `mysql`.* TO u",
                "REVOKE BINLOG MONITOR ON *.* FROM u",
                "REVOKE GRANT OPTION ON `%`.* FROM u",
                "REVOKE INSERT (a), SELECT (a, b) ON `app`.`a TO b` FROM u",
                "REVOKE SELECT ON `mysql`.* FROM u",
            ]
        );
        assert_eq!(mariadb().change_to(&mariadb(), "u"), Vec::<String>::new());
        let mut less = Grants::default();
        less.grant("`%`.*", ["SELECT"]);
        let take_all = Grants::parse(["GRANT ALL PRIVILEGES ON `%`.* TO `u`@`%`"]).change_to(&less, "u");
        assert_eq!(take_all, ["REVOKE ALL PRIVILEGES ON `%`.* FROM u", "GRANT SELECT ON `%`.* TO u"]);
    }

    #[test]
    fn strangers_are_tamed() {
        let mut limit = Grants::default();
        limit.grant("*.*", ["SHOW DATABASES"]);
        limit.grant("`%`.*", ["ALL PRIVILEGES"]);
        limit.grant("`mysql`.*", ["SHOW VIEW"]);
        let tamed = mariadb().tamed(&limit);
        assert!(tamed.has("*.*", "SHOW DATABASES") && !tamed.has("*.*", "BINLOG MONITOR"));
        assert!(!tamed.has("`%`.*", "GRANT OPTION") && tamed.has("`%`.*", "ALL PRIVILEGES"));
        assert!(tamed.has("`mysql`.*", "SHOW VIEW") && !tamed.has("`mysql`.*", "SELECT"));
        assert!(tamed.has("`app`.`a TO b`", "SELECT (a, b)"), "what it has in a database is its own");
    }
}
