//! A cluster of databases on a real Mesos: the real executor, fetched by the agents, as it runs under the local ones.

use crate::scheduler::STEP;
use cotton_bin::api::{self, ApiConfig};
use cotton_bin::secret::SealingKey;
use cotton_core::driver::scheduler::{self, Ports, Scheduler};
use cotton_core::fleet::Config as FleetConfig;
use cotton_core::spec::Limits;
use cotton_core::testkit::memory_discovery::MemoryDiscovery;
use cotton_core::testkit::memory_store::MemoryStore;
use cotton_mesos::{ExecutorConfig, ExecutorUri, FrameworkConfig, HttpMesos, MasterList, SchedulerConfig};
use cotton_tests::{Api, Client, Failure, Flavour, MesosOptions, Process, RealMesos, Wanted, program, within};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// A scheduler and its API, on a Mesos.
struct Whole {
    api: Api,
    scheduler: Scheduler,
    _stopping: watch::Sender<bool>,
}

impl Whole {
    async fn start(mesos: &RealMesos) -> Result<Self, Failure> {
        let key_file = mesos.directory().path().join("key");
        let key = SealingKey::load_or_create(&key_file).map_err(|error| Failure::because("the key", &error))?;
        cotton_tests::for_executors(&key_file)?;
        let masters: MasterList =
            mesos.master().to_string().parse().map_err(|error| Failure::because("the master", &error))?;
        let connection = HttpMesos::new(config(&key_file)?, Arc::new(masters));
        let connection = connection.map_err(|error| Failure::because("the connection", &error))?;
        let ports = Ports {
            mesos: Arc::new(connection),
            state: Arc::new(MemoryStore::new()),
            discovery: Arc::new(MemoryDiscovery::new()),
        };
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let wall_clock = Arc::new(move || now() * 1000);
        let scheduler = scheduler::start(FleetConfig::default(), ports, wall_clock).await?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let stopping = watch::Sender::new(false);
        let config = ApiConfig {
            key,
            limits: Limits::default(),
            cluster_url_prefix: "test/".to_owned(),
            hosts: Arc::new(api::Hosts::new([127, 0, 0, 1].into(), &[])),
            stopping: stopping.subscribe(),
            agents: None,
        };
        let router = api::router(Arc::new(scheduler.handle.clone()), config);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let this = Self { api: Api::new(port), scheduler, _stopping: stopping };
        this.api.until_ready(STEP).await?;
        Ok(this)
    }
}

fn config(key_file: &Path) -> Result<SchedulerConfig, Failure> {
    // Mesos fetches it as the framework's user, who may not get to where it was built.
    let readable = key_file.with_file_name("cotton-executor");
    std::fs::copy(program("cotton-executor")?, &readable)?;
    let mut executor = ExecutorConfig::new("exec ./cotton-executor");
    executor.uris = vec![ExecutorUri::program(readable.display().to_string())];
    executor.environment.insert("COTTON_KEY_FILE".to_owned(), key_file.display().to_string());
    executor.environment.insert("COTTON_BIND_ADDRESS".to_owned(), "127.0.0.1".to_owned());
    // Not root, who must not run databases, when we can choose.
    let user = if rustix::process::geteuid().is_root() { "nobody".to_owned() } else { crate::scheduler::user() };
    Ok(SchedulerConfig::new(FrameworkConfig::new("cotton-test", user), executor))
}

#[tokio::test]
async fn databases_run_on_mesos_and_survive_a_master_and_a_primary() -> Result<(), Failure> {
    if !RealMesos::is_installed() || Flavour::MariaDb.programs().is_none() {
        return Ok(());
    }
    let mut mesos = RealMesos::start(MesosOptions { agents: 3, ..MesosOptions::default() }).await?;
    let whole = Whole::start(&mesos).await?;
    let wanted = Wanted::small(3);
    let created = whole.api.create("orders", &wanted).await?;
    let cluster = whole.api.until_healthy("orders", STEP).await?;
    let client = Client::new(wanted.user, created.password.clone());
    let primary = cluster.endpoint.clone().ok_or_else(|| Failure::new("no endpoint"))?;
    client.run(&primary, "CREATE DATABASE d").await?;
    client.run(&primary, "CREATE TABLE d.t (id INT PRIMARY KEY)").await?;
    client.run(&primary, "INSERT INTO d.t VALUES (1)").await?;

    // A master that dies takes nothing with it, and a primary that dies meanwhile is replaced by a replica afterwards.
    mesos.kill_master()?;
    client.run(&primary, "INSERT INTO d.t VALUES (2)").await?;
    mesos.start_master().await?;
    mesos.until_active(3).await?;
    whole.api.until_ready(STEP).await?;
    let task = cluster.primary()?.task.clone();
    let executor = (0..3).flat_map(|agent| mesos.task_processes(agent));
    let executor = executor.filter(Process::is_executor).find(|process| process.task.as_deref() == Some(&task));
    executor.ok_or_else(|| Failure::new(format!("no executor of {task}")))?.kill();
    let moved = whole
        .api
        .until("orders", STEP, "another primary", |cluster| {
            cluster.is_healthy() && cluster.endpoint.as_ref().is_some_and(|endpoint| *endpoint != primary)
        })
        .await?;
    let primary = moved.endpoint.clone().ok_or_else(|| Failure::new("no endpoint"))?;
    let rows = client.numbers(&primary, "SELECT id FROM d.t").await?;
    assert_eq!(rows, [1, 2].into());

    // When it is deleted, Mesos is as it was before.
    whole.api.delete("orders", &created.password).await?;
    whole.api.until_gone("orders", STEP).await?;
    let idle = async {
        loop {
            let left = mesos.operator(json!({ "type": "GET_TASKS" })).await?;
            let processes: usize = (0..3).map(|agent| mesos.task_processes(agent).len()).sum();
            if left["get_tasks"]["tasks"].as_array().is_none_or(Vec::is_empty) && processes == 0 {
                return Ok::<(), Failure>(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(STEP, "nothing of the cluster is left", idle).await??;
    whole.scheduler.handle.stop().await;
    Ok(())
}
