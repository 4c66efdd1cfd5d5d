//! What we compute about GTID sets, held against what real servers say of the same sets.

mod server;

use cotton_core::{GtidOrder, GtidSet, MariaDbGtids, MySqlGtids};
use mysql_async::prelude::Queryable;
use server::{Flavour, Server, until};
use std::path::Path;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.below(from.len() as u64)).expect("an index")]
    }

    /// A set as a person might write it: out of order, overlapping, with white space and capitals.
    fn set(&mut self, tags: bool) -> String {
        let mut text = String::new();
        for _ in 0..self.below(4) {
            let uuid = format!("{:08X}-71CA-11e1-9e33-c80aa942956{:x}", self.below(3), self.below(2));
            text.push_str(self.pick(&["", " ", ",", "\n"]));
            text.push_str(&uuid);
            if tags && self.below(2) == 0 {
                text.push_str(self.pick(&[":a", ": B_2 ", ":_"]));
            }
            for _ in 0..=self.below(6) {
                let space = self.pick(&["", "", "", " "]);
                let first = if self.below(20) == 0 { 9_223_372_036_854_775_700 } else { 1 } + self.below(60);
                text.extend([":", space, &first.to_string()]);
                if self.below(2) == 0 {
                    text.extend([space, "-", space, &(first + self.below(9)).to_string()]);
                }
                if tags && self.below(6) == 0 {
                    text.extend([":T", self.pick(&["0", "1", "2"]), ":", self.pick(&["1", "2", "7"])]);
                }
            }
            text.push(',');
        }
        text
    }

    /// Pieces of sets, mostly wrong.
    fn nearly(&mut self) -> String {
        const PIECES: [&str; 16] = [
            "3e11fa47-71ca-11e1-9e33-c80aa9429562",
            "3E11FA47-71CA-11E1-9E33-C80AA9429562:1",
            ":",
            "-",
            ",",
            " ",
            "1",
            "17",
            "0",
            "t",
            ":_x:",
            ":9223372036854775806",
            "9223372036854775807",
            "+",
            ":1-3",
            ":5",
        ];
        (0..self.below(8)).map(|_| self.pick(&PIECES)).collect()
    }
}

fn mysql(text: &str) -> MySqlGtids {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

async fn agrees_about_sets(flavour: Flavour) {
    let Some(program) = flavour.program() else { return };
    let tags = flavour == Flavour::MySql97;
    let mut server = Server::start(flavour, &program, 1, None).await;
    let mut dice = Dice(20);
    let query = "SELECT GTID_SUBSET(?, ?), GTID_SUBTRACT(?, ?), GTID_SUBTRACT(?, '')";
    let mut subsets = 0;
    for _ in 0..400 {
        let (a, mut b) = (dice.set(tags), dice.set(tags));
        if dice.below(2) == 0 {
            b = format!("{a},{b}"); // else hardly any is a subset of another
        }
        let both = format!("{a},{b}");
        let row: Option<(u8, String, String)> =
            server.conn.exec_first(query, (&a, &b, &a, &b, &both)).await.expect("sets that the server takes");
        let (subset, difference, union) = row.expect("a row");
        let (x, y) = (mysql(&a), mysql(&b));
        assert_eq!(y.contains(&x), subset == 1, "{a:?} in {b:?}");
        assert_eq!(x.subtract(&y).to_string(), difference.replace('\n', ""), "{a:?} minus {b:?}");
        assert_eq!(x.union(&y).to_string(), union.replace('\n', ""), "{a:?} and {b:?}");
        subsets += u32::from(subset);
    }
    assert!((50..350).contains(&subsets), "{subsets} of 400 pairs are subsets: the dice are loaded");

    // Of what is not a set, we take no more than the server, and understand it in the same way.
    let mut taken = 0;
    for _ in 0..2000 {
        let text = dice.nearly();
        let Ok(set) = text.parse::<MySqlGtids>() else { continue };
        let theirs: Result<Option<String>, _> = server.conn.exec_first("SELECT GTID_SUBTRACT(?, '')", (&text,)).await;
        let Ok(Some(theirs)) = theirs else {
            let tagged = [":t", ":_"].iter().any(|tag| set.to_string().contains(tag));
            assert!(!tags && tagged, "{flavour:?} refuses {text:?}");
            continue;
        };
        assert_eq!(set.to_string(), theirs.replace('\n', ""), "{text:?}");
        taken += u32::from(!set.is_empty());
    }
    assert!(taken > 20, "{taken} of the texts are sets: the dice are loaded");
}

#[tokio::test]
async fn mysql_9_agrees_about_sets() {
    agrees_about_sets(Flavour::MySql97).await;
}

#[tokio::test]
async fn mysql_5_6_agrees_about_sets() {
    agrees_about_sets(Flavour::MySql56).await;
}

/// What a real server has executed is read, printed as it prints it, and found to contain itself.
#[tokio::test]
async fn mysql_9_executed_sets_are_read() {
    let Some(program) = Flavour::MySql97.program() else { return };
    let mut server = Server::start(Flavour::MySql97, &program, 1, None).await;
    server.run("CREATE DATABASE d").await;
    server.run("CREATE TABLE d.t (i INT PRIMARY KEY)").await;
    let before = server.ask("SELECT @@global.gtid_executed").await;
    server.run("SET gtid_next='AUTOMATIC:Cotton'").await;
    server.run("INSERT INTO d.t VALUES (1)").await;
    let after = server.ask("SELECT @@global.gtid_executed").await;
    let (old, new) = (GtidSet::mysql(&before, "").expect("a set"), GtidSet::mysql(&after, "").expect("a set"));
    assert_eq!(new.to_string(), after.replace('\n', ""));
    assert!(new.is_ahead_of(&old));
    let errant = new.errant_against(&old).expect("the tagged one");
    assert!(errant.to_string().ends_with(":cotton:1"), "{errant}");
    assert_eq!(errant.to_string(), server.ask(&format!("SELECT GTID_SUBTRACT('{after}', '{before}')")).await);
}

/// A MariaDB server in a small cluster.
struct Member {
    server: Server,
    tables: u32,
    id: u32,
}

impl Member {
    async fn new(flavour: Flavour, program: &Path, seed: &Path, id: u32) -> Self {
        Self { server: Server::start(flavour, program, id, Some(seed)).await, tables: 0, id }
    }

    async fn write(&mut self, times: u32) {
        for _ in 0..times {
            self.tables += 1;
            let (id, number) = (self.id, self.tables);
            self.server.run(&format!("CREATE DATABASE d_{id}_{number}")).await;
        }
    }

    async fn position(&mut self) -> GtidSet {
        let state = self.server.ask("SELECT @@gtid_binlog_state").await;
        let slave_pos = self.server.ask("SELECT @@gtid_slave_pos").await;
        let io_pos = self.server.slave_status("Gtid_IO_Pos").await;
        GtidSet::mariadb(&state, &slave_pos, Some(&io_pos)).expect("what a server shows")
    }

    /// Starts to follow, from what the binary log has; waits for nothing.
    async fn start_following(&mut self, primary: &Self) {
        self.server.run("STOP SLAVE").await;
        self.server.run("RESET SLAVE ALL").await;
        // A former primary's, or nothing on one that was just restored.
        if !self.server.ask("SELECT @@gtid_binlog_pos").await.is_empty() {
            self.server.run("SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos").await;
        }
        let port = primary.server.port;
        let change = format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='repl', \
             MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1"
        );
        self.server.run(&change).await;
        self.server.run("START SLAVE").await;
    }

    /// Whether it applied all that `primary` has now; false: the primary refused it.
    async fn caught_up(&mut self, primary: &mut Self) -> bool {
        let wanted = primary.server.ask("SELECT @@gtid_binlog_pos").await;
        until("replication goes on or is refused", async || {
            let applied = self.server.ask(&format!("SELECT MASTER_GTID_WAIT('{wanted}', 0)")).await == "0";
            let (errno, error) =
                (self.server.slave_status("Last_IO_Errno").await, self.server.slave_status("Last_IO_Error").await);
            assert!(matches!(&*errno, "0" | "1236"), "{} cannot replicate: {errno} {error}", self.id);
            assert_eq!(self.server.slave_status("Last_SQL_Error").await, "");
            if applied { Some(true) } else { (errno == "1236").then_some(false) }
        })
        .await
    }

    /// Asks us whether it may follow, then lets the servers decide, and compares.
    async fn follow(&mut self, primary: &mut Self, expected: bool) {
        let (own, other) = (self.position().await, primary.position().await);
        assert_eq!(other.contains(&own), expected, "{own} wants to follow {other}");
        assert_eq!(own.errant_against(&other).is_none(), expected);
        self.start_following(primary).await;
        primary.write(1).await; // so that there is something to receive
        assert_eq!(self.caught_up(primary).await, expected, "{own} follows {other}");
        let (own, other) = (self.position().await, primary.position().await);
        assert_eq!(own.order(&other) == GtidOrder::Equal, expected, "{own} has followed {other}");
    }
}

#[tokio::test]
async fn mariadb_accepts_the_replicas_that_we_would() {
    accepts_the_replicas_that_we_would(Flavour::MariaDb).await;
}

#[tokio::test]
async fn mariadb_11_8_accepts_the_replicas_that_we_would() {
    accepts_the_replicas_that_we_would(Flavour::MariaDb118).await;
}

async fn accepts_the_replicas_that_we_would(flavour: Flavour) {
    let Some(program) = flavour.program() else { return };
    let (_dir, seed) = server::seed(flavour, &program);
    let new = async |id| Member::new(flavour, &program, &seed, id).await;
    let (mut one, mut two, mut three) = (new(1).await, new(2).await, new(3).await);
    assert!(one.position().await.is_empty(), "a new server has nothing");

    // One primary, two replicas; then one of them falls behind.
    one.write(5).await;
    two.follow(&mut one, true).await;
    three.follow(&mut one, true).await;
    three.server.run("STOP SLAVE").await;
    one.write(3).await;
    assert!(two.caught_up(&mut one).await);
    assert!(two.position().await.is_ahead_of(&three.position().await));

    // What is received counts before it is applied.
    two.server.run("STOP SLAVE SQL_THREAD").await;
    one.write(4).await;
    let primary = one.position().await;
    until("the relay log has it all", async || two.position().await.contains(&primary).then_some(())).await;
    let received = two.position().await;
    assert!(received.to_string().contains("received"), "{received}");
    assert_eq!(received.order(&primary), GtidOrder::Equal);
    let GtidSet::MariaDb(known) = &received else { panic!("not a position of MariaDB: {received}") };
    assert!(GtidSet::from(known.applied()).order(&primary) == GtidOrder::Behind);
    // As in a failover, and in this order: with both threads stopped, the next start throws the relay log away.
    two.server.run("START SLAVE SQL_THREAD").await;
    two.server.run("STOP SLAVE IO_THREAD").await;
    assert!(two.caught_up(&mut one).await);
    assert_eq!(two.position().await, primary);

    // Failover to two, while the old primary has written once more than anybody knows.
    one.write(1).await;
    two.server.run("STOP SLAVE").await;
    two.server.run("RESET SLAVE ALL").await;
    two.write(2).await;
    assert_eq!(one.position().await.order(&two.position().await), GtidOrder::Diverged);
    three.follow(&mut two, true).await;
    one.follow(&mut two, false).await;
    let errant = one.position().await.errant_against(&two.position().await).expect("one transaction");
    assert!(errant.to_string().starts_with("0-1-"), "{errant}");

    // A server restored from a backup knows only the last transaction of the backup, not who wrote before.
    let mut restored = new(4).await;
    let backup = two.server.ask("SELECT @@gtid_binlog_pos").await;
    restored.server.run(&format!("SET GLOBAL gtid_slave_pos = '{backup}'")).await;
    assert_eq!(restored.position().await.order(&two.position().await), GtidOrder::Equal);
    restored.follow(&mut two, true).await;
    assert!(!restored.position().await.to_string().contains("0-1-"), "{}", restored.position().await);

    // It is made primary. The others can follow, for they share its line; one that was left long before cannot.
    restored.server.run("STOP SLAVE").await;
    restored.server.run("RESET SLAVE ALL").await;
    restored.write(1).await;
    assert!(three.caught_up(&mut two).await, "what the restored one began with is not in its binary log");
    three.follow(&mut restored, true).await;
    let mut stale = new(5).await;
    stale.server.run("SET GLOBAL gtid_slave_pos = '0-1-3'").await;
    stale.follow(&mut restored, false).await;
    one.follow(&mut restored, false).await;

    // What all of this stands on: in strict mode a replica with a transaction of its own takes no other in its place.
    three.write(1).await;
    restored.write(1).await;
    until("replication stops", async || (three.server.slave_status("Last_SQL_Errno").await == "1950").then_some(()))
        .await;
    assert!(!restored.position().await.contains(&three.position().await));

    // What it has received and cannot take is told all the same.
    let position = three.position().await;
    assert!(position.to_string().contains("received 0-4-"), "{position}");

    // And what we print is what the server takes.
    let GtidSet::MariaDb(known) = &position else { panic!("not a position of MariaDB: {position}") };
    let position = GtidSet::from(known.applied());
    assert_eq!(position.to_string().parse::<MariaDbGtids>().map(GtidSet::from), Ok(position.clone()));
    let mut empty = new(6).await;
    empty.server.run(&format!("SET GLOBAL gtid_binlog_state = '{position}'")).await;
    assert_eq!(empty.position().await, position);
}
