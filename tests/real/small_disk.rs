//! A directory with little room: a file system in memory, which only root can mount.

use crate::Failure;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// See the module. Dropping it unmounts it, whoever uses it still.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Makes the directory, with so many MiB of room; `None`, said in words, where that is not allowed.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn mount(path: &Path, mib: u32) -> Result<Option<Self>, Failure> {
        std::fs::create_dir_all(path)?;
        let options = format!("size={mib}m,mode=0755");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
        match mount {
            Ok(output) if output.status.success() => Ok(Some(Self { path: path.to_owned() })),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                eprintln!("skipped: no small file system can be mounted here: {why}");
                Ok(None)
            }
            Err(error) => {
                eprintln!("skipped: no small file system can be mounted here: {error}");
                Ok(None)
            }
        }
    }

    /// Takes all the room that is left.
    ///
    /// # Errors
    /// When that fails.
    pub fn fill(&self) -> Result<(), Failure> {
        fill(&self.filler())
    }

    /// Gives back what was taken.
    ///
    /// # Errors
    /// When nothing was.
    pub fn make_room(&self) -> Result<(), Failure> {
        Ok(std::fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Gives it another size.
    ///
    /// # Errors
    /// When that fails.
    pub fn resize(&self, mib: u32) -> Result<(), Failure> {
        let options = format!("remount,size={mib}m");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.path).status()?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("remount ended with {status}"))) }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

/// Makes a file of all the room that is left where it is.
fn fill(file: &Path) -> Result<(), Failure> {
    let mut file = std::fs::File::create(file)?;
    let zeros = vec![0; 1 << 20];
    loop {
        match file.write_all(&zeros) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
