//! Changes of the data behind the cluster's back: whoever looks for losses must find them.

use crate::scene::Scene;
use cotton_tests::Failure;
use mysql_async::prelude::Queryable;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoil {
    /// A move is lost on all members.
    Lose,
    /// One member has another balance.
    Differ,
    /// All members have a move that nobody tried.
    Invent,
}

impl Spoil {
    pub(crate) fn named(name: &str) -> Option<Self> {
        [("lose", Self::Lose), ("differ", Self::Differ), ("invent", Self::Invent)]
            .into_iter()
            .find_map(|(known, spoil)| (known == name).then_some(spoil))
    }

    pub(crate) async fn spoil(self, scene: &Scene<'_>) -> Result<(), Failure> {
        let _quiet = scene.ledger.quiet().await;
        let statement = match self {
            Self::Lose => "DELETE FROM chaos.moves ORDER BY id LIMIT 1",
            Self::Differ => "UPDATE chaos.accounts SET balance = balance + 1 WHERE id = 1",
            Self::Invent => "INSERT INTO chaos.moves VALUES (1000000000, 1, 2, 3)",
        };
        let members = scene.before.replicas().chain(scene.before.primary());
        for member in members.take(if self == Self::Differ { 1 } else { usize::MAX }) {
            let mut admin = scene.stage.admin(&scene.before.name, &member.task).await?;
            admin.query_drop("SET SESSION sql_log_bin = OFF").await?;
            admin.query_drop(statement).await?;
        }
        Ok(())
    }
}
