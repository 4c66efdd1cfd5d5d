use super::*;
use crate::install::decode::decoder;
use std::io::Cursor;
use tar::{Builder, Header};

/// An entry whatever its name is.
fn entry(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, content: &[u8], mode: u32) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    let old = header.as_old_mut(); // the setters refuse what a hostile archive holds
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    tar.append(&header, content).expect("in memory");
}

type Part<'a> = (EntryType, &'a str, &'a str);

fn tar(parts: &[Part<'_>]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (kind, name, link) in parts {
        let content: &[u8] = if *kind == EntryType::Regular { name.as_bytes() } else { b"" };
        entry(&mut tar, *kind, name, link, content, 0o6777);
    }
    tar.into_inner().expect("in memory")
}

fn unpacked(bytes: Vec<u8>, limits: &Limits) -> (tempfile::TempDir, Result<(), InstallError>) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let tree = dir.path().join("outside/tree");
    fs::create_dir_all(&tree).expect("ours");
    let archive = decoder(Cursor::new(bytes)).expect("readable").expect("known");
    let result = unpack(archive, "x", &tree, limits, &GivenUp::default());
    (dir, result)
}

/// Everything that is not below the tree.
fn outside(dir: &Path) -> Vec<String> {
    let names = |dir: &Path| fs::read_dir(dir).expect("readable").flatten().map(|entry| entry.file_name());
    let all = names(dir).chain(names(&dir.join("outside"))).map(|name| name.into_string().expect("plain"));
    let mut all: Vec<String> = all.filter(|name| name != "outside" && name != "tree").collect();
    all.sort();
    all
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const SYMLINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

#[test]
fn a_server_with_its_links() {
    let parts = [
        (DIR, "./", ""),
        (DIR, "./m/", ""),
        (FILE, "./m/bin/mariadbd", ""),
        (SYMLINK, "m/bin/mysqld", "mariadbd"),
        (HARD, "m/bin/hard", "m/bin/mariadbd"),
        (SYMLINK, "m/lib/private/x.so", "../../bin/./mysqld"),
        (FILE, "m/bin/twice", ""),
        (FILE, "m/bin/twice", ""),
    ];
    let (dir, result) = unpacked(tar(&parts), &Limits::default());
    result.expect("nothing wrong with it");
    let tree = dir.path().join("outside/tree");
    for name in ["bin/mariadbd", "bin/mysqld", "bin/hard", "lib/private/x.so"] {
        assert_eq!(fs::read_to_string(tree.join("m").join(name)).expect("there"), "./m/bin/mariadbd", "{name}");
    }
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
    assert_eq!(mode(&tree.join("m/bin/mariadbd")), 0o755, "no set-uid, nobody else may write");
    assert_eq!(mode(&tree.join("m")), 0o755);
}

#[test]
fn permissions_are_kept_and_opened_for_reading() {
    let mut builder = Builder::new(Vec::new());
    for (name, mode) in [("program", 0o700), ("text", 0o600), ("wide", 0o666)] {
        entry(&mut builder, FILE, name, "", b"x", mode);
    }
    let (dir, result) = unpacked(builder.into_inner().expect("in memory"), &Limits::default());
    result.expect("nothing wrong with it");
    for (name, mode) in [("program", 0o744), ("text", 0o644), ("wide", 0o644)] {
        let meta = fs::metadata(dir.path().join("outside/tree").join(name)).expect("there");
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn nothing_gets_out() {
    let table: &[(&str, &[Part<'_>])] = &[
        ("a name that goes up", &[(FILE, "../evil", "")]),
        ("a name that goes up within", &[(FILE, "a/../../evil", "")]),
        ("an absolute name", &[(FILE, "/tmp/cotton-evil", "")]),
        ("an absolute link", &[(SYMLINK, "link", "/etc"), (FILE, "link/evil", "")]),
        ("a link that goes up", &[(SYMLINK, "link", ".."), (FILE, "link/evil", "")]),
        ("a link that goes up from below", &[(SYMLINK, "a/b/link", "../../../x")]),
        ("a link that goes down and up", &[(SYMLINK, "link", "a/../..")]),
        (
            "links that lead out together",
            &[(SYMLINK, "p/s", ".."), (SYMLINK, "p/q/l", "../s/.."), (FILE, "p/q/l/evil", "")],
        ),
        ("a file through a link", &[(DIR, "a", ""), (SYMLINK, "link", "a"), (FILE, "link/evil", "")]),
        ("a directory over a link", &[(DIR, "a", ""), (SYMLINK, "link", "a"), (DIR, "link", "")]),
        ("a link over a directory", &[(DIR, "a", ""), (SYMLINK, "a", "b")]),
        ("a directory over a file", &[(FILE, "a", ""), (FILE, "a/b", "")]),
        ("a hard link to the outside", &[(HARD, "link", "../x")]),
        ("a hard link to nothing", &[(HARD, "link", "x")]),
        ("a hard link to a link", &[(FILE, "a", ""), (SYMLINK, "b", "a"), (HARD, "link", "b")]),
        ("a hard link through a link", &[(FILE, "d/a", ""), (SYMLINK, "b", "d"), (HARD, "link", "b/a")]),
        ("a device", &[(EntryType::Char, "null", "")]),
        ("a disk", &[(EntryType::Block, "sda", "")]),
        ("a pipe", &[(EntryType::Fifo, "pipe", "")]),
        ("something unknown", &[(EntryType::new(b'Z'), "what", "")]),
        ("an empty link", &[(SYMLINK, "link", "")]),
        ("a file without a name", &[(FILE, "./", "")]),
    ];
    for (what, parts) in table {
        let (dir, result) = unpacked(tar(parts), &Limits::default());
        let error = result.expect_err(what);
        assert!(matches!(error, InstallError::Unsafe { .. }), "{what}: {error}");
        assert!(!error.meaning().1.eq(&cotton_core::ErrorStatus::Temporary), "{what}");
        assert_eq!(outside(dir.path()), Vec::<String>::new(), "{what}");
        assert!(!Path::new("/tmp/cotton-evil").exists());
    }
}

#[test]
fn what_is_cut_off_is_damaged() {
    let mut builder = Builder::new(Vec::new());
    entry(&mut builder, FILE, "bin/mysqld", "", &vec![7; 100_000], 0o755);
    entry(&mut builder, FILE, "share/x", "", &vec![8; 100_000], 0o644);
    let plain = builder.into_inner().expect("in memory");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).expect("in memory");
    let zst = zstd::stream::encode_all(plain.as_slice(), 1).expect("in memory");
    for (kind, whole) in [("tar", plain), ("gz", gz.finish().expect("in memory")), ("zst", zst)] {
        let (_dir, result) = unpacked(whole.clone(), &Limits::default());
        result.unwrap_or_else(|error| panic!("{kind}: {error}"));
        // the blocks of zeros at the end of a plain one may be missing, as with many an archiver
        let step = if kind == "tar" { 20_011 } else { whole.len() / 9 + 1 };
        let end = if kind == "tar" { 200_000 } else { whole.len() };
        for len in (513..end).step_by(step).chain((kind != "tar").then_some(whole.len() - 1)) {
            let len = len.min(whole.len() - 1);
            let (_dir, result) = unpacked(whole[..len].to_vec(), &Limits::default());
            let error = result.expect_err("cut off");
            assert!(matches!(error, InstallError::Damaged { .. }), "{kind} at {len}: {error}");
        }
    }
}

#[test]
fn more_than_allowed_is_refused() {
    let parts = [(FILE, "a", ""), (FILE, "b", ""), (FILE, "c", "")];
    let refused = |limits: Limits| unpacked(tar(&parts), &limits).1.expect_err("too much").to_string();
    let limits = Limits::default();
    assert!(refused(Limits { entries: 2, ..limits }).contains("more than 2 entries"));
    assert!(refused(Limits { unpacked_bytes: 2000, ..limits }).contains("unpacks to more than 2000 bytes"));
}

#[test]
fn a_sparse_file_cannot_be_larger_than_allowed() {
    // says that it has 1 GiB, and brings 512 bytes of it
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(512);
    header.set_mode(0o644);
    header.set_path("sparse").expect("plain");
    let gnu = header.as_gnu_mut().expect("it is one");
    gnu.sparse[0].set_offset(0);
    gnu.sparse[0].set_length(512);
    gnu.sparse[1].set_offset(1 << 30);
    gnu.sparse[1].set_length(0);
    gnu.set_real_size(1 << 30);
    header.set_cksum();
    let mut builder = Builder::new(Vec::new());
    builder.append(&header, [1; 512].as_slice()).expect("in memory");
    let limits = Limits { unpacked_bytes: 1 << 20, ..Limits::default() };
    let (dir, result) = unpacked(builder.into_inner().expect("in memory"), &limits);
    let error = result.expect_err("too much");
    assert!(matches!(error, InstallError::TooLarge { .. }), "{error}");
    let written = fs::metadata(dir.path().join("outside/tree/sparse")).map_or(0, |meta| meta.len());
    assert!(written <= 1 << 20, "{written}");
}

#[test]
fn nobody_waits_any_more() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let archive = decoder(Cursor::new(tar(&[(FILE, "a", "")]))).expect("readable").expect("known");
    let error = unpack(archive, "x", dir.path(), &Limits::default(), &Arc::new(AtomicBool::new(true)));
    assert!(matches!(error, Err(InstallError::GivenUp)));
    assert_eq!(fs::read_dir(dir.path()).expect("ours").count(), 0);
}
