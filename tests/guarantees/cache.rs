//! Code that one process has compiled is there for the next.

use std::path::{Path, PathBuf};
use std::process::Command;

use lehr::{Cache, KernelCounts};

/// Tells a process that a test started where the cache is.
const FOLDER: &str = "LEHR_TEST_CACHE_FOLDER";

/// A folder of a test's own, empty.
fn folder(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cache-{test}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// Five training steps: how many kernels were compiled and taken, and the bits of the losses.
fn train(cache: Cache) -> (KernelCounts, Vec<u32>) {
    let mut step = crate::small_step(crate::cpu().cache(cache));
    let (x, y) = crate::small_batch(33);
    let losses = (0..5).map(|_| {
        let loss: f32 = step.run([("x", &x), ("y", &y)]).unwrap().unpack().unwrap();
        loss.to_bits()
    });
    let losses = losses.collect();
    (step.kernel_counts(), losses)
}

#[test]
fn a_second_process_compiles_nothing_and_gives_the_same_bits() {
    const NAME: &str = "cache::a_second_process_compiles_nothing_and_gives_the_same_bits";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let (counts, losses) = train(Cache::folder(PathBuf::from(folder)));
        println!("counts {} {} losses {losses:?}", counts.compiled, counts.cached);
        return;
    }
    let folder = folder("processes");
    let process = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", NAME, "--nocapture"]).env(FOLDER, &folder).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        let line = text.lines().find_map(|l| l.split_once("counts ")).map(|(_, line)| line.to_owned());
        line.unwrap_or_else(|| panic!("{text}"))
    };
    let (counts, losses) = train(Cache::off());
    let n = counts.compiled;
    assert!(n > 3 && counts.cached == 0, "{counts:?}");
    assert_eq!(process(), format!("{n} 0 losses {losses:?}"));
    assert_eq!(process(), format!("0 {n} losses {losses:?}"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_cannot_be_used_as_a_cache_is_told_and_compiles_all_the_same() {
    let folder = folder("refused");
    std::fs::write(&folder, "no folder").unwrap();
    let (counts, losses) = train(Cache::folder(&folder));
    let (without, same) = train(Cache::off());
    assert_eq!(losses, same);
    assert_eq!((counts.compiled, counts.cached), (without.compiled, 0));
    let why = counts.refused.unwrap();
    assert!(why.contains("is no folder; name a folder") && without.refused.is_none(), "{why}");
    std::fs::remove_file(folder).unwrap();
}

#[test]
fn timings_tell_how_many_kernels_came_from_the_cache() {
    let folder = folder("explained");
    let timings = lehr::explain::ExplainOptions { timings: true, ..Default::default() };
    let explain = || {
        let step = crate::small_step(crate::cpu().cache(Cache::folder(&folder)));
        (step.kernel_counts(), step.explain_with(&timings).to_string())
    };
    let (first, _) = explain();
    let (second, text) = explain();
    assert_eq!((second.compiled, second.cached), (0, first.compiled));
    assert!(text.contains(&format!("kernels compiled: 0, from the cache: {}\n", first.compiled)), "{text}");
    std::fs::remove_dir_all(folder).unwrap();
}
