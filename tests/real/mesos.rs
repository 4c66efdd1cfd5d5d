//! A real Apache Mesos 1.11.0 on this machine: a master and agents, each a process of its own, which can be killed, stopped
//! and brought back on its state and port.

mod cgroups;

use crate::cotton::place;
use crate::processes::kill_below;
use crate::{Directory, Failure, Process, within};
use cotton_core::Endpoint;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::sync::SemaphorePermit;

/// How long a process of Mesos may take to be ready.
const READY: Duration = Duration::from_secs(90);
/// How long the operator's calls may take: the master writes what some of them change to its disk before it answers.
const ANSWER: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(25);
/// Ports for tasks, of each agent.
const PORTS_EACH: u16 = 10;
/// Most agents of one cluster, as far as ports go.
const AGENTS_MAX: u16 = 10;

/// Settings of Mesos: without its prefix `MESOS_`, as in its documents on configuration.
pub type Settings = BTreeMap<String, String>;

/// What to start.
#[derive(Clone, Debug)]
pub struct MesosOptions {
    /// How many agents.
    pub agents: u16,
    /// What each of them has, without ports: in the text form of Mesos.
    pub resources: String,
    /// More settings of the master.
    pub master: Settings,
    /// More settings of every agent.
    pub agent: Settings,
    /// Whether each agent is a machine of its own to Mesos, 127.0.0.1, 127.0.0.2 and so on, instead of all one.
    pub machines: bool,
    /// Whether containers are confined to their cpus and memory; see [`RealMesos::can_isolate`].
    pub isolated: bool,
}

impl Default for MesosOptions {
    fn default() -> Self {
        let resources = "cpus:4;mem:2048;disk:10240".to_owned();
        Self { agents: 1, resources, master: Settings::new(), agent: Settings::new(), machines: false, isolated: false }
    }
}

/// See the module. Dropping it ends everything, executors and what they started included.
#[derive(Debug)]
pub struct RealMesos {
    programs: PathBuf,
    options: MesosOptions,
    master: Option<Child>,
    agents: Vec<Option<Child>>,
    http: reqwest::Client,
    // after those above, which are waited for before everything below it is ended
    directory: Directory,
    _place: SemaphorePermit<'static>,
}

impl RealMesos {
    /// Whether there is one, as `tests/real/mesos/mesos-fetch.sh` builds it; says so loudly when not.
    ///
    /// # Panics
    /// When there is none in CI: a server that cannot be had is a failure there.
    pub fn is_installed() -> bool {
        let found = programs().is_some();
        if !found {
            assert!(std::env::var_os("CI").is_none(), "Mesos is not installed: run 'scripts/setup --all'");
            eprintln!("SKIPPED: Mesos is not installed: run 'scripts/setup --all'");
        }
        found
    }

    /// Whether containers can be confined to their memory here; says so loudly when not. It takes cgroups v1, and root.
    ///
    /// # Panics
    /// When they cannot in CI.
    pub fn can_isolate() -> bool {
        let can = cgroups::are_there() && rustix::process::geteuid().is_root();
        if !can {
            let words = "containers cannot be confined here: that takes root, and cgroups v1 below /sys/fs/cgroup";
            assert!(std::env::var_os("CI").is_none(), "{words}");
            eprintln!("SKIPPED: {words}");
        }
        can
    }

    /// Starts a master and agents, and waits until all are registered.
    ///
    /// # Errors
    /// When Mesos is not installed, or does not start.
    ///
    /// # Panics
    /// When more agents are wanted than there are ports for.
    pub async fn start(options: MesosOptions) -> Result<Self, Failure> {
        assert!(options.agents <= AGENTS_MAX, "there are ports for {AGENTS_MAX} agents");
        let missing = || Failure::new("Mesos is not installed: run 'scripts/setup --all'");
        let programs = programs().ok_or_else(missing)?;
        let place = place().await;
        let directory = Directory::new()?;
        std::fs::create_dir_all(directory.path())?;
        let count = options.agents;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
        let mut this = Self { programs, options, master: None, agents: Vec::new(), http, directory, _place: place };
        this.start_master().await?;
        this.agents.resize_with(count.into(), || None);
        for agent in 0..count {
            this.start_agent(agent)?;
        }
        this.until_active(count.into()).await?;
        Ok(this)
    }

    /// How many agents there are, running or not.
    pub fn agents(&self) -> u16 {
        self.options.agents
    }

    /// Where the master is.
    pub fn master(&self) -> Endpoint {
        Endpoint::new("127.0.0.1", self.directory.ports().0)
    }

    /// Starts the master, on its state if it has run before, and waits until it is past its recovery.
    ///
    /// # Errors
    /// When it runs already, or does not come up.
    pub async fn start_master(&mut self) -> Result<(), Failure> {
        let work = self.directory.path().join("master");
        let port = self.master().port;
        let mut settings = BTreeMap::from([("WORK_DIR", work.display().to_string()), ("NUM_SLAVES", "0".to_owned())]);
        settings.extend(fast());
        let child = launch(&self.programs, &work, "master", port, &settings, &self.options.master, &mut self.master)?;
        self.master = Some(child);
        let call = json!({ "type": "GET_VERSION" });
        let ready = async {
            // without credentials, a master that wants some says so when it is up
            while !self.post(&call).await.is_ok_and(|answer| matches!(answer.status().as_u16(), 200 | 401)) {
                tokio::time::sleep(POLL).await;
            }
        };
        within(READY, "the Mesos master is ready", ready).await
    }

    /// Starts an agent, on its state if it has run before.
    ///
    /// # Errors
    /// When it runs already, or cannot be started.
    pub fn start_agent(&mut self, agent: u16) -> Result<(), Failure> {
        let work = self.agent_dir(agent);
        let (first, _) = self.directory.ports();
        let ports = first + 1 + AGENTS_MAX + agent * PORTS_EACH;
        let resources = format!("{};ports:[{}-{}]", self.options.resources, ports, ports + PORTS_EACH - 1);
        let below = |name: &str| self.directory.path().join(format!("agent-{agent}-{name}")).display().to_string();
        let machine = if self.options.machines { agent + 1 } else { 1 };
        let mut settings = BTreeMap::from([
            ("MASTER", self.master().to_string()),
            ("WORK_DIR", work.display().to_string()),
            ("RUNTIME_DIR", below("run")),
            ("FETCHER_CACHE_DIR", below("fetch")),
            ("LAUNCHER_DIR", self.programs.join("libexec").display().to_string()),
            ("LAUNCHER", "posix".to_owned()),
            ("ISOLATION", "posix/cpu,posix/mem".to_owned()),
            ("SYSTEMD_ENABLE_SUPPORT", "false".to_owned()),
            ("HOSTNAME", format!("127.0.0.{machine}")),
            ("RESOURCES", resources),
        ]);
        if !rustix::process::geteuid().is_root() {
            settings.insert("SWITCH_USER", "false".to_owned());
        }
        let root = self.cgroup(agent);
        if self.options.isolated {
            settings.insert("LAUNCHER", "linux".to_owned());
            settings.insert("ISOLATION", "cgroups/cpu,cgroups/mem".to_owned());
            settings.insert("CGROUPS_ROOT", root);
        }
        settings.extend(fast());
        let slot = &mut self.agents[usize::from(agent)];
        let more = &self.options.agent;
        let child = launch(&self.programs, &work, "agent", first + 1 + agent, &settings, more, slot)?;
        *slot = Some(child);
        Ok(())
    }

    /// SIGKILL to the master; returns when it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_master(&mut self) -> Result<(), Failure> {
        kill(&mut self.master)
    }

    /// SIGKILL to an agent; returns when it is gone. Its executors live on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_agent(&mut self, agent: u16) -> Result<(), Failure> {
        kill(&mut self.agents[usize::from(agent)])
    }

    /// Sends a signal to the master, such as to stop it and to let it go on.
    pub fn signal_master(&self, with: Signal) {
        signal(self.master.as_ref(), with);
    }

    /// Sends a signal to an agent alone.
    pub fn signal_agent(&self, agent: u16, with: Signal) {
        signal(self.agents[usize::from(agent)].as_ref(), with);
    }

    /// All processes of an agent's tasks.
    pub fn task_processes(&self, agent: u16) -> Vec<Process> {
        let is_agent = |process: &Process| process.command.first().is_some_and(|path| path.ends_with("mesos-node"));
        crate::below(&self.agent_dir(agent)).into_iter().filter(|process| !is_agent(process)).collect()
    }

    /// Waits until so many agents are registered and active.
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn until_active(&self, agents: usize) -> Result<(), Failure> {
        let url = format!("http://{}/metrics/snapshot", self.master());
        let active = || async {
            let metrics: Value = self.http.get(&url).send().await.ok()?.json().await.ok()?;
            metrics["master/slaves_active"].as_f64()
        };
        let wanted = u32::try_from(agents).map_or(f64::INFINITY, f64::from);
        let ready = async {
            while active().await.is_none_or(|active| (active - wanted).abs() > 0.5) {
                tokio::time::sleep(POLL).await;
            }
        };
        within(READY, "all agents are registered", ready).await
    }

    /// Makes a call to the operator API of the master.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn operator(&self, call: Value) -> Result<Value, Failure> {
        let answer = self.request(&call).timeout(ANSWER).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            return Err(Failure::new(format!("the master answers {status} to {call}: {text}")));
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|error| Failure::because("the master's answer", &error))
    }

    /// Where it is: everything that belongs to it is below.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Where an agent logs.
    pub fn agent_log(&self, agent: u16) -> PathBuf {
        self.agent_dir(agent).with_extension("log")
    }

    fn agent_dir(&self, agent: u16) -> PathBuf {
        self.directory.path().join(format!("agent-{agent}"))
    }

    /// Each agent has its own: it ends every container that it finds there and does not know.
    fn cgroup(&self, agent: u16) -> String {
        format!("cotton-test-{}-{agent}", self.directory.ports().0)
    }

    async fn post(&self, call: &Value) -> Result<reqwest::Response, reqwest::Error> {
        self.request(call).send().await
    }

    fn request(&self, call: &Value) -> reqwest::RequestBuilder {
        self.http.post(format!("http://{}/api/v1", self.master())).json(call)
    }
}

impl Drop for RealMesos {
    fn drop(&mut self) {
        for child in self.agents.iter_mut().chain([&mut self.master]).filter(|child| child.is_some()) {
            let _ended_before = kill(child);
        }
        if self.options.isolated {
            kill_below(self.directory.path());
            (0..self.options.agents).for_each(|agent| cgroups::remove(&self.cgroup(agent)));
        }
    }
}

/// Shorter than the defaults of Mesos, so that tests need not wait: offers come every 200 ms, a silent agent is
/// unreachable after 5 s, and those 5 s are also what an agent needs to notice a restarted master.
fn fast() -> [(&'static str, String); 4] {
    [
        ("ALLOCATION_INTERVAL", "200ms".to_owned()),
        ("AGENT_PING_TIMEOUT", "1secs".to_owned()),
        ("MAX_AGENT_PING_TIMEOUTS", "5".to_owned()),
        ("REGISTRATION_BACKOFF_FACTOR", "10ms".to_owned()),
    ]
}

fn launch(
    programs: &Path,
    work: &Path,
    role: &str,
    port: u16,
    settings: &BTreeMap<&'static str, String>,
    more: &Settings,
    slot: &mut Option<Child>,
) -> Result<Child, Failure> {
    if slot.is_some() {
        return Err(Failure::new(format!("the {role} at port {port} runs already")));
    }
    std::fs::create_dir_all(work)?;
    let log = File::options().create(true).append(true).open(work.with_extension("log"))?;
    let prefixed = |(name, value): (&str, &String)| (format!("MESOS_{name}"), value.clone());
    let child = Command::new(programs.join("libexec/mesos-node"))
        .arg(role)
        .env_clear()
        .envs(["PATH", "HOME", "LANG"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(settings.iter().map(|(name, value)| prefixed((*name, value))))
        .envs(more.iter().map(|(name, value)| prefixed((name.as_str(), value))))
        .env("LIBPROCESS_IP", "127.0.0.1")
        .env("LIBPROCESS_PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn();
    child.map_err(|error| Failure::because(format!("starting the Mesos {role}"), &error))
}

fn kill(slot: &mut Option<Child>) -> Result<(), Failure> {
    let mut child = slot.take().ok_or_else(|| Failure::new("that process of Mesos does not run"))?;
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn signal(child: Option<&Child>, signal: Signal) {
    if let Some(process) = child.and_then(|child| Process::open(child.id())) {
        process.signal(signal);
    }
}

fn programs() -> Option<PathBuf> {
    let cache = std::env::var_os("COTTON_MESOS_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache/cotton-mesos")))?;
    cache.join("libexec/mesos-node").exists().then_some(cache)
}
