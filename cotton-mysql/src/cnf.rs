//! The text of `my.cnf`: what this version understands, sized by what the server may use. It never holds a secret.
//!
//! Settings that a plugin brings are written with `loose_`, so that a server without it still starts.

use crate::dialect::{Dialect, Flavour};
use crate::programs::Server;
use crate::{InstanceConfig, engines};
use cotton_core::resources::MIB;
use std::fmt::Write;
use std::path::Path;

const GIB: u64 = 1024 * MIB;

/// What a server needs beside its buffer pool, whatever its size: 60 MiB when it is idle, and some sessions. A container that
/// is confined to its memory is killed otherwise.
const BESIDE_THE_POOL: u64 = 96 * MIB;

/// Commits wait for acknowledgements as good as for ever: nothing is confirmed that only one server has. In ms.
pub(crate) const ACK_TIMEOUT_MS: u64 = 365 * 24 * 3600 * 1000;

/// Seconds without a word after which a replica thinks that its connection is dead.
pub(crate) const NET_TIMEOUT_S: u64 = 4;

/// How often a replica tries to reach its primary: for ever. Although 0 is documented to mean that, receivers of MariaDB
/// and of MySQL 5.6 then end when a second connection in a row breaks before the first event.
pub(crate) const CONNECT_RETRIES: u32 = u32::MAX;

/// Connections that no account of the cluster's user gets: for us, for replicas, and for whoever is being let in or refused.
const RESERVED_CONNECTIONS: u64 = 64;

/// What else the text depends on.
pub(crate) struct Place<'a> {
    pub(crate) socket: &'a Path,
    pub(crate) server_id: u64,
    /// Port of our copy server, which recipients read out of `report_user`.
    pub(crate) copy_port: Option<u16>,
    /// Whether crash recovery may cut off what no replica has acknowledged.
    pub(crate) cut_unacknowledged: bool,
}

/// Sizes by memory, cpus and disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) buffer_pool: u64,
    pub(crate) buffer_pool_chunk: u64,
    pub(crate) buffer_pool_instances: u64,
    pub(crate) redo_log: u64,
    pub(crate) binlog: u64,
    /// For all accounts of the cluster's user together.
    pub(crate) user_connections: u64,
    pub(crate) connections: u64,
    pub(crate) tables: u64,
    pub(crate) io_threads: u64,
    pub(crate) appliers: u64,
    pub(crate) performance_schema: bool,
    /// The largest table in memory, of all sessions and appliers alike.
    pub(crate) memory_table: u64,
}

impl Sizes {
    pub(crate) fn of(config: &InstanceConfig) -> Self {
        let mem = config.resources.mem_bytes;
        let mem_mib = mem / MIB;
        // 75 % as Apache Cotton, if that leaves enough for the rest; rounded so that the pool is a whole number of chunks,
        // else the server rounds up
        let wanted = (mem / 4 * 3).min(mem.saturating_sub(BESIDE_THE_POOL));
        let instances = (wanted / GIB).clamp(1, 8);
        let unit = match wanted / GIB {
            0 => MIB,
            1..32 => 16 * MIB * instances,
            _ => 128 * MIB * instances,
        };
        let buffer_pool = (wanted / unit * unit).max(5 * MIB);
        let per_instance = buffer_pool / instances;
        let chunk = (0..=7).rev().map(|power| MIB << power).find(|chunk| per_instance.is_multiple_of(*chunk));
        let user_connections = (mem_mib / 4).clamp(40, 4000) - 16;
        Self {
            buffer_pool,
            buffer_pool_chunk: chunk.unwrap_or(MIB),
            buffer_pool_instances: instances,
            redo_log: power_of_two(buffer_pool / 4, 16 * MIB, (config.resources.disk_bytes / 16).min(2 * GIB)),
            binlog: power_of_two(config.resources.disk_bytes / 32, 16 * MIB, 512 * MIB),
            user_connections,
            connections: user_connections + RESERVED_CONNECTIONS,
            tables: (mem_mib / 2).clamp(200, 4000),
            io_threads: config.resources.cpus_milli.div_ceil(1000).clamp(2, 16),
            appliers: (config.resources.cpus_milli.div_ceil(1000) * 4).clamp(4, 32),
            performance_schema: mem >= 2 * GIB,
            memory_table: power_of_two(mem / 16, 16 * MIB, 256 * MIB),
        }
    }
}

/// The largest power of two up to `wanted`, within bounds; the lower bound wins.
fn power_of_two(wanted: u64, min: u64, max: u64) -> u64 {
    let bounded = wanted.min(max).max(min);
    1 << bounded.ilog2()
}

/// Settings that must be the same when the data directory is made and when it is used.
pub(crate) fn bootstrap_options(dialect: Dialect, sizes: &Sizes) -> Vec<String> {
    let mut options = vec!["--innodb-buffer-pool-size=32M".to_owned()];
    if dialect.is_mysql_from((8, 0, 30)) {
        options.push(format!("--innodb-redo-log-capacity={}", sizes.redo_log));
    } else if dialect.is_mariadb() {
        options.push(format!("--innodb-log-file-size={}", sizes.redo_log));
    } else {
        options.push(format!("--innodb-log-file-size={}", sizes.redo_log / 2));
    }
    if dialect.is_mysql_from((8, 0, 17)) {
        options.push("--partial-revokes=ON".to_owned());
    }
    options
}

/// The whole text.
pub(crate) fn render(server: &Server, config: &InstanceConfig, dirs: &crate::dirs::Dirs, place: &Place<'_>) -> String {
    let mut text = String::from("# written at each start of the server; changes are lost\n[mysqld]\n");
    let mut set = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{name} = {value}"); // a String takes everything
    };
    let dialect = server.dialect;
    let sizes = Sizes::of(config);

    set("datadir", &dirs.data().display());
    set("tmpdir", &dirs.tmp().display());
    set("socket", &place.socket.display());
    set("pid_file", &dirs.pid_file().display());
    set("log_error", &dirs.error_log().display());
    set("bind_address", &config.bind_address);
    set("port", &config.endpoint.port);
    set("report_host", &config.endpoint.host);
    set("report_port", &config.endpoint.port);
    if let Some(port) = place.copy_port {
        set("report_user", &format!("{COPY_PORT_PREFIX}{port}"));
    }
    set("server_id", &place.server_id);
    set("skip_name_resolve", &"ON");
    set("local_infile", &"OFF");
    // statements reach no file but those of the data directory, neither by FILE nor by DATA DIRECTORY
    if dialect.is_mysql_from((5, 7, 6)) {
        set("secure_file_priv", &"NULL");
    } else {
        set("secure_file_priv", &dirs.files().display());
    }
    if !dialect.is_mysql_from((8, 0, 0)) {
        set("symbolic_links", &"OFF");
    }
    set("event_scheduler", &"OFF"); // on at a promotion only
    set("character_set_server", &"utf8mb4");

    // what an administrator made lasting with SET PERSIST would stand above all that is here
    if dialect.is_mysql_from((8, 0, 0)) {
        set("persisted_globals_load", &"OFF");
    }

    // nobody writes and nothing is replicated before we say so
    set("read_only", &"ON");
    if dialect.has_super_read_only() {
        set("super_read_only", &"ON");
    }
    set(if dialect.has_new_words() { "skip_replica_start" } else { "skip_slave_start" }, &"ON");

    // a commit is on disk before it is answered, and so is what replicas are told
    set("log_bin", &"binlog");
    set("relay_log", &"relay");
    set("sync_binlog", &1);
    set("innodb_flush_log_at_trx_commit", &1);
    set("relay_log_recovery", &"OFF"); // what was received and not applied outlives the process
    set("max_binlog_size", &sizes.binlog);
    set("log_bin_trust_function_creators", &"ON"); // the cluster's user has no SUPER; row format makes it safe
    if dialect.is_mysql_from((8, 0, 17)) {
        set("binlog_expire_logs_seconds", &(3 * 24 * 3600));
        set("partial_revokes", &"ON");
    } else {
        set("expire_logs_days", &3);
    }
    if !dialect.is_mysql_from((8, 0, 34)) {
        set("binlog_format", &"ROW");
    }
    set(if dialect.has_new_words() { "log_replica_updates" } else { "log_slave_updates" }, &"ON");
    let net_timeout = if dialect.has_new_words() { "replica_net_timeout" } else { "slave_net_timeout" };
    set(net_timeout, &NET_TIMEOUT_S);
    match dialect.flavour {
        Flavour::MariaDb => {
            set("gtid_domain_id", &0);
            set("gtid_strict_mode", &"ON");
            set("binlog_annotate_row_events", &"OFF"); // halves the binary log
            set("master_retry_count", &CONNECT_RETRIES);
            // the applier commits in groups too, else it falls behind a primary with many writers, and a promotion waits
            // for it; the order of commits stays that of the primary
            set("slave_parallel_threads", &sizes.appliers);
            set("slave_parallel_mode", &"optimistic");
            set("init_rpl_role", &if place.cut_unacknowledged { "SLAVE" } else { "MASTER" });
        }
        Flavour::MySql => {
            set("gtid_mode", &"ON");
            set("enforce_gtid_consistency", &"ON");
            if dialect.is_mysql_before((8, 0, 2)) {
                set("master_info_repository", &"TABLE");
                set("relay_log_info_repository", &"TABLE");
            }
        }
    }
    engines(&mut set, dialect, &sizes);
    semi_sync(&mut set, server, config);
    if server.clone {
        set("plugin_load_add", &"mysql_clone.so");
    }

    memory(&mut set, dialect, &sizes);
    text
}

/// What stands before the port of the copy server in `report_user`.
pub(crate) const COPY_PORT_PREFIX: &str = "copy-port-";

fn memory(set: &mut dyn FnMut(&str, &dyn std::fmt::Display), dialect: Dialect, sizes: &Sizes) {
    set("innodb_buffer_pool_size", &sizes.buffer_pool);
    if dialect.is_mysql_from((5, 7, 5)) {
        set("innodb_buffer_pool_chunk_size", &sizes.buffer_pool_chunk);
    }
    if !dialect.is_mariadb() {
        set("innodb_buffer_pool_instances", &sizes.buffer_pool_instances);
    }
    if dialect.is_mysql_from((8, 0, 30)) {
        set("innodb_redo_log_capacity", &sizes.redo_log);
    } else if dialect.is_mariadb() {
        set("innodb_log_file_size", &sizes.redo_log);
    } else {
        set("innodb_log_file_size", &(sizes.redo_log / 2)); // there are two
    }
    set("innodb_flush_method", &"O_DIRECT");
    set("innodb_read_io_threads", &sizes.io_threads);
    set("innodb_write_io_threads", &sizes.io_threads);
    if dialect.is_mariadb() {
        set("aria_pagecache_buffer_size", &(8 * MIB));
    }
    set("performance_schema", &if sizes.performance_schema { "ON" } else { "OFF" });
    if dialect.is_mysql_from((8, 0, 11)) {
        set("mysqlx", &"OFF");
    }
    set("max_connections", &sizes.connections);
    set("max_user_connections", &sizes.user_connections); // all of the user's accounts share as many, see upkeep
    set("thread_cache_size", &sizes.io_threads.max(8));
    set("table_open_cache", &sizes.tables);
    set("table_definition_cache", &sizes.tables.max(400));
}

/// Only tables that take part in transactions, as far as the server can be told so.
fn engines(set: &mut dyn FnMut(&str, &dyn std::fmt::Display), dialect: Dialect, sizes: &Sizes) {
    if dialect.is_mysql_from((5, 7, 8)) {
        return set("disabled_storage_engines", &engines::REFUSED);
    }
    if dialect.is_mariadb() {
        set("enforce_storage_engine", &engines::ENFORCED);
        // without NO_ENGINE_SUBSTITUTION: with it, the server refuses to rebuild InnoDB's own tables with partitions
        set("sql_mode", &"STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER");
    } else {
        for name in ["archive", "blackhole", "federated"] {
            set(&format!("loose_{name}"), &"OFF");
        }
    }
    // Tables in memory are possible, or overlooked: a session must not make one that is too large for the replicas' appliers.
    for prefix in ["", "maximum_"] {
        set(&format!("{prefix}max_heap_table_size"), &sizes.memory_table);
    }
}

fn semi_sync(set: &mut dyn FnMut(&str, &dyn std::fmt::Display), server: &Server, config: &InstanceConfig) {
    if !config.semi_sync || !server.semi_sync {
        return;
    }
    let dialect = server.dialect;
    let (source, replica) = if dialect.has_new_words() { ("source", "replica") } else { ("master", "slave") };
    if !dialect.is_mariadb() {
        set("plugin_load_add", &format!("semisync_{source}.so"));
        set("plugin_load_add", &format!("semisync_{replica}.so"));
    }
    // the source's side stays off until a promotion: on a replica its own applier would wait for acknowledgements
    set(&format!("loose_rpl_semi_sync_{source}_enabled"), &"OFF");
    set(&format!("loose_rpl_semi_sync_{source}_timeout"), &ACK_TIMEOUT_MS);
    set(&format!("loose_rpl_semi_sync_{source}_wait_no_{replica}"), &"ON");
    if !dialect.is_mysql_before((5, 7, 2)) {
        set(&format!("loose_rpl_semi_sync_{source}_wait_point"), &"AFTER_SYNC");
    }
    set(&format!("loose_rpl_semi_sync_{replica}_enabled"), &"ON");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::example;
    use crate::dirs::Dirs;
    use cotton_core::Resources;

    fn sizes(mem_mib: u64) -> Sizes {
        let mut config = example();
        config.resources = Resources { mem_bytes: mem_mib * MIB, ..Resources::DEFAULT };
        Sizes::of(&config)
    }

    #[test]
    fn three_quarters_of_the_memory_as_apache_cotton() {
        assert_eq!(sizes(480).buffer_pool, 377_487_360);
    }

    #[test]
    fn the_pool_is_a_whole_number_of_chunks() {
        for mem_mib in [1, 64, 100, 333, 480, 1024, 1365, 1366, 4096, 5000, 65_536, 1_000_000] {
            let sizes = sizes(mem_mib);
            assert_eq!(sizes.buffer_pool % (sizes.buffer_pool_chunk * sizes.buffer_pool_instances), 0, "{mem_mib}");
            assert!(sizes.buffer_pool <= (mem_mib * MIB / 4 * 3).max(5 * MIB), "{mem_mib}");
            let beside = mem_mib * MIB - sizes.buffer_pool.min(mem_mib * MIB);
            assert!(beside >= BESIDE_THE_POOL || sizes.buffer_pool == 5 * MIB, "{mem_mib}: nothing left for the rest");
            assert!(beside <= (mem_mib * MIB / 2).max(BESIDE_THE_POOL + MIB), "{mem_mib}: too much rounded off");
            assert!(sizes.user_connections >= 24 && sizes.connections > sizes.user_connections);
            let wasteful = sizes.buffer_pool / sizes.buffer_pool_chunk > 10_000;
            assert!(!wasteful, "{mem_mib}");
        }
    }

    /// Run with `COTTON_GOLDEN=write` to accept what is rendered now.
    #[test]
    fn golden() {
        let versions = [
            (Flavour::MariaDb, (10, 11, 19), true, "mariadb-10.11"),
            (Flavour::MySql, (5, 6, 24), false, "mysql-5.6"),
            (Flavour::MySql, (5, 7, 42), true, "mysql-5.7"),
            (Flavour::MySql, (8, 0, 46), true, "mysql-8.0"),
            (Flavour::MySql, (9, 7, 4), true, "mysql-9.7"),
        ];
        for (flavour, version, semi_sync, name) in versions {
            let dialect = Dialect { flavour, version };
            let server = Server { dialect, share: "/share".into(), semi_sync, clone: dialect.has_clone() };
            let dirs = Dirs { root: "/srv/m".into(), owner: None };
            let socket = Path::new("/run/x/mysqld.sock");
            let place = Place { socket, server_id: 7, copy_port: Some(40_000), cut_unacknowledged: false };
            let mut config = example();
            config.resources.mem_bytes = 480 * MIB;
            let text = render(&server, &config, &dirs, &place);
            assert!(!text.contains("secret\n"), "{text}");
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.cnf"));
            if std::env::var_os("COTTON_GOLDEN").is_some() {
                std::fs::write(&file, &text).expect("golden files can be written");
            }
            let golden = std::fs::read_to_string(&file).expect("golden file");
            assert_eq!(text, golden, "{name}: COTTON_GOLDEN=write accepts it");
        }
    }
}
