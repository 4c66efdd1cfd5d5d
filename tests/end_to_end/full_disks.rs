//! The disk of a primary is full: a replica with room takes over, nothing that was acknowledged is lost, and what the full disk
//! has damaged is replaced.

use crate::{Outcome, SOME, STEP};
use cotton_tests::{
    Api, Client, Cluster, Created, Directory, Failure, Flavour, Options, RealCotton, SmallDisk, Wanted, Writer,
};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use std::time::{Duration, Instant};

/// For a server, and some rows.
const ROOM_MIB: u32 = 400;
/// Sessions that write.
const WRITERS: usize = 4;

struct Stage {
    cotton: RealCotton,
    disks: Vec<SmallDisk>,
    api: Api,
    client: Client,
    before: Cluster,
}

impl Stage {
    async fn start() -> Result<Option<Self>, Failure> {
        if Flavour::MariaDb.programs().is_none() {
            return Ok(None);
        }
        let directory = Directory::new()?;
        let mut disks = Vec::new();
        for agent in 1..=3 {
            let path = directory.path().join(format!("agents/agent-{agent}"));
            let Some(disk) = SmallDisk::mount(&path, ROOM_MIB)? else { return Ok(None) };
            disks.push(disk);
        }
        let cotton = RealCotton::start_in(Options { agents: 3, ..Options::default() }, directory).await?;
        let api = cotton.api();
        let wanted = Wanted { durability: Some("semi_sync"), ..Wanted::small(3) };
        let created: Created = api.create("a", &wanted).await?;
        let before = api.until_healthy("a", STEP).await?;
        let client = Client::new(wanted.user, created.password);
        Ok(Some(Self { cotton, disks, api, client, before }))
    }

    async fn writer(&self) -> Result<Writer, Failure> {
        let writer = Writer::start(&self.api, "a", self.client.clone(), WRITERS).await?;
        writer.progress(SOME, STEP).await?;
        Ok(writer)
    }

    /// The disk of the primary.
    fn disk(&self) -> Result<&SmallDisk, Failure> {
        let agent = &self.before.primary()?.agent;
        let number = agent.strip_prefix("agent-").and_then(|number| number.parse::<usize>().ok());
        number.and_then(|number| self.disks.get(number - 1)).ok_or_else(|| Failure::new(format!("no agent {agent}")))
    }

    async fn until_replaced(&self) -> Result<Cluster, Failure> {
        let old = self.before.primary()?.id;
        let replaced = |c: &Cluster| c.primary.is_some_and(|primary| primary != old);
        self.api.until("a", STEP, "with another primary", replaced).await
    }

    async fn lost_because(&self) -> Result<String, Failure> {
        let events = self.api.events("a", 0).await?;
        Ok(events.into_iter().find(|event| event.kind == "primary_lost").map(|event| event.text).unwrap_or_default())
    }

    async fn finish(self, writer: Writer) -> Outcome {
        let after = self.api.until_healthy("a", STEP).await?;
        writer.progress(SOME, STEP).await?;
        writer.finish_and_compare(&after.endpoints()?, STEP).await?;
        drop(self.cotton); // before its disks
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_without_room_gives_its_place_to_a_replica_that_has_it() -> Outcome {
    let Some(stage) = Stage::start().await? else { return Ok(()) };
    let writer = stage.writer().await?;
    stage.disk()?.fill()?;
    stage.until_replaced().await?;
    writer.progress(SOME, STEP).await?; // while it is full
    let told = stage.lost_because().await?;
    assert!(told.contains("room"), "{told}");
    stage.disk()?.make_room()?;
    stage.finish(writer).await
}

/// The session of the user that waits for room, if one does.
async fn waiting(conn: &mut Conn) -> Result<Option<u64>, Failure> {
    let sessions: Vec<Row> = conn.query("SHOW PROCESSLIST").await?;
    let state = |row: &Row| row.get::<Option<String>, _>("State").flatten().unwrap_or_default();
    let waits = sessions.iter().find(|row| state(row).starts_with("Waiting for someone to free space"));
    Ok(waits.and_then(|row| row.get("Id")))
}

/// A user who loses patience can break off what waits for room: `KILL` is theirs to say of their own sessions. The rest of
/// that write is missing in the binary log, and what comes behind it reaches no replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binary_log_that_no_replica_can_read_ends_with_another_primary() -> Outcome {
    let Some(stage) = Stage::start().await? else { return Ok(()) };
    let primary = stage.before.primary()?.clone();
    let mut user = stage.client.connect(&primary.endpoint).await?;
    user.query_drop("CREATE DATABASE torn").await?;
    user.query_drop("CREATE TABLE torn.t (id INT PRIMARY KEY, b VARBINARY(7000))").await?;
    user.query_drop("INSERT INTO torn.t VALUES (1, REPEAT('a', 7000))").await?;
    // in place: it is the binary log that needs room, and no table
    let update = || {
        let (client, endpoint) = (stage.client.clone(), primary.endpoint.clone());
        let sql = "UPDATE torn.t SET b = REPEAT(CHAR(97 + RAND() * 20), 7000) WHERE id = 1";
        tokio::spawn(async move { client.run(&endpoint, sql).await })
    };
    stage.disk()?.fill()?;
    // those before may find the last of the room
    let (mut stuck, mut waits) = (update(), None);
    let late = Instant::now() + STEP;
    while waits.is_none() {
        assert!(Instant::now() < late, "no update waits for room");
        if stuck.is_finished() {
            stuck = update();
        }
        tokio::time::sleep(Duration::from_millis(5)).await; // there are no events of it
        waits = waiting(&mut user).await?;
    }
    user.query_drop(format!("KILL QUERY {}", waits.unwrap_or_default())).await?;
    assert!(stuck.await.is_ok_and(|done| done.is_err()), "it was broken off");
    stage.disk()?.make_room()?;
    let never = update();
    stage.api.until("a", STEP, "blocked", |c| c.waits_for("waiting_for_ack")).await?;
    let seen = stage.until_replaced().await?;
    assert!(never.await.is_ok_and(|done| done.is_err()), "nobody was told that it is done");
    let told = stage.lost_because().await?;
    assert!(told.contains("no replica can read its binary log"), "{told}");
    stage.client.until_has(&seen.primary()?.endpoint, "SELECT id FROM torn.t", &[1].into(), STEP).await?;
    stage.api.until("a", STEP, "without the damaged copy", |c| c.member(primary.id).is_none()).await?;
    let writer = stage.writer().await?;
    stage.finish(writer).await
}
