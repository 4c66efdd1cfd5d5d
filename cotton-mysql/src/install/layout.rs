//! Finds the server in an unpacked archive, and what it needs of it.

use super::{InstallError, Installed};
use std::fs;
use std::path::{Path, PathBuf};

const SERVERS: [&str; 2] = ["mariadbd", "mysqld"];
/// Directories of programs, as archives of MySQL and MariaDB and trees of distributions have them. A server in the later
/// ones belongs to `usr`.
const PROGRAMS: [&str; 7] = ["bin", "sbin", "libexec", "usr/sbin", "usr/bin", "usr/libexec", "scripts"];
/// Directories with `charsets` below them.
const SHARES: [&str; 3] = ["share", "share/mysql", "share/mariadb"];
const PLUGINS: [&str; 5] =
    ["lib/plugin", "lib/mysql/plugin", "lib64/mysql/plugin", "lib64/mariadb/plugin", "lib/mariadb/plugin"];
const LIBRARIES: [&str; 6] = ["lib/private", "lib/mysql/private", "lib", "lib64", "lib/mysql", "lib64/mysql"];

/// Looks in `directory` of the tree, else at its top, else in the only directory there.
pub(super) fn find(tree: &Path, directory: Option<&Path>, source_name: &str) -> Result<Installed, InstallError> {
    let roots = match directory {
        Some(directory) => vec![tree.join(directory)],
        None => [Some(tree.to_owned()), only_directory(tree)].into_iter().flatten().collect(),
    };
    let found =
        roots.iter().find_map(|root| Some((root, PROGRAMS.into_iter().find(|dir| has_server(&root.join(dir)))?)));
    let Some((root, dir)) = found else {
        let inside = |root: &PathBuf| Some(root.strip_prefix(tree).ok()?.display().to_string());
        let place = |root: &PathBuf| match inside(root).filter(|name| !name.is_empty()) {
            Some(name) => format!("{} of its directory {name}", PROGRAMS.join(", ")),
            None => PROGRAMS.join(", "),
        };
        let searched = roots.iter().map(place).collect::<Vec<_>>().join(", nor in ");
        return Err(InstallError::NoServer { source_name: source_name.to_owned(), searched });
    };
    let base = if dir.starts_with("usr/") { root.join("usr") } else { root.clone() };
    let first =
        |names: &[&str], within: &str| names.iter().map(|name| base.join(name)).find(|path| path.join(within).is_dir());
    let mut arguments = vec![format!("--basedir={}", base.display())];
    if let Some(share) = first(&SHARES, "charsets") {
        arguments.push(format!("--lc-messages-dir={}", share.display()));
        arguments.push(format!("--character-sets-dir={}", share.join("charsets").display()));
    }
    if let Some(plugins) = first(&PLUGINS, "") {
        arguments.push(format!("--plugin-dir={}", plugins.display()));
    }
    Ok(Installed {
        programs: PROGRAMS.iter().map(|dir| root.join(dir)).filter(|dir| dir.is_dir()).collect(),
        arguments,
        libraries: LIBRARIES.iter().map(|dir| base.join(dir)).filter(|dir| has_libraries(dir)).collect(),
    })
}

fn has_server(dir: &Path) -> bool {
    SERVERS.iter().any(|name| dir.join(name).is_file())
}

fn has_libraries(dir: &Path) -> bool {
    let is_library = |entry: fs::DirEntry| entry.file_name().to_string_lossy().contains(".so");
    fs::read_dir(dir).into_iter().flatten().flatten().any(is_library)
}

fn only_directory(tree: &Path) -> Option<PathBuf> {
    let mut dirs = fs::read_dir(tree).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let first = dirs.next()?;
    dirs.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().expect("temporary directory");
        for file in files {
            let path = tree.path().join(file);
            fs::create_dir_all(path.parent().expect("below the tree")).expect("directories");
            fs::write(path, "").expect("a file");
        }
        tree
    }

    #[test]
    fn archives_of_the_makers() {
        let tree = tree(&[
            "mysql-8.4/bin/mysqld",
            "mysql-8.4/lib/private/libssl.so.3",
            "mysql-8.4/lib/plugin/semisync_source.so",
            "mysql-8.4/share/charsets/Index.xml",
            "README",
        ]);
        let installed = find(tree.path(), None, "x").expect("there is a server");
        let base = tree.path().join("mysql-8.4");
        assert_eq!(installed.programs, [base.join("bin")]);
        assert_eq!(installed.libraries, [base.join("lib/private")]);
        let arguments: Vec<String> =
            ["basedir=", "lc-messages-dir=/share", "character-sets-dir=/share/charsets", "plugin-dir=/lib/plugin"]
                .map(|argument| format!("--{}", argument.replacen('=', &format!("={}", base.display()), 1)))
                .into();
        assert_eq!(installed.arguments, arguments);
        assert_eq!(find(tree.path(), Some(Path::new("mysql-8.4")), "x").expect("named"), installed);
    }

    #[test]
    fn trees_of_distributions() {
        let tree = tree(&["usr/sbin/mariadbd", "usr/bin/mariabackup", "usr/share/mysql/charsets/Index.xml", "etc/x"]);
        let installed = find(tree.path(), None, "x").expect("there is a server");
        let usr = tree.path().join("usr");
        assert_eq!(installed.programs, [usr.join("sbin"), usr.join("bin")]);
        assert_eq!(installed.arguments[0], format!("--basedir={}", usr.display()));
        assert!(installed.arguments[1].ends_with("/usr/share/mysql") && installed.libraries.is_empty());
    }

    #[test]
    fn a_missing_server_says_where_it_was_looked_for() {
        let tree = tree(&["a/bin/mysql", "b/bin/mysqld"]);
        let said = find(tree.path(), None, "x").expect_err("two directories").to_string();
        assert!(said.contains("directory=") && said.contains("usr/sbin"), "{said}");
        let said = find(tree.path(), Some(Path::new("a")), "x").expect_err("no server").to_string();
        assert!(said.contains("of its directory a"), "{said}");
        assert!(find(tree.path(), Some(Path::new("b")), "x").is_ok());
    }
}
