//! Users may name time zones.

use crate::support::{Servers, cluster, until};
use mysql_async::prelude::Queryable;
use std::time::Instant;

on_each_server!(zones_have_names_on_every_member);

async fn zones_have_names_on_every_member(servers: Servers) {
    let acks = u32::from(servers.has_semi_sync());
    let Some(members) = cluster(servers, 2, acks).await else { return };
    let began = Instant::now();
    for member in &members {
        let mut user = member.client().await;
        let sql = "SELECT CAST(CONVERT_TZ('2026-07-01 12:00:00', 'UTC', 'Europe/Berlin') AS CHAR)";
        let user = tokio::sync::Mutex::new(&mut user);
        until("named", || async {
            let told: Option<Option<String>> = user.lock().await.query_first(sql).await.expect("an answer");
            told.flatten().is_some_and(|told| told.starts_with("2026-07-01 14:00:00"))
        })
        .await;
    }
    eprintln!("{servers:?}: {:?} until both members know them", began.elapsed());
    for member in &members {
        let mut user = member.client().await;
        for (at, zone, wanted) in [
            ("1999-12-31 12:00:00", "America/New_York", "1999-12-31 07:00:00"),
            ("2036-08-01 12:00:00", "Australia/Sydney", "2036-08-01 22:00:00"),
            ("2026-01-01 00:00:00", "Asia/Kathmandu", "2026-01-01 05:45:00"),
        ] {
            let sql = format!("SELECT CAST(CONVERT_TZ('{at}', '+00:00', '{zone}') AS CHAR)");
            let told: Option<String> = user.query_first(sql).await.expect("an answer");
            assert!(told.as_deref().is_some_and(|told| told.starts_with(wanted)), "{zone}: {told:?}");
        }
        user.query_drop("SET time_zone = 'Europe/Paris'").await.expect("a known zone");
    }
}
