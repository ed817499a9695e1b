//! What keeps the parts apart: dependencies go one way, and `unsafe` stands in known files only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The files with `unsafe` code, each of which allows it by name with a reason.
const UNSAFE_FILES: &[&str] = &[
    "backends/src/cpu/attend/backward.rs",
    "backends/src/cpu/attend/forward.rs",
    "backends/src/cpu/attend/hidden.rs",
    "backends/src/cpu/attend/lanes.rs",
    "backends/src/cpu/attend/mod.rs",
    "backends/src/cpu/attend/products.rs",
    "backends/src/cpu/attend/softmax.rs",
    "backends/src/cpu/attend/tests/problem.rs",
    "backends/src/cpu/code.rs",
    "backends/src/cpu/contract/avx2.rs",
    "backends/src/cpu/contract/avx512.rs",
    "backends/src/cpu/contract/driver.rs",
    "backends/src/cpu/contract/micro.rs",
    "backends/src/cpu/contract/mod.rs",
    "backends/src/cpu/contract/pack.rs",
    "backends/src/cpu/contract/portable.rs",
    "backends/src/cpu/contract/ready.rs",
    "backends/src/cpu/contract/small.rs",
    "backends/src/cpu/contract/tests.rs",
    "backends/src/cpu/contract/tests/problem.rs",
    "backends/src/cpu/contract/tiles.rs",
    "backends/src/cpu/contract/workspace.rs",
    "backends/src/cpu/emit/tests/mod.rs",
    "backends/src/cpu/pages.rs",
    "backends/src/cpu/widest.rs",
    "backends/src/cpu/pool.rs",
    "backends/src/cpu/program.rs",
    "backends/src/cpu/run.rs",
    "backends/src/cpu/run/attend.rs",
    "backends/src/cpu/run/control.rs",
    "backends/src/gpu/cooperative.rs",
    "backends/src/gpu/pipeline_cache.rs",
    "tests/guarantees/allocator.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn dependencies_go_one_way() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let all: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    // Normal, development and build dependencies alike.
    let on_own = |p: &Value| -> BTreeSet<String> {
        let names = p["dependencies"].as_array().into_iter().flatten().filter_map(|d| d["name"].as_str());
        names.filter(|n| all.contains(n)).map(str::to_owned).collect()
    };
    let found: BTreeMap<&str, BTreeSet<String>> =
        packages.iter().map(|p| (p["name"].as_str().unwrap_or_default(), on_own(p))).collect();
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<String>>();
    let want = BTreeMap::from([
        ("lehr-ir", set(&[])),
        ("lehr-passes", set(&["lehr-ir"])),
        ("lehr-backends", set(&["lehr-ir"])),
        ("lehr-derive", set(&[])),
        ("lehr", set(&["lehr-ir", "lehr-passes", "lehr-backends", "lehr-derive"])),
    ]);
    assert_eq!(found, want);
}

#[test]
fn unsafe_code_stands_in_the_listed_files_only() {
    let files = rust_files();
    assert!(files.len() > 100, "only {} files are found", files.len());
    let unsafe_files: BTreeSet<String> = files
        .into_iter()
        .filter(|f| uses_unsafe(&std::fs::read_to_string(root().join(f)).expect("a readable file")))
        .collect();
    let listed: BTreeSet<String> = UNSAFE_FILES.iter().map(|f| (*f).to_owned()).collect();
    let new: Vec<&String> = unsafe_files.difference(&listed).collect();
    let gone: Vec<&String> = listed.difference(&unsafe_files).collect();
    assert!(new.is_empty() && gone.is_empty(), "not listed: {new:?}; listed without need: {gone:?}");
}

#[test]
fn every_crate_denies_unsafe_code() {
    for lib in ["src", "ir/src", "passes/src", "backends/src", "src/derive/src"] {
        let file = root().join(lib).join("lib.rs");
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let denies = ["#![forbid(unsafe_code)]", "#![deny(unsafe_code)]"].iter().any(|a| text.lines().any(|l| l == *a));
        assert!(denies, "{} does not deny unsafe code", file.display());
    }
}

#[test]
fn the_search_for_unsafe_code_finds_it() {
    let keyword = ["un", "safe"].concat();
    for code in ["@ { f() }", "pub @ fn f() {}", "@ impl Send for T {}", "let x = @{ f() };"] {
        assert!(uses_unsafe(&code.replace('@', &keyword)), "{code}");
    }
    for code in ["// @ code", "#![deny(@_code)]", "/// An @ fn.", "let reason = \"@ code\";"] {
        assert!(!uses_unsafe(&code.replace('@', &keyword)), "{code}");
    }
}

/// Whether the keyword stands in code, outside comments and strings on one line.
fn uses_unsafe(text: &str) -> bool {
    let keyword = ["un", "safe"].concat();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.lines().any(|line| {
        let code = line.split("//").next().unwrap_or_default();
        let outside = code.split('"').step_by(2);
        outside.flat_map(|part| part.split(|c| !is_word(c))).any(|word| word == keyword)
    })
}

/// All Rust files of the workspace, by their path below its root.
fn rust_files() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if path.is_dir() {
                if !name.starts_with('.') && !name.starts_with("target") {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                let below = path.strip_prefix(root()).expect("below the root");
                found.insert(below.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found
}
