//! An executor in miniature: this very test program, started again by an agent so that it runs just one ignored test.

use cotton_core::TaskId;
use cotton_core::ports::executor_link::{ExecutorLink, LinkEvent};
use cotton_core::ports::mesos::TaskState;
use cotton_mesos::{ExecutorConfig, ExecutorEnvironment, HttpExecutorLink};
use std::io::Write;

/// How agents start it.
pub(crate) fn config() -> ExecutorConfig {
    let program = std::env::current_exe().expect("a test program");
    ExecutorConfig::new(format!("exec '{}' --exact executor_process --ignored --nocapture", program.display()))
}

/// Obeys, and answers messages; `finish` ends its task. With `linger` as data it stays when its task has ended; with
/// `append <line>` it adds a line to a file on its volume, and tells what is in there.
pub(crate) async fn run() {
    let environment = ExecutorEnvironment::from_map(&std::env::vars().collect()).expect("started by an agent");
    let link = HttpExecutorLink::start(environment).expect("link");
    let (mut task, mut lingers) = (TaskId::from(""), false);
    while let Ok(event) = link.next_event().await {
        match event {
            LinkEvent::Launch { task: id, data } => {
                (task, lingers) = (id, &data[..] == b"linger");
                link.update(&task, TaskState::Starting, "").await.expect("open");
                let appended = std::str::from_utf8(&data).expect("text").strip_prefix("append ");
                let words = appended.map_or_else(|| "it runs".to_owned(), append);
                link.update(&task, TaskState::Running, &words).await.expect("open");
            }
            LinkEvent::Kill { .. } => link.update(&task, TaskState::Killed, "as told").await.expect("open"),
            LinkEvent::Shutdown { .. } => break,
            LinkEvent::Acknowledged(state) if state.is_terminal() && !lingers => break,
            LinkEvent::Acknowledged(_) | LinkEvent::Connected | LinkEvent::Disconnected => {}
            LinkEvent::Message(data) if &data[..] == b"finish" => {
                link.update(&task, TaskState::Finished, "done").await.expect("open");
            }
            LinkEvent::Message(data) => {
                // Its agent may have been killed meanwhile; who asks asks again.
                let _lost = link.send([b"echo ", &data[..]].concat().into()).await;
            }
        }
    }
}

/// The lines that are there after this one was added.
fn append(line: &str) -> String {
    let mut file = std::fs::File::options().create(true).append(true).open("mysql/lines").expect("a volume");
    write!(file, "{line};").expect("written");
    std::fs::read_to_string("mysql/lines").expect("there")
}
