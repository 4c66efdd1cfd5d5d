//! What the world does to servers, executors and the scheduler.

use crate::rng::Rng;
use crate::scene::Scene;
use cotton_tests::{Failure, Member, Process};
use rustix::process::Signal;
use std::time::Duration;

/// Whose processes it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Primary,
    Replica,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL to a server.
    KillServer(Whose),
    /// SIGKILL to an executor; its server ends with it.
    KillExecutor(Whose),
    /// SIGKILL to both at once.
    KillMember(Whose),
    /// SIGSTOP to a server, and SIGCONT later.
    StopServer(Whose),
    /// The same with an executor.
    StopExecutor(Whose),
    /// The same with both, as a machine that hangs.
    FreezeMember(Whose),
    /// SIGKILL to all servers of the cluster.
    KillAllServers,
    /// SIGKILL to the scheduler, which is started again later.
    KillScheduler,
    /// SIGSTOP to the scheduler, and SIGCONT later.
    StopScheduler,
    /// The disk of a member is full for a while.
    FillDisk(Whose),
    /// A person asks for a switchover.
    Switchover,
}

impl Fault {
    pub(crate) const ALL: [Self; 18] = [
        Self::KillServer(Whose::Primary),
        Self::KillServer(Whose::Replica),
        Self::KillExecutor(Whose::Primary),
        Self::KillExecutor(Whose::Replica),
        Self::KillMember(Whose::Primary),
        Self::KillMember(Whose::Replica),
        Self::StopServer(Whose::Primary),
        Self::StopServer(Whose::Replica),
        Self::StopExecutor(Whose::Primary),
        Self::StopExecutor(Whose::Replica),
        Self::FreezeMember(Whose::Primary),
        Self::FreezeMember(Whose::Replica),
        Self::KillAllServers,
        Self::KillScheduler,
        Self::StopScheduler,
        Self::FillDisk(Whose::Primary),
        Self::FillDisk(Whose::Replica),
        Self::Switchover,
    ];

    /// Whether a member's data is lost by it where data does not outlive tasks.
    pub(crate) fn ends_a_task(self) -> bool {
        matches!(self, Self::KillExecutor(_) | Self::KillMember(_))
    }

    /// Whether a process of a member is stopped by it, and goes on later.
    pub(crate) fn stops(self) -> bool {
        matches!(self, Self::StopServer(_) | Self::StopExecutor(_) | Self::FreezeMember(_))
    }

    /// Whether a primary is lost by it.
    pub(crate) fn takes_the_primary(self) -> bool {
        use Fault::{KillAllServers, KillExecutor, KillMember, KillServer};
        matches!(self, KillServer(Whose::Primary) | KillExecutor(Whose::Primary) | KillMember(Whose::Primary))
            || self == KillAllServers
    }

    pub(crate) async fn happen(self, scene: &Scene<'_>, mut rng: Rng) -> Result<(), Failure> {
        tokio::time::sleep(rng.ms(0, 1_500)).await;
        let member = |whose: Whose, rng: &mut Rng| victim(scene, whose, rng);
        match self {
            Self::KillServer(whose) => {
                let member = member(whose, &mut rng)?;
                scene.note(&format!("SIGKILL to the server of {}", member.task));
                kill(scene.stage.server(&member));
            }
            Self::KillExecutor(whose) => {
                let member = member(whose, &mut rng)?;
                scene.note(&format!("SIGKILL to the executor of {}", member.task));
                kill(scene.stage.executor(&member));
            }
            Self::KillMember(whose) => {
                let member = member(whose, &mut rng)?;
                let (executor, server) = (scene.stage.executor(&member), scene.stage.server(&member));
                scene.note(&format!("SIGKILL to executor and server of {}", member.task));
                kill(executor);
                kill(server);
            }
            Self::StopServer(whose) => {
                let member = member(whose, &mut rng)?;
                let server = scene.stage.server(&member);
                stop(scene, &member, "server", server.into_iter().collect(), rng.ms(200, 8_000)).await;
            }
            Self::StopExecutor(whose) => {
                let member = member(whose, &mut rng)?;
                let executor = scene.stage.executor(&member);
                stop(scene, &member, "executor", executor.into_iter().collect(), rng.ms(200, 12_000)).await;
            }
            Self::FreezeMember(whose) => {
                let member = member(whose, &mut rng)?;
                let both = scene.stage.executor(&member).into_iter().chain(scene.stage.server(&member)).collect();
                stop(scene, &member, "executor and server", both, rng.ms(200, 15_000)).await;
            }
            Self::KillAllServers => {
                let servers: Vec<_> = scene.before.members.iter().filter_map(|m| scene.stage.server(m)).collect();
                scene.note(&format!("SIGKILL to all {} servers", servers.len()));
                servers.iter().for_each(Process::kill);
            }
            Self::KillScheduler => {
                let after = rng.ms(0, 4_000);
                scene.note(&format!("SIGKILL to the scheduler, for {after:?}"));
                scene.stage.restart_scheduler(after).await?;
            }
            Self::StopScheduler => {
                let time = rng.ms(500, 10_000);
                scene.note(&format!("SIGSTOP to the scheduler, for {time:?}"));
                scene.stage.stop_scheduler(time).await;
            }
            Self::FillDisk(whose) => {
                let (member, time) = (member(whose, &mut rng)?, rng.ms(1_000, 10_000));
                scene.note(&format!("the disk of {} is to be full for {time:?}", member.task));
                let filled = scene.stage.fill_disk(&member, time).await?;
                scene.note(if filled { "there is room again" } else { "it is not one that can be filled" });
            }
            Self::Switchover => {
                let asked = scene.api.switchover(&scene.before.name, None).await;
                let answer = asked.map_or_else(|refused| refused.to_string(), |()| "taken".to_owned());
                scene.note(&format!("a switchover is asked for: {answer}"));
            }
        }
        Ok(())
    }
}

fn victim(scene: &Scene<'_>, whose: Whose, rng: &mut Rng) -> Result<Member, Failure> {
    match whose {
        Whose::Primary => scene.before.primary().cloned(),
        Whose::Replica => {
            let replicas: Vec<_> = scene.before.replicas().cloned().collect();
            rng.pick(&replicas).cloned().ok_or_else(|| Failure::new("there is no replica"))
        }
    }
}

fn kill(process: Option<Process>) {
    if let Some(process) = process {
        process.kill();
    }
}

async fn stop(scene: &Scene<'_>, member: &Member, what: &str, processes: Vec<Process>, time: Duration) {
    scene.note(&format!("SIGSTOP to {what} of {} for {time:?}", member.task));
    let stopped = Stopped(processes);
    stopped.0.iter().for_each(|process| process.signal(Signal::STOP));
    tokio::time::sleep(time).await;
    drop(stopped);
    scene.note(&format!("SIGCONT to {what} of {}", member.task));
}

/// Processes that go on when the value is dropped.
struct Stopped(Vec<Process>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.iter().for_each(|process| process.signal(Signal::CONT));
    }
}
