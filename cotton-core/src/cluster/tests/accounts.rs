//! Further accounts.

use super::world::World;
use crate::account::{ACCOUNTS_MAX, Account, AccountChange, AccountError, AccountKind};
use crate::spec::Limits;
use crate::{MemberId, Sealed};

fn change(world: &mut World, user: &str, change: AccountChange) -> Result<(), AccountError> {
    world.cluster.change_account(world.now, &Limits::default(), user, change)
}

fn create() -> AccountChange {
    let password = Sealed::new("sealed");
    AccountChange::Create(Account { kind: AccountKind::ReadOnly, databases: Vec::new(), password })
}

#[test]
fn the_open_primary_is_told_once_that_is_durable_and_with_each_report() {
    let mut world = World::running(2);
    change(&mut world, "report", create()).expect("a new name");
    assert!(world.cluster.poll_effect().is_none(), "not durable yet");
    world.persist();
    assert!(world.effects().contains(&"tell 0 of accounts 1".to_owned()));
    world.say(MemberId(0));
    world.hear_all();
    world.persist();
    assert!(world.effects().contains(&"tell 0 of accounts 1".to_owned()), "a message may be lost");
    change(&mut world, "report", AccountChange::Drop).expect("it is there");
    world.persist();
    assert!(world.effects().contains(&"tell 0 of accounts 2".to_owned()));
    assert_eq!(world.cluster.state().accounts.get("report"), Some(&None), "the primary must hear that it is gone");
    world.recover();
    assert_eq!(world.cluster.state().accounts_revision, 2);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut world = World::running(1);
    let own = world.cluster.state().spec.user.clone();
    assert_eq!(change(&mut world, &own, create()), Err(AccountError::OwnUser(own.clone())));
    assert!(matches!(change(&mut world, "root", create()), Err(AccountError::User(_))));
    let rotate = || AccountChange::Rotate(Sealed::new("other"));
    for change_of in [rotate(), AccountChange::Drop] {
        assert_eq!(change(&mut world, "a0", change_of), Err(AccountError::Unknown("a0".to_owned())));
    }
    assert_eq!(world.cluster.state().accounts_revision, 0);
    for number in 0..ACCOUNTS_MAX {
        change(&mut world, &format!("a{number}"), create()).expect("there is room");
    }
    assert_eq!(change(&mut world, "a0", create()), Err(AccountError::Exists("a0".to_owned())));
    assert_eq!(change(&mut world, "more", create()), Err(AccountError::TooMany));
    change(&mut world, "a0", rotate()).expect("it is there");
    change(&mut world, "a0", AccountChange::Drop).expect("it is there");
    assert_eq!(change(&mut world, "a0", rotate()), Err(AccountError::Unknown("a0".to_owned())));
    change(&mut world, "more", create()).expect("there is room again");
}

#[test]
fn the_own_user_gets_another_password_and_cannot_be_dropped() {
    let mut world = World::running(2);
    let own = world.cluster.state().spec.user.clone();
    assert_eq!(change(&mut world, &own, AccountChange::Drop), Err(AccountError::OwnUser(own.clone())));
    assert_eq!(world.cluster.state().accounts_revision, 0);
    change(&mut world, &own, AccountChange::Rotate(Sealed::new("another"))).expect("it is always there");
    assert!(world.cluster.poll_effect().is_none(), "not durable yet");
    world.persist();
    assert!(world.effects().contains(&"tell 0 of accounts 1".to_owned()));
    world.recover();
    let state = world.cluster.state();
    assert_eq!((&state.spec.secrets.user, state.accounts.len()), (&Sealed::new("another"), 0));
}

/// What a primary was told in an earlier term may not be true any more, so each new one asks.
#[test]
fn a_primary_that_waits_to_be_told_is_told_that_nothing_was_changed() {
    let mut world = World::running(2);
    world.toy(0).accounts_wanted = true;
    world.say(MemberId(0));
    world.hear_all();
    world.persist();
    assert!(world.effects().contains(&"tell 0 of accounts 0".to_owned()));
    world.toy(0).accounts_wanted = false;
    world.say(MemberId(0));
    world.hear_all();
    world.persist();
    assert!(!world.effects().contains(&"tell 0 of accounts 0".to_owned()));
}

/// A record that was put back from a copy may be of before the last changes. Then it says what is right, and its primary,
/// which takes only what is newer than what it knows, must hear of it.
#[test]
fn a_record_that_is_behind_its_primary_passes_over_what_that_was_told() {
    let mut world = World::running(2);
    let own = world.cluster.state().spec.user.clone();
    change(&mut world, &own, AccountChange::Rotate(Sealed::new("another"))).expect("it is always there");
    world.persist();
    world.effects();
    world.toy(0).accounts_revision = 7;
    world.say(MemberId(0));
    world.hear_all();
    world.persist();
    assert!(world.effects().contains(&"tell 0 of accounts 8".to_owned()));
    world.toy(0).accounts_revision = 8;
    world.say(MemberId(0));
    world.hear_all();
    world.persist();
    assert_eq!(world.cluster.state().accounts_revision, 8);
}
