//! The demo, where it cannot work. Where it can, it is a command of its own: `make demo`.

use crate::{Outcome, STEP};
use cotton_tests::{Flavour, within};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

/// MariaDB's own script fails, as it did when files of the server had other names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_set_up_ends_it_in_words() -> Outcome {
    let Some(system) = Flavour::MariaDb.programs() else { return Ok(()) };
    let programs = tempfile::tempdir()?;
    std::fs::set_permissions(programs.path(), Permissions::from_mode(0o755))?;
    let scripts = [
        ("mariadbd", format!("exec '{}' \"$@\"", system.join("mariadbd").display())),
        ("mariadb-install-db", "echo 'FATAL ERROR: Could not find ./system_tables.sql'; exit 1".to_owned()),
    ];
    for (name, script) in scripts {
        let path = programs.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }
    let mut demo = tokio::process::Command::new(env!("CARGO_BIN_EXE_cotton-demo"));
    demo.arg("--mysql-bin-dir").arg(programs.path()).kill_on_drop(true);
    let ended = within(STEP, "the demo ends", demo.output()).await??;
    let told = String::from_utf8_lossy(&ended.stdout);
    let last = told.lines().last().unwrap_or_default();
    assert!(
        !ended.status.success() && last.starts_with("demo: failed: a database server could not be set up: "),
        "{told}"
    );
    assert!(last.contains("mariadb-install-db") && last.contains("Could not find ./system_tables.sql"), "{last}");
    Ok(())
}
