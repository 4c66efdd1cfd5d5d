//! Some minutes of chaos with every run of the tests: a seed that stays the same, and one that nobody chose. And that what is
//! wrong is found.

use cotton_tests::{Failure, Flavour, within};
use std::process::Output;
use std::time::Duration;

type Outcome = Result<(), Failure>;

async fn chaos(arguments: &[&str]) -> Result<Output, Failure> {
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_cotton-chaos"));
    program.args(arguments).kill_on_drop(true);
    // it ends by itself when a cluster does not heal
    Ok(within(Duration::from_mins(30), "chaos ends", program.output()).await??)
}

async fn nothing_is_lost(arguments: &[&str]) -> Outcome {
    if Flavour::MariaDb.programs().is_none() {
        return Ok(());
    }
    let ended = chaos(arguments).await?;
    let told = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{told}");
    let last = told.lines().last().unwrap_or_default();
    assert!(last.starts_with("chaos: ok: ") && last.ends_with(" 0 lost"), "{last}");
    eprintln!("{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_by_what_is_known() -> Outcome {
    nothing_is_lost(&["--minutes", "1", "--seed", "1"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_by_what_nobody_chose() -> Outcome {
    nothing_is_lost(&["--minutes", "2"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_spoiled_is_found() -> Outcome {
    if Flavour::MariaDb.programs().is_none() {
        return Ok(());
    }
    for (spoil, found) in [
        ("lose", &["LOST: 1 acknowledged moves"] as &[&str]),
        ("differ", &["accounts are not equal", "where its moves lead to"]), // by the member that is looked at first
        ("invent", &["nobody tried Move { id: 1000000000, "]),
    ] {
        let ended = chaos(&["--rounds", "1", "--seed", "1", "--spoil", spoil]).await?;
        let told = String::from_utf8_lossy(&ended.stdout);
        let last = told.lines().last().unwrap_or_default();
        assert!(!ended.status.success() && last.starts_with("chaos: failed: round 1 of seed 1: "), "{told}");
        assert!(found.iter().any(|words| last.contains(words)), "{last}");
    }
    Ok(())
}
