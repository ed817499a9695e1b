//! `lehr check`.

use super::{Folder, check};

#[test]
fn a_good_file_is_listed() {
    let folder = Folder::new("check-good");
    let file =
        folder.write("good.lehr", "graph @a(%x: f32[n]) -> (f32[n]) {\n  %0 = add %x, %x : f32[n]\n  return %0\n}\n");
    let (out, _) = check(&folder.lehr(&["check", &file]), 0);
    assert_eq!(out, "ok: graph @a, 1 nodes\n");
}

#[test]
fn kernels_are_checked_too() {
    let folder = Folder::new("check-kernel");
    let kernel = "kernel @k(read x: f32[n], write y: f32[n]) sizes(n) {\n  parallel i in 0..n {\n    %0 = load x[i]\n    store y[i], %0\n  }\n}\n";
    let file = folder.write("good.lehr", kernel);
    let (out, _) = check(&folder.lehr(&["check", &file]), 0);
    assert_eq!(out, "ok: kernel @k, 2 buffers\n");
    let file = folder.write("beyond.lehr", kernel.replace("x[i]", "x[i + 1]"));
    let (_, err) = check(&folder.lehr(&["check", &file]), 1);
    assert!(err.contains("%0 = load x[i + 1]"), "{err}");
    let file = folder.write("bad.lehr", kernel.replace("load", "lod"));
    let (_, err) = check(&folder.lehr(&["check", &file]), 1);
    assert!(err.contains("bad.lehr:3:"), "{err}");
}

#[test]
fn a_mistake_is_shown_under_its_line() {
    let folder = Folder::new("check-bad");
    let text = "graph @a(%x: f32[n]) -> (f32[n]) {\n  %0 = add %x, %y : f32[n]\n  return %0\n}\n";
    let file = folder.write("bad.lehr", text);
    let (out, err) = check(&folder.lehr(&["check", &file]), 1);
    assert_eq!(out, "");
    insta::assert_snapshot!(err);
}

#[test]
fn a_wrong_type_names_the_operands() {
    let folder = Folder::new("check-type");
    let text = "graph @a(%x: f32[n], %y: f32[m]) -> (f32[n]) {\n  %0 = add %x, %y : f32[n]\n  return %0\n}\n";
    let file = folder.write("bad.lehr", text);
    let (_, err) = check(&folder.lehr(&["check", &file]), 1);
    assert!(err.contains("bad.lehr:2:") && err.contains("f32[m]"), "{err}");
}

#[test]
fn any_bytes_are_refused_in_words() {
    let folder = Folder::new("check-bytes");
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    let noise: Vec<u8> = (0..4096).map(|_| random()).collect();
    for (name, bytes) in [
        ("noise.lehr", noise),
        ("latin.lehr", b"graph @a\n  \xff".to_vec()),
        ("open.lehr", b"graph @a(".repeat(2000)),
        ("braces.lehr", b"{".repeat(20_000)),
        ("nul.lehr", vec![0; 100]),
        ("long.lehr", [b"graph @a() -> () { ".to_vec(), b"x".repeat(100_000)].concat()),
    ] {
        let file = folder.write(name, bytes);
        for args in [vec!["check", &file], vec!["explain", &file]] {
            let (_, err) = check(&folder.lehr(&args), 1);
            assert!(err.starts_with("error: ") && err.contains(name), "{err}");
            assert!(err.len() < 2000, "{err}");
        }
    }
    let (_, err) = check(&folder.lehr(&["check", "missing.lehr"]), 1);
    assert!(err.starts_with("error: missing.lehr: "), "{err}");
}
