//! The state of printing one kernel, and the module around its body.

use std::collections::{BTreeMap, BTreeSet};

use lehr_ir::dim::Symbol;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Kernel, Memory, Stmt, Var};
use lehr_ir::literal::Literal;

use super::barrier::Touched;
use super::helpers::{Helper, Helpers};
use super::names::{Names, word};
use super::source::Text;
use super::storage::{self, Storage};
use super::{Unsupported, WgslError, WgslTarget};

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
pub(in crate::gpu) struct Printer<'k> {
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
    /// Variables that are constant zeros.
    pub(super) zeros: BTreeSet<Var>,
    /// Arrays in workgroup memory for partial results: by type and number, with their length.
    pub(super) shared: BTreeMap<(&'static str, usize), u32>,
    /// For each buffer, where it is.
    pub(super) places: Vec<Place>,
    pub(super) text: Text,
    /// Whether `main` has to be told its place in its subgroup.
    pub(super) needs_subgroups: bool,
    tiles: Vec<String>,
    /// For each size, an expression.
    sizes: Vec<String>,
    pub(super) temporaries: usize,
}

/// Where the elements of a kernel's buffer are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::gpu) struct Place {
    /// The name of the array.
    pub(in crate::gpu) name: String,
    /// Whether the array's words are atomic.
    pub(in crate::gpu) atomic: bool,
    /// The element itself, for a buffer that is read at one place only and is at hand.
    pub(in crate::gpu) at_hand: Option<String>,
}

impl<'k> Printer<'k> {
    /// A printer of a kernel whose buffers and sizes are there already.
    pub(in crate::gpu) fn new(
        kernel: &'k Kernel,
        target: &'k WgslTarget,
        places: Vec<Place>,
        sizes: Vec<String>,
    ) -> Result<Self, WgslError> {
        check_dtypes(kernel, target)?;
        let mut names = Names::default();
        Ok(Self {
            kernel,
            target,
            context: Context::Row,
            helpers: Helpers::default(),
            axes: Vec::new(),
            touched: Touched::default(),
            from_memory: vec![false; kernel.vars.len()],
            zeros: BTreeSet::new(),
            shared: BTreeMap::new(),
            places,
            text: Text::body(),
            needs_subgroups: false,
            tiles: kernel.tiles.iter().map(|t| names.fresh("tile_", &t.name)).collect(),
            sizes,
            temporaries: 0,
        })
    }

    /// The outermost loop: finds this workgroup's or invocation's iteration, and prints the body for it.
    pub(super) fn root(&mut self, by_group: bool) -> Result<(), WgslError> {
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
                let ty = self.ty(tile.dtype)?;
                self.line(format!("var {name}: array<{ty}, {}>;", tile.len.max(1)));
            }
        }
        self.axes.push((&kernel.body.axis, axis));
        self.block(&kernel.body.body)
    }

    /// Prints what follows for one invocation, which is at these places of these axes.
    pub(in crate::gpu) fn one_element(&mut self, axes: &[(&'k Symbol, &str)]) {
        self.context = Context::Lane;
        self.axes.extend(axes.iter().map(|(axis, name)| (*axis, (*name).to_owned())));
    }

    /// What has been printed, and the helpers that it uses.
    pub(in crate::gpu) fn into_text(self) -> (Helpers, Text) {
        (self.helpers, self.text)
    }

    pub(in crate::gpu) fn block(&mut self, stmts: &'k [Stmt]) -> Result<(), WgslError> {
        stmts.iter().try_for_each(|s| self.stmt(s))
    }

    /// Adds a line at the current indentation.
    pub(super) fn line(&mut self, text: impl AsRef<str>) {
        self.text.line(text);
    }

    /// A line that begins a block.
    pub(super) fn open(&mut self, text: impl AsRef<str>) {
        self.text.open(text);
    }

    /// A line that ends a block.
    pub(super) fn close(&mut self, text: impl AsRef<str>) {
        self.text.close(text);
    }

    /// A name for a value of no variable.
    pub(super) fn temporary(&mut self) -> String {
        temporary(&mut self.temporaries)
    }

    /// Defines a variable by an expression.
    pub(super) fn define(&mut self, var: Var, expr: &str) -> Result<(), WgslError> {
        let ty = self.ty(self.dtype(var)?)?;
        self.line(format!("let {}: {ty} = {expr};", var_name(var)));
        Ok(())
    }

    pub(super) fn dtype(&self, var: Var) -> Result<DType, WgslError> {
        self.kernel.vars.get(var.0 as usize).copied().ok_or(WgslError::Invalid("a variable without dtype"))
    }

    pub(super) fn memory_name(&self, memory: Memory) -> Result<&str, WgslError> {
        let name = match memory {
            Memory::Buffer(i) => self.places.get(i as usize).map(|p| &p.name),
            Memory::Tile(i) => self.tiles.get(i as usize),
        };
        name.map(String::as_str).ok_or(WgslError::Invalid("memory that does not exist"))
    }

    pub(super) fn size_name(&self, symbol: &Symbol) -> Option<String> {
        let at = self.kernel.sizes.iter().position(|s| s == symbol)?;
        self.sizes.get(at).cloned()
    }

    /// The WGSL type of variables of a dtype.
    pub(super) fn ty(&self, dtype: DType) -> Result<&'static str, WgslError> {
        let ty = storage::variable(dtype, self.target);
        ty.ok_or_else(|| Unsupported::DType { dtype, place: "a variable".to_owned() }.into())
    }

    /// The name of a tile.
    pub(super) fn tile_name(&self, i: usize) -> &str {
        self.tiles.get(i).map_or("", String::as_str)
    }

    /// Whether 64-bit integers are what they are, and not index values of 32 bits.
    pub(super) fn has_i64(&self) -> bool {
        self.target.i64
    }

    /// A literal as an expression that no compiler refuses.
    pub(super) fn literal(&mut self, literal: &Literal) -> Result<String, WgslError> {
        let dtype = literal.dtype();
        let whole = || literal.to_i64().ok_or(Unsupported::DType { dtype, place: "a constant".to_owned() });
        Ok(match self.ty(dtype)? {
            "bool" => (literal.bits()[0] != 0).to_string(),
            "f32" => self.f32(literal.to_f64() as f32),
            "f64" => self.f64(literal.to_f64()),
            "u32" => format!("{}u", literal.bits()[0] as u32),
            "u64" => format!("{}lu", literal.bits()[0]),
            "i64" => i64_text(whole()?),
            _ => i32_text(whole()?)?,
        })
    }

    /// An f64 constant; what has no literal is that of an f32.
    fn f64(&mut self, c: f64) -> String {
        if c.is_finite() {
            return format!("{c:?}lf");
        }
        format!("f64({})", self.f32(c as f32))
    }

    /// An f32 constant; what has no literal comes from its bits at run time.
    pub(super) fn f32(&mut self, c: f32) -> String {
        f32_text(&mut self.helpers, c)
    }
}

/// The next name for a value of no variable.
pub(super) fn temporary(made: &mut usize) -> String {
    *made += 1;
    format!("t{made}")
}

/// An f32 constant; what has no literal comes from its bits at run time.
pub(in crate::gpu) fn f32_text(helpers: &mut Helpers, c: f32) -> String {
    if c.is_finite() {
        return format!("{c:?}f");
    }
    helpers.add(Helper::F32Bits);
    format!("f32_bits({:#010x}u)", c.to_bits())
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

/// An i64 as text; the least one is no negated literal.
pub(super) fn i64_text(value: i64) -> String {
    if value == i64::MIN { "(-9223372036854775807li - 1li)".to_owned() } else { format!("{value}li") }
}

fn check_dtypes(kernel: &Kernel, target: &WgslTarget) -> Result<(), WgslError> {
    let there = |dtype| storage::variable(dtype, target).is_some();
    let buffers = kernel.buffers.iter().map(|b| (b.dtype, &b.name));
    let tiles = kernel.tiles.iter().map(|t| (t.dtype, &t.name));
    let stored = buffers.clone().find(|(d, _)| Storage::of(*d, target).is_none());
    if let Some((dtype, name)) = stored.or_else(|| buffers.chain(tiles).find(|(d, _)| !there(*d))) {
        return Err(Unsupported::DType { dtype, place: format!("`{name}`") }.into());
    }
    let variable = kernel.vars.iter().position(|d| !there(*d));
    match variable.and_then(|i| Some((i, kernel.vars.get(i)?))) {
        Some((i, dtype)) => Err(Unsupported::DType { dtype: *dtype, place: format!("%{i}") }.into()),
        None => Ok(()),
    }
}
