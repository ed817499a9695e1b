//! A module in the making: what is bound, the parameter block, functions, and the lines of `main`.

use std::sync::Arc;

use lehr_ir::dim::Dim;
use lehr_ir::kernel::Access;
use smallvec::SmallVec;

use super::helpers::{Helper, Helpers};
use super::names::word;
use super::{Unsupported, WgslError, WgslTarget, limit};
use crate::gpu::dispatch::{Bound, Dispatch, Operand};

/// Collects a module and the dispatch that runs it.
pub(in crate::gpu) struct Source {
    title: Vec<String>,
    /// Names, types and values.
    words: Vec<(String, &'static str, Dim)>,
    bindings: Vec<Binding>,
    shared: Vec<String>,
    shared_bytes: u64,
    helpers: Helpers,
    functions: Vec<String>,
    main: Text,
    subgroups: bool,
    cooperative: bool,
}

struct Binding {
    name: String,
    buffer: Bound,
    access: Access,
    element: String,
}

/// Lines with their indentation.
#[derive(Default)]
pub(in crate::gpu) struct Text {
    lines: Vec<String>,
    indent: usize,
}

impl Text {
    /// Lines that begin indented, as those of a function do.
    pub(in crate::gpu) fn body() -> Self {
        Self { lines: Vec::new(), indent: 1 }
    }

    /// A line at the current indentation.
    pub(in crate::gpu) fn line(&mut self, text: impl AsRef<str>) {
        self.lines.push(format!("{}{}", "  ".repeat(self.indent), text.as_ref()));
    }

    /// A line that begins a block.
    pub(in crate::gpu) fn open(&mut self, text: impl AsRef<str>) {
        self.line(text);
        self.indent += 1;
    }

    /// A line that ends a block.
    pub(in crate::gpu) fn close(&mut self, text: impl AsRef<str>) {
        self.indent = self.indent.saturating_sub(1);
        self.line(text);
    }

    /// A line that ends a block and begins another.
    pub(in crate::gpu) fn turn(&mut self, text: impl AsRef<str>) {
        self.close(text);
        self.indent += 1;
    }

    /// Adds lines as they are.
    pub(in crate::gpu) fn append(&mut self, mut text: Self) {
        self.lines.append(&mut text.lines);
    }

    /// All of it, without a line's end after the last.
    pub(in crate::gpu) fn join(&self) -> String {
        self.lines.join("\n")
    }
}

impl Source {
    /// A module that says so about itself, a line each.
    pub(in crate::gpu) fn new(title: impl IntoIterator<Item = String>) -> Self {
        Self {
            title: title.into_iter().collect(),
            words: vec![("zero".to_owned(), "u32", Dim::ZERO)],
            bindings: Vec::new(),
            shared: Vec::new(),
            shared_bytes: 0,
            helpers: Helpers::default(),
            functions: Vec::new(),
            main: Text::body(),
            subgroups: false,
            cooperative: false,
        }
    }

    /// The module of a kernel's launch over so many iterations.
    pub(in crate::gpu) fn of_kernel(name: &str, iterations: &Dim) -> Self {
        let mut source = Self::new([format!("kernel @{name}")]);
        source.words.insert(0, ("lo".to_owned(), "i32", Dim::ZERO));
        source.words.insert(1, ("hi".to_owned(), "i32", iterations.clone()));
        source
    }

    /// A number as an expression: a constant as itself, anything else as a word of the parameter block.
    pub(in crate::gpu) fn number(&mut self, name: &str, dim: &Dim) -> Result<String, WgslError> {
        match dim.as_const() {
            Some(value) => super::printer::i32_text(value),
            None => self.word(name, dim),
        }
    }

    /// A number as a word of the parameter block, constant or not: equal texts then serve different numbers.
    pub(in crate::gpu) fn word(&mut self, name: &str, dim: &Dim) -> Result<String, WgslError> {
        if let Some(fault) = dim.fault() {
            return Err(lehr_ir::dim::DimError::from(fault).into());
        }
        let known = self.words.iter().find(|(_, ty, d)| *ty == "i32" && d == dim && d.as_const().is_none());
        if let Some((name, ..)) = known {
            return Ok(format!("params.{name}"));
        }
        let base = word(name);
        let numbered = (2_u64..).map(|n| format!("{base}_{n}"));
        let free = std::iter::once(base.clone()).chain(numbered).find(|n| self.words.iter().all(|(w, ..)| w != n));
        self.push_word(&free.unwrap_or(base), dim)
    }

    /// A word of the parameter block by a name that no other has.
    pub(in crate::gpu) fn push_word(&mut self, name: &str, dim: &Dim) -> Result<String, WgslError> {
        if let Some(value) = dim.as_const().filter(|c| i32::try_from(*c).is_err()) {
            return Err(Unsupported::Range(value).into());
        }
        self.words.push((name.to_owned(), "i32", dim.clone()));
        Ok(format!("params.{name}"))
    }

    /// The name of a buffer, bound once whatever it serves for.
    pub(in crate::gpu) fn bind(&mut self, name: &str, buffer: Bound, access: Access, element: &str) -> String {
        if let Some(known) = self.bindings.iter_mut().find(|b| b.buffer == buffer) {
            if known.access != access {
                known.access = Access::ReadWrite;
            }
            return known.name.clone();
        }
        let numbered = (2_u64..).map(|n| format!("{name}_{n}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        let free = names.find(|n| self.bindings.iter().all(|b| b.name != *n)).unwrap_or_default();
        self.bindings.push(Binding { name: free.clone(), buffer, access, element: element.to_owned() });
        free
    }

    /// An array in workgroup memory.
    pub(in crate::gpu) fn share(&mut self, name: &str, element: &str, bytes: u64, len: u64) {
        self.shared.push(format!("var<workgroup> {name}: array<{element}, {len}>;"));
        self.shared_bytes += bytes * len;
    }

    /// Adds a function, once.
    pub(in crate::gpu) fn function(&mut self, text: String) {
        if !self.functions.contains(&text) {
            self.functions.push(text);
        }
    }

    /// An f32 constant as an expression.
    pub(in crate::gpu) fn f32(&mut self, c: f32) -> String {
        super::printer::f32_text(&mut self.helpers, c)
    }

    /// Adds a function that text uses, and those within.
    pub(in crate::gpu) fn need(&mut self, helper: Helper) {
        self.helpers.add(helper);
    }

    /// Adds functions that text uses.
    pub(in crate::gpu) fn help(&mut self, helpers: Helpers) {
        self.helpers.extend(helpers);
    }

    /// Has `main` told its place in its subgroup, `subgroup_lane`.
    pub(in crate::gpu) fn use_subgroups(&mut self) {
        self.subgroups = true;
    }

    /// Lets the module have cooperative matrices of `f16`, and has `main` told its subgroup, `subgroup`.
    pub(in crate::gpu) fn use_cooperative(&mut self) {
        self.cooperative = true;
    }

    /// Adds lines to `main`.
    pub(in crate::gpu) fn append(&mut self, text: Text) {
        self.main.append(text);
    }

    /// A line of `main`.
    pub(in crate::gpu) fn line(&mut self, text: impl AsRef<str>) {
        self.main.line(text);
    }

    /// A line of `main` that begins a block.
    pub(in crate::gpu) fn open(&mut self, text: impl AsRef<str>) {
        self.main.open(text);
    }

    /// A line of `main` that ends a block.
    pub(in crate::gpu) fn close(&mut self, text: impl AsRef<str>) {
        self.main.close(text);
    }

    /// A line of `main` that ends a block and begins another.
    pub(in crate::gpu) fn turn(&mut self, text: impl AsRef<str>) {
        self.main.turn(text);
    }

    /// Lines that find this workgroup's number, `linear`, and leave where there is none.
    pub(in crate::gpu) fn begin(&mut self, groups: &str) {
        self.line("let lane = i32(invocation);");
        self.line("let linear = i32(group.y * groups.x + group.x);");
        self.open(format!("if (linear >= {groups}) {{"));
        self.line("return;");
        self.close("}");
    }

    /// The dispatch of so many workgroups of so many invocations.
    ///
    /// # Errors
    /// More buffers or workgroup memory than the target has.
    pub(in crate::gpu) fn dispatch(
        self,
        invocations: u32,
        groups: Dim,
        target: &WgslTarget,
    ) -> Result<Dispatch, WgslError> {
        if self.bindings.len() > target.storage_buffers {
            return Err(limit("storage buffers", self.bindings.len() as u64, target.storage_buffers as u64));
        }
        if self.shared_bytes > target.workgroup_bytes {
            return Err(limit("bytes of workgroup memory", self.shared_bytes, target.workgroup_bytes));
        }
        let mut out: Vec<String> = self.title.iter().map(|t| format!("// {t}")).collect();
        if self.cooperative || self.bindings.iter().any(|b| b.element.contains("f16")) {
            out.push("enable f16;".to_owned());
        }
        if self.cooperative {
            out.push("enable wgpu_cooperative_matrix;".to_owned());
        }
        if self.subgroups && target.subgroups.is_some_and(|s| s.named) {
            out.push("enable subgroups;".to_owned());
        }
        out.push("struct Params {".to_owned());
        out.extend(self.words.iter().map(|(name, ty, _)| format!("  {name}: {ty},")));
        out.extend(["}".to_owned(), String::new()]);
        out.push("@group(0) @binding(0) var<uniform> params: Params;".to_owned());
        for (i, b) in self.bindings.iter().enumerate() {
            let access = if b.access.stores() { "read_write" } else { "read" };
            let (name, element) = (&b.name, &b.element);
            out.push(format!("@group(0) @binding({}) var<storage, {access}> {name}: array<{element}>;", i + 1));
        }
        out.extend(self.shared);
        for text in self.helpers.texts().map(str::to_owned).chain(self.functions) {
            out.extend([String::new(), text]);
        }
        out.push(String::new());
        out.push(format!("@compute @workgroup_size({invocations})"));
        out.push("fn main(".to_owned());
        out.extend(super::printer::BUILTINS.map(|(builtin, parameter)| format!("  @builtin({builtin}) {parameter},")));
        if self.subgroups {
            out.push("  @builtin(subgroup_invocation_id) subgroup_lane: u32,".to_owned());
        }
        if self.cooperative {
            out.push("  @builtin(subgroup_id) subgroup: u32,".to_owned());
        }
        out.push(") {".to_owned());
        out.push(self.main.join());
        out.push("}\n".to_owned());
        let operands: SmallVec<[Operand; 6]> =
            self.bindings.into_iter().map(|b| Operand { buffer: b.buffer, access: b.access }).collect();
        let words = self.words.into_iter().map(|(.., dim)| dim).collect();
        Ok(Dispatch { text: Arc::from(out.join("\n")), operands, words, groups })
    }
}
