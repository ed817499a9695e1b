//! The state of printing one kernel, and the module around its body.

use std::collections::BTreeMap;

use lehr_ir::dim::Symbol;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Kernel, Memory, Stmt, Var};
use lehr_ir::literal::Literal;

use super::barrier::Touched;
use super::helpers::{Helper, Helpers};
use super::names::{Names, word};
use super::{Unsupported, WgslError, WgslTarget, limit, loops};

/// What `main` is told.
pub(super) const BUILTINS: [(&str, &str); 3] = [
    ("workgroup_id", "group: vec3<u32>"),
    ("num_workgroups", "groups: vec3<u32>"),
    ("local_invocation_index", "invocation: u32"),
];

/// Who runs the statements that are being printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Context {
    /// All invocations of a workgroup alike: one iteration of the outermost loop.
    Row,
    /// One invocation: an iteration of a lane or reduce loop.
    Lane,
}

/// Prints one kernel.
pub(super) struct Printer<'k> {
    pub(super) kernel: &'k Kernel,
    pub(super) target: &'k WgslTarget,
    pub(super) context: Context,
    pub(super) helpers: Helpers,
    /// The axes around, innermost last, with their names.
    pub(super) axes: Vec<(&'k Symbol, String)>,
    /// What has been touched since the last barrier.
    pub(super) touched: Touched,
    /// For each variable, whether it depends on what memory holds.
    pub(super) from_memory: Vec<bool>,
    /// Arrays in workgroup memory for partial results: by type and number, with their length.
    pub(super) shared: BTreeMap<(&'static str, usize), u32>,
    buffers: Vec<String>,
    tiles: Vec<String>,
    sizes: Vec<String>,
    lines: Vec<String>,
    indent: usize,
    temporaries: usize,
}

impl<'k> Printer<'k> {
    pub(super) fn new(kernel: &'k Kernel, target: &'k WgslTarget) -> Result<Self, WgslError> {
        check_dtypes(kernel)?;
        let mut names = Names::default();
        let buffers = kernel.buffers.iter().map(|b| names.fresh("buf_", &b.name)).collect();
        let tiles = kernel.tiles.iter().map(|t| names.fresh("tile_", &t.name)).collect();
        let sizes = kernel.sizes.iter().map(|s| names.fresh("size_", s.as_str())).collect();
        Ok(Self {
            kernel,
            target,
            context: Context::Row,
            helpers: Helpers::default(),
            axes: Vec::new(),
            touched: Touched::default(),
            from_memory: vec![false; kernel.vars.len()],
            shared: BTreeMap::new(),
            buffers,
            tiles,
            sizes,
            lines: Vec::new(),
            indent: 1,
            temporaries: 0,
        })
    }

    /// The whole module.
    pub(super) fn module(mut self) -> Result<String, WgslError> {
        let by_group = loops::has_lanes(&self.kernel.body.body);
        self.root(by_group)?;
        let mut out = vec![format!("// kernel @{}", self.kernel.name), "struct Params {".to_owned()];
        out.extend(["lo: i32", "hi: i32", "zero: u32"].map(|field| format!("  {field},")));
        out.extend(self.sizes.iter().map(|s| format!("  {s}: i32,")));
        out.extend(["}".to_owned(), String::new()]);
        out.push("@group(0) @binding(0) var<uniform> params: Params;".to_owned());
        for (i, (b, name)) in self.kernel.buffers.iter().zip(&self.buffers).enumerate() {
            let access = if b.access.stores() { "read_write" } else { "read" };
            let element = if b.dtype == DType::Bool { "u32" } else { type_name(b.dtype) };
            out.push(format!("@group(0) @binding({}) var<storage, {access}> {name}: array<{element}>;", i + 1));
        }
        let mut bytes = 0;
        for ((ty, number), len) in &self.shared {
            out.push(format!("var<workgroup> shared_{ty}_{number}: array<{ty}, {len}>;"));
            bytes += 4 * u64::from(*len);
        }
        for (tile, name) in self.kernel.tiles.iter().zip(&self.tiles).filter(|_| by_group) {
            out.push(format!("var<workgroup> {name}: array<{}, {}>;", type_name(tile.dtype), tile.len.max(1)));
            bytes += 4 * u64::from(tile.len);
        }
        if bytes > self.target.workgroup_bytes {
            return Err(limit("bytes of workgroup memory", bytes, self.target.workgroup_bytes));
        }
        for text in self.helpers.texts() {
            out.extend([String::new(), text.to_owned()]);
        }
        out.push(String::new());
        out.push(format!("@compute @workgroup_size({})", self.target.workgroup_size.max(1)));
        out.push("fn main(".to_owned());
        out.extend(BUILTINS.map(|(builtin, parameter)| format!("  @builtin({builtin}) {parameter},")));
        out.push(") {".to_owned());
        out.append(&mut self.lines);
        out.push("}\n".to_owned());
        Ok(out.join("\n"))
    }

    /// The outermost loop: finds this workgroup's or invocation's iteration, and prints the body for it.
    fn root(&mut self, by_group: bool) -> Result<(), WgslError> {
        let kernel = self.kernel;
        let axis = axis_name(&kernel.body.axis);
        self.line("let lane = i32(invocation);");
        self.line("let linear = i32(group.y * groups.x + group.x);");
        if by_group {
            self.line(format!("let {axis} = params.lo + linear;"));
        } else {
            self.line(format!("let {axis} = params.lo + linear * {} + lane;", self.target.workgroup_size.max(1)));
        }
        self.open(format!("if ({axis} >= params.hi) {{"));
        self.line("return;");
        self.close("}");
        if !by_group {
            self.context = Context::Lane;
            for (tile, name) in kernel.tiles.iter().zip(self.tiles.clone()) {
                self.line(format!("var {name}: array<{}, {}>;", type_name(tile.dtype), tile.len.max(1)));
            }
        }
        self.axes.push((&kernel.body.axis, axis));
        self.block(&kernel.body.body)
    }

    pub(super) fn block(&mut self, stmts: &'k [Stmt]) -> Result<(), WgslError> {
        stmts.iter().try_for_each(|s| self.stmt(s))
    }

    /// Adds a line at the current indentation.
    pub(super) fn line(&mut self, text: impl AsRef<str>) {
        self.lines.push(format!("{}{}", "  ".repeat(self.indent), text.as_ref()));
    }

    /// A line that begins a block.
    pub(super) fn open(&mut self, text: impl AsRef<str>) {
        self.line(text);
        self.indent += 1;
    }

    /// A line that ends a block.
    pub(super) fn close(&mut self, text: impl AsRef<str>) {
        self.indent = self.indent.saturating_sub(1);
        self.line(text);
    }

    /// A name for a value of no variable.
    pub(super) fn temporary(&mut self) -> String {
        self.temporaries += 1;
        format!("t{}", self.temporaries)
    }

    /// Defines a variable by an expression.
    pub(super) fn define(&mut self, var: Var, expr: &str) -> Result<(), WgslError> {
        let ty = type_name(self.dtype(var)?);
        self.line(format!("let {}: {ty} = {expr};", var_name(var)));
        Ok(())
    }

    pub(super) fn dtype(&self, var: Var) -> Result<DType, WgslError> {
        self.kernel.vars.get(var.0 as usize).copied().ok_or(WgslError::Invalid("a variable without dtype"))
    }

    pub(super) fn memory_name(&self, memory: Memory) -> Result<&str, WgslError> {
        let (names, i) = match memory {
            Memory::Buffer(i) => (&self.buffers, i),
            Memory::Tile(i) => (&self.tiles, i),
        };
        names.get(i as usize).map(String::as_str).ok_or(WgslError::Invalid("memory that does not exist"))
    }

    pub(super) fn size_name(&self, symbol: &Symbol) -> Option<String> {
        let at = self.kernel.sizes.iter().position(|s| s == symbol)?;
        self.sizes.get(at).map(|name| format!("params.{name}"))
    }

    /// A literal as an expression that no compiler refuses.
    pub(super) fn literal(&mut self, literal: &Literal) -> Result<String, WgslError> {
        let bits = literal.bits()[0];
        Ok(match literal.dtype() {
            DType::Bool => (bits != 0).to_string(),
            DType::F32 => self.f32(f32::from_bits(bits as u32)),
            DType::U32 => format!("{}u", bits as u32),
            dtype => {
                let value = literal.to_i64().ok_or(Unsupported::DType { dtype, place: "a constant".to_owned() })?;
                i32_text(value)?
            }
        })
    }

    /// An f32 constant; what has no literal comes from its bits at run time.
    pub(super) fn f32(&mut self, c: f32) -> String {
        if c.is_finite() {
            return format!("{c:?}f");
        }
        self.helpers.add(Helper::F32Bits);
        format!("f32_bits({:#010x}u)", c.to_bits())
    }
}

/// The WGSL type of a variable.
pub(super) fn type_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "bool",
        DType::F32 => "f32",
        DType::U32 => "u32",
        DType::I32 | DType::I64 => "i32",
        // `check_dtypes` has refused the others.
        DType::I8
        | DType::I16
        | DType::U8
        | DType::U16
        | DType::U64
        | DType::F16
        | DType::BF16
        | DType::F64
        | DType::C64
        | DType::C128 => "none",
    }
}

pub(super) fn var_name(var: Var) -> String {
    format!("v{}", var.0)
}

pub(super) fn axis_name(axis: &Symbol) -> String {
    format!("at_{}", word(axis.as_str()))
}

/// An i32 as text; the least one is no negated literal.
pub(super) fn i32_text(value: i64) -> Result<String, WgslError> {
    match i32::try_from(value) {
        Ok(i32::MIN) => Ok("i32(-2147483648)".to_owned()),
        Ok(value) => Ok(value.to_string()),
        Err(_) => Err(Unsupported::Range(value).into()),
    }
}

fn check_dtypes(kernel: &Kernel) -> Result<(), WgslError> {
    let storage = |dtype| matches!(dtype, DType::Bool | DType::F32 | DType::I32 | DType::U32);
    let buffers = kernel.buffers.iter().map(|b| (b.dtype, &b.name));
    let tiles = kernel.tiles.iter().map(|t| (t.dtype, &t.name));
    if let Some((dtype, name)) = buffers.chain(tiles).find(|(d, _)| !storage(*d)) {
        return Err(Unsupported::DType { dtype, place: format!("`{name}`") }.into());
    }
    let variable = kernel.vars.iter().position(|d| !storage(*d) && *d != DType::I64);
    match variable.and_then(|i| Some((i, kernel.vars.get(i)?))) {
        Some((i, dtype)) => Err(Unsupported::DType { dtype: *dtype, place: format!("%{i}") }.into()),
        None => Ok(()),
    }
}
