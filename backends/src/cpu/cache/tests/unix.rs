//! Owners, rights, and systems that refuse: what needs a Unix to test.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::*;

/// A user that is not root and owns nothing.
const NOBODY: u32 = 65534;

/// Tells a process that a test started where the cache is.
const FOLDER: &str = "LEHR_TEST_CACHE_FOLDER";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

#[test]
fn the_folder_is_made_for_its_user_alone() {
    let scratch = Scratch::new();
    let deep = scratch.0.join("a/b");
    Cache::open(&deep, LIMIT).expect("a cache");
    for folder in [scratch.0.join("a"), deep] {
        assert_eq!(folder.metadata().expect("a folder").permissions().mode() & 0o777, 0o700);
    }
    compile(&compiler(), &scratch.cache(), &[1]);
    for file in [only_pack(&scratch.folder()), scratch.folder().join("index")] {
        assert_eq!(file.metadata().expect("a file").permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    let scratch = Scratch::new();
    scratch.cache();
    for (bits, fine) in [(0o700, true), (0o755, true), (0o770, false), (0o702, false), (0o1777, false)] {
        mode(&scratch.folder(), bits);
        let opened = Cache::open(&scratch.folder(), LIMIT);
        assert_eq!(opened.is_ok(), fine, "{bits:o}");
        assert!(fine || matches!(opened, Err(CacheError::Others { .. })));
    }
    mode(&scratch.folder(), 0o700);
    let link = scratch.0.join("link");
    symlink(scratch.folder(), &link).expect("a link");
    assert!(matches!(Cache::open(&link, LIMIT), Err(CacheError::NoFolder { .. })));
    if is_root() {
        chown(scratch.folder(), Some(NOBODY), None).expect("another owner");
        assert!(matches!(Cache::open(&scratch.folder(), LIMIT), Err(CacheError::Others { .. })));
    }
}

#[test]
fn a_file_that_others_own_or_can_write_to_is_not_taken() {
    let (scratch, compiler) = (Scratch::new(), compiler());
    compile(&compiler, &scratch.cache(), &[1]);
    let pack = only_pack(&scratch.folder());
    let replaced = |what: &str| {
        assert_eq!(compile(&compiler, &scratch.cache(), &[1]), [false], "{what}");
        assert_eq!(compile(&compiler, &scratch.cache(), &[1]), [true], "{what}");
    };
    mode(&pack, 0o622);
    replaced("others may write");
    let elsewhere = scratch.0.join("elsewhere");
    std::fs::rename(&pack, &elsewhere).expect("a move");
    symlink(&elsewhere, &pack).expect("a link");
    replaced("a link");
    std::fs::remove_file(&pack).expect("a pack");
    assert!(Command::new("mkfifo").arg(&pack).status().expect("mkfifo runs").success());
    replaced("a pipe");
    if is_root() {
        chown(&pack, Some(NOBODY), None).expect("another owner");
        replaced("another owner");
        // An index of somebody else's is neither read nor written.
        let index = scratch.folder().join("index");
        chown(&index, Some(NOBODY), None).expect("another owner");
        let before = std::fs::read(&index).expect("an index");
        assert_eq!(compile(&compiler, &scratch.cache(), &[1, 2]), [false; 2]);
        assert_ne!(std::fs::read(&index).expect("an index"), before, "it is made anew");
        assert_eq!(compile(&compiler, &scratch.cache(), &[2]), [true]);
    }
}

#[test]
fn a_folder_in_the_place_of_a_pack_can_neither_be_read_nor_replaced() {
    let (scratch, compiler) = (Scratch::new(), compiler());
    compile(&compiler, &scratch.cache(), &[1]);
    let pack = only_pack(&scratch.folder());
    std::fs::remove_file(&pack).expect("a pack");
    std::fs::create_dir(&pack).expect("a folder");
    assert_eq!(compile(&compiler, &scratch.cache(), &[1]), [false]);
    assert_eq!(compile(&compiler, &scratch.cache(), &[1]), [false]);
}

/// Runs this test again in a process of its own, prepared by `prepare`, where `body` is run instead.
fn in_a_process(test: &str, folder: &Path, prepare: impl FnOnce(&mut Command), body: impl FnOnce(&Path)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return body(Path::new(&folder));
    }
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", &format!("cpu::cache::tests::unix::{test}")]).env(FOLDER, folder);
    prepare(&mut command);
    let output = command.output().expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn in_a_folder_that_is_read_only_code_is_taken_and_not_kept() {
    let scratch = Scratch::new();
    let (other, root) = (scratch.folder(), is_root());
    let user = |command: &mut Command| {
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
    };
    let inside = std::env::var_os(FOLDER).is_some();
    if !inside {
        compile(&compiler(), &scratch.cache(), &[1]);
        for file in [only_pack(&other), other.join("index")] {
            mode(&file, 0o400);
            chown(file, root.then_some(NOBODY), None).expect("an owner");
        }
        mode(&other, 0o500);
        chown(&other, root.then_some(NOBODY), None).expect("an owner");
        mode(&scratch.0, 0o755);
    }
    in_a_process("in_a_folder_that_is_read_only_code_is_taken_and_not_kept", &other, user, |folder| {
        let cache = Cache::open(folder, LIMIT).expect("a cache");
        assert_eq!(compile(&compiler(), &cache, &[1]), [true]);
        assert_eq!(compile(&compiler(), &cache, &[1, 2]), [true, false]);
        assert_eq!(compile(&compiler(), &cache, &[1, 2]), [true, false]);
        assert!(matches!(Cache::open(&folder.join("below"), LIMIT), Err(CacheError::Folder { .. })));
    });
    if !inside {
        mode(&other, 0o700);
    }
}

#[test]
fn on_a_full_disk_code_is_not_kept() {
    let scratch = Scratch::new();
    // A limit on the size of files, past which writing fails as it does on a full disk.
    let full = |command: &mut Command| {
        let mut limited = Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"]).arg(command.get_program());
        limited.args(command.get_args());
        for (name, value) in command.get_envs() {
            limited.env(name, value.unwrap_or_default());
        }
        *command = limited;
    };
    if std::env::var_os(FOLDER).is_none() {
        scratch.cache();
    }
    in_a_process("on_a_full_disk_code_is_not_kept", &scratch.folder(), full, |folder| {
        let cache = Cache::open(folder, LIMIT).expect("a cache");
        assert_eq!(compile(&compiler(), &cache, &[1]), [false]);
        assert_eq!(compile(&compiler(), &cache, &[1]), [false]);
        assert_eq!(packs(folder), [] as [PathBuf; 0]);
        let left = std::fs::read_dir(folder).expect("a folder").filter_map(Result::ok);
        assert_eq!(left.filter(|e| e.file_name().to_string_lossy().starts_with(".new-")).count(), 0);
    });
}

#[test]
fn processes_share_a_folder() {
    let scratch = Scratch::new();
    if let Some(folder) = std::env::var_os(FOLDER) {
        let cache = Cache::open(Path::new(&folder), 4000).expect("a cache");
        for round in 0..60 {
            compile(&compiler(), &cache, &[round % 5, round % 5 + 1]);
        }
        return;
    }
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| in_a_process("processes_share_a_folder", &scratch.folder(), |_| (), |_| ()));
        }
    });
    compile(&compiler(), &scratch.cache(), &[1, 2]);
    assert_eq!(compile(&compiler(), &scratch.cache(), &[1, 2]), [true; 2]);
}
