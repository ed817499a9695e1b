//! What a cache gives, and what happens to it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use lehr_ir::kernel::Kernel;
use lehr_ir::kernel::interpret::BufferData;
use lehr_ir::target::Vectors;

use super::{Cache, CacheError, Key};
use crate::cpu::code::{Compiler, Emitter, Options, With};
use crate::cpu::emit::tests::launch;

#[cfg(unix)]
mod unix;

const LIMIT: u64 = 1 << 20;

/// A folder of a test's own, gone when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("lehr-cache-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    /// The cache's folder in it, which the cache makes.
    fn folder(&self) -> PathBuf {
        self.0.join("cache")
    }

    fn cache(&self) -> Cache {
        Cache::open(&self.folder(), LIMIT).expect("a cache")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A kernel that multiplies by a number.
fn scale(factor: usize) -> Kernel {
    let text = format!(
        "kernel @scale(read x: f32[n], write y: f32[n]) sizes(n) {{\n  parallel i in 0..1 {{\n    %0 = const {factor}.0 : f32\n    lane j in 0..n {{\n      %1 = load x[j]\n      %2 = mul %1, %0\n      store y[j], %2\n    }}\n  }}\n}}\n"
    );
    Kernel::parse(&text).expect("a kernel")
}

fn compiler() -> Compiler {
    Compiler::new(Options { threads: 1, ..Options::default() }).expect("a host that Cranelift supports")
}

/// Compiles kernels of these factors, runs them all, and says for each whether the cache had it.
fn compile(compiler: &Compiler, cache: &Cache, factors: &[usize]) -> Vec<bool> {
    let kernels: Vec<Kernel> = factors.iter().map(|&f| scale(f)).collect();
    let references: Vec<&Kernel> = kernels.iter().collect();
    let unit = compiler.compile_with(&references, With { cache: Some(cache), pool: None }).expect("code");
    for (i, &factor) in factors.iter().enumerate() {
        let mut buffers = [BufferData::F32((0..37).map(|v| v as f32).collect()), BufferData::F32(vec![0.0; 37])];
        launch(&unit, i, &[37], &mut buffers, &[(0, 1)]);
        let want: Vec<f64> = (0..37).map(|v| f64::from(v) * factor as f64).collect();
        assert_eq!(buffers[1].to_f64s(), want, "kernel {i} of {factors:?}");
    }
    unit.reports().iter().map(|r| r.emitter == Emitter::Cache).collect()
}

/// The files of packs in a folder.
fn packs(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
    let is_pack =
        |p: &PathBuf| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| Key::from_file_name(n).is_some());
    let mut packs: Vec<PathBuf> = entries.filter(is_pack).collect();
    packs.sort();
    packs
}

fn only_pack(folder: &Path) -> PathBuf {
    let packs = packs(folder);
    assert_eq!(packs.len(), 1, "{packs:?}");
    packs[0].clone()
}

#[test]
fn a_second_compiler_takes_everything_from_the_cache() {
    let scratch = Scratch::new();
    assert_eq!(compile(&compiler(), &scratch.cache(), &[1, 2, 3]), [false; 3]);
    assert_eq!(compile(&compiler(), &scratch.cache(), &[1, 2, 3]), [true; 3]);
    assert_eq!(packs(&scratch.folder()).len(), 1);
    // No kernels, no file.
    assert_eq!(compile(&compiler(), &scratch.cache(), &[]), []);
    assert_eq!(packs(&scratch.folder()).len(), 1);
}

#[test]
fn kernels_are_shared_between_units() {
    let (scratch, compiler) = (Scratch::new(), compiler());
    compile(&compiler, &scratch.cache(), &[1, 2]);
    compile(&compiler, &scratch.cache(), &[3]);
    assert_eq!(compile(&compiler, &scratch.cache(), &[4, 3, 2]), [false, true, true]);
    // In another order it is another unit, all of whose kernels are there.
    assert_eq!(compile(&compiler, &scratch.cache(), &[2, 3, 4]), [true; 3]);
    assert_eq!(compile(&compiler, &scratch.cache(), &[4, 3, 2]), [true; 3]);
}

#[test]
fn code_of_other_settings_is_not_taken() {
    let scratch = Scratch::new();
    let ways = [
        (Vectors::Portable, true),
        (Vectors::Scalar, true),
        (Vectors::Portable, false),
        (Vectors::Avx2, true),
        (Vectors::Avx512, true),
        (Vectors::Auto, true),
    ];
    let mut made = 0;
    for (vectors, native) in ways {
        let Ok(compiler) = Compiler::new(Options { vectors, native, threads: 1, texts: false }) else { continue };
        assert_eq!(compile(&compiler, &scratch.cache(), &[5]), [false], "{vectors} {native}");
        assert_eq!(compile(&compiler, &scratch.cache(), &[5]), [true], "{vectors} {native}");
        made += 1;
        assert_eq!(packs(&scratch.folder()).len(), made);
    }
    assert!(made >= 3);
}

#[test]
fn texts_are_made_with_the_code() {
    let scratch = Scratch::new();
    compile(&compiler(), &scratch.cache(), &[1]);
    let texts = Compiler::new(Options { texts: true, ..Options::default() }).expect("a compiler");
    let unit = texts.compile_with(&[&scale(1)], With { cache: Some(&scratch.cache()), pool: None }).expect("code");
    assert!(!unit.reports()[0].disassembly.is_empty());
}

#[test]
fn a_pack_cut_short_at_any_length_is_compiled_anew_and_replaced() {
    let (scratch, compiler) = (Scratch::new(), compiler());
    compile(&compiler, &scratch.cache(), &[1, 2]);
    let pack = only_pack(&scratch.folder());
    let whole = std::fs::read(&pack).expect("a pack");
    for len in 0..whole.len() {
        std::fs::write(&pack, &whole[..len]).expect("a file");
        assert_eq!(compile(&compiler, &scratch.cache(), &[1, 2]), [false; 2], "{len} of {} bytes", whole.len());
        assert!(std::fs::read(&pack).expect("a pack") == whole, "{len} of {} bytes", whole.len());
    }
    let longer = [whole.as_slice(), &[0]].concat();
    std::fs::write(&pack, longer).expect("a file");
    assert_eq!(compile(&compiler, &scratch.cache(), &[1, 2]), [false; 2]);
    assert_eq!(compile(&compiler, &scratch.cache(), &[1, 2]), [true; 2]);
}

#[test]
fn a_pack_with_any_byte_changed_is_compiled_anew_and_replaced() {
    let (scratch, compiler) = (Scratch::new(), compiler());
    compile(&compiler, &scratch.cache(), &[1]);
    let pack = only_pack(&scratch.folder());
    let whole = std::fs::read(&pack).expect("a pack");
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        std::fs::write(&pack, &changed).expect("a file");
        assert_eq!(compile(&compiler, &scratch.cache(), &[1]), [false], "byte {at} of {}", whole.len());
        assert!(std::fs::read(&pack).expect("a pack") == whole, "byte {at} of {}", whole.len());
    }
}

#[test]
fn a_pack_under_another_name_is_not_taken() {
    let (scratch, compiler) = (Scratch::new(), compiler());
    compile(&compiler, &scratch.cache(), &[1]);
    let one = only_pack(&scratch.folder());
    compile(&compiler, &scratch.cache(), &[2]);
    let two = packs(&scratch.folder()).into_iter().find(|p| *p != one).expect("another pack");
    std::fs::copy(&two, &one).expect("a copy");
    assert_eq!(compile(&compiler, &scratch.cache(), &[1]), [false]);
    assert_eq!(compile(&compiler, &scratch.cache(), &[1]), [true]);
}

#[test]
fn a_damaged_index_costs_shared_hits_and_no_more() {
    let (scratch, compiler) = (Scratch::new(), compiler());
    compile(&compiler, &scratch.cache(), &[1, 2]);
    let index = scratch.folder().join("index");
    let whole = std::fs::read(&index).expect("an index");
    assert_eq!(whole.len() % 64, 0);
    let all = [Vec::new(), vec![0xff; 1000], whole[..whole.len() - 1].to_vec(), whole[1..].to_vec()];
    for (i, damaged) in all.into_iter().enumerate() {
        std::fs::write(&index, &damaged).expect("a file");
        assert_eq!(compile(&compiler, &scratch.cache(), &[1, 2]), [true; 2]);
        let new = 10 + i;
        assert!(!compile(&compiler, &scratch.cache(), &[1, new])[1]);
        // What came behind the damage is found.
        assert_eq!(compile(&compiler, &scratch.cache(), &[new]), [true]);
    }
    std::fs::remove_file(&index).expect("an index");
    assert!(!compile(&compiler, &scratch.cache(), &[5, 6])[0]);
    assert_eq!(compile(&compiler, &scratch.cache(), &[6]), [true]);
    // A pack that the index names and that is gone.
    for pack in packs(&scratch.folder()) {
        std::fs::remove_file(pack).expect("a pack");
    }
    assert_eq!(compile(&compiler, &scratch.cache(), &[6, 1]), [false; 2]);
}

/// Makes a pack look as if it was used last so many seconds ago.
fn age(pack: &Path, seconds: u64) {
    let file = std::fs::File::options().append(true).open(pack).expect("a pack");
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).expect("a time");
}

fn total(folder: &Path) -> u64 {
    packs(folder).iter().map(|p| p.metadata().expect("a pack").len()).sum()
}

#[test]
fn what_was_used_least_lately_goes_when_the_limit_is_reached() {
    let (scratch, compiler) = (Scratch::new(), compiler());
    let open = |limit| Cache::open(&scratch.folder(), limit).expect("a cache");
    compile(&compiler, &open(LIMIT), &[0]);
    let size = total(&scratch.folder());
    let limit = 10 * size + size / 2;
    for factor in 1..10 {
        assert_eq!(compile(&compiler, &open(limit), &[factor]), [false]);
    }
    assert_eq!(packs(&scratch.folder()).len(), 10);
    // All are old, the later ones less so, and then the oldest is used.
    let mut by_age: Vec<PathBuf> = packs(&scratch.folder());
    by_age.sort_by_key(|p| p.metadata().and_then(|m| m.modified()).expect("a time"));
    for (i, pack) in by_age.iter().enumerate() {
        age(pack, 10_000 - i as u64);
    }
    assert_eq!(compile(&compiler, &open(limit), &[0]), [true]);
    assert_eq!(compile(&compiler, &open(limit), &[100]), [false]);
    // Three quarters of the limit are left, and the new pack.
    assert!(total(&scratch.folder()) <= limit / 4 * 3 + size);
    assert_eq!(compile(&compiler, &open(limit), &[0, 100]), [true; 2]);
    assert_eq!(compile(&compiler, &open(limit), &[9]), [true]);
    assert_eq!(compile(&compiler, &open(limit), &[1]), [false]);
}

#[test]
fn the_limit_holds_after_every_unit() {
    let (scratch, compiler) = (Scratch::new(), compiler());
    let cache = Cache::open(&scratch.folder(), 3000).expect("a cache");
    let mut most = 0;
    for factor in 0..60 {
        compile(&compiler, &cache, &[factor, factor + 1]);
        let now = total(&scratch.folder());
        assert!(now <= 3000, "{now} bytes after unit {factor}");
        most = most.max(now);
    }
    assert!(most > 1500, "{most}");
    // What alone exceeds the limit is not kept, and nothing goes for its sake.
    let all: Vec<usize> = (100..140).collect();
    compile(&compiler, &cache, &all);
    assert!(total(&scratch.folder()) > 0 && !compile(&compiler, &cache, &all)[39]);
    let nothing = Cache::open(&scratch.0.join("nothing"), 0).expect("a cache");
    compile(&compiler, &nothing, &[1]);
    assert_eq!(compile(&compiler, &nothing, &[1]), [false]);
}

#[test]
fn files_that_were_begun_and_left_behind_go() {
    let (scratch, compiler) = (Scratch::new(), compiler());
    let cache = scratch.cache();
    let (old, new) = (scratch.folder().join(".new-1-1-1-0"), scratch.folder().join(".new-2-1-1-0"));
    let other = scratch.folder().join("notes.txt");
    for file in [&old, &new, &other] {
        std::fs::write(file, "x").expect("a file");
        age(file, 100_000);
    }
    age(&new, 5);
    // Without an index, the first unit makes one, and looks at what there is.
    compile(&compiler, &cache, &[1]);
    assert!(!old.exists() && new.exists() && other.exists());
    assert_eq!(packs(&scratch.folder()).len(), 1);
}

#[test]
fn writers_at_the_same_time_do_not_disturb_each_other() {
    let scratch = Scratch::new();
    let cache = Cache::open(&scratch.folder(), 4000).expect("a cache");
    std::thread::scope(|scope| {
        for t in 0..4 {
            let (cache, folder) = (&cache, scratch.folder());
            scope.spawn(move || {
                let compiler = compiler();
                for round in 0..60 {
                    // The same few units again and again, so that they are read while they are written and deleted.
                    compile(&compiler, cache, &[(round + t) % 5, (round + t) % 5 + 1]);
                    if t == 0 && round % 7 == 0 {
                        packs(&folder).first().map(std::fs::remove_file);
                    }
                }
            });
        }
    });
    compile(&compiler(), &cache, &[1, 2]);
    assert_eq!(compile(&compiler(), &cache, &[1, 2]), [true; 2]);
    let left = std::fs::read_dir(scratch.folder()).expect("a folder").filter_map(Result::ok);
    assert!(left.filter(|e| e.file_name().to_string_lossy().starts_with(".new-")).count() == 0);
}

#[test]
fn a_file_is_no_folder() {
    let scratch = Scratch::new();
    let file = scratch.0.join("file");
    std::fs::write(&file, "x").expect("a file");
    assert!(matches!(Cache::open(&file, LIMIT), Err(CacheError::NoFolder { .. })));
    assert!(matches!(Cache::open(&file.join("below"), LIMIT), Err(CacheError::Folder { .. })));
}
