//! The program `lehr`, run as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lehr::Array;
use lehr::data::{load_npz, save_npz};

const GRAPH: &str = r#"graph @step(%x: f32[batch, 2]) var(%w: f32[2]) data(%k: f32[]) -> (f32[batch]) {
  %0 = dot %x, %w {lhs_batch = [], rhs_batch = [], lhs_contract = [1], rhs_contract = [0]} : f32[batch]
  return %0 "y"
}
"#;

/// A folder of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{test}"));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.0.join(name), text).expect("a file");
        name.to_owned()
    }

    fn lehr(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lehr"));
        command.args(args).current_dir(&self.0).output().expect("the program runs")
    }
}

/// Checks the exit code, and gives what was printed.
fn check(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    assert!(!err.contains("panicked"), "{err}");
    assert_eq!(err.is_empty(), code == 0, "{err}");
    (out, err)
}

mod checking;
mod explaining;
mod running;
