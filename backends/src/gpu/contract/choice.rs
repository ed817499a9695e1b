//! How a product is computed: what its shape suggests, and what else is worth measuring.

use std::fmt;
use std::sync::Arc;

use lehr_ir::dim::Dim;
use lehr_ir::kernel::Kernel;
use lehr_ir::plan::{Contract, Digits, Matrix};

use super::cooperative::Shape;
use super::element::Element;
use super::parts::{self, Parts};
use super::tiled::Tiling;
use super::{Product, few};
use crate::gpu::vendor::Defaults;
use crate::gpu::wgsl::WgslTarget;

/// The form of a product's dispatches. Each computes the same sums, in an order of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    pub(super) form: Form,
    /// In how many parts the sums are computed, about.
    pub(super) parts: i64,
}

/// What workgroups make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// Tiles of the result.
    Tiles(Tiling),
    /// Tiles of the result in cooperative matrices.
    Cooperative(Shape),
    /// Vectors of the many, where a side has few.
    Few(few::Form),
}

impl Form {
    /// The workgroups of a product whose sums are whole.
    fn groups(self, product: &Product<'_>) -> Dim {
        match self {
            Self::Tiles(tiling) => tiling.groups(product),
            Self::Cooperative(shape) => shape.groups(product),
            Self::Few(few) => few.groups(product),
        }
    }
}

/// The most choices of one product: the time to measure them all is to be bounded.
const MOST: usize = 24;

impl Choice {
    /// What the shape suggests, and the device's vendor.
    pub(super) fn of(product: &Product<'_>, target: &WgslTarget) -> Self {
        let Defaults { groups, light_groups, .. } = Defaults::of(target.vendor);
        let (form, enough) = if let Some(form) = few::fits(product) {
            (Form::Few(form), light_groups)
        } else if let Some(shape) = Shape::of(product, target) {
            (Form::Cooperative(shape), groups)
        } else {
            (Form::Tiles(Tiling::of(product, target.vendor).deepened(product.element, target)), groups)
        };
        Self { form, parts: parts::count(product, &form.groups(product), enough) }
    }

    /// The choices of cooperative matrices whose sums are whole, for a target that has some: what is tested before they are used.
    pub(in crate::gpu) fn cooperative(target: &WgslTarget) -> impl Iterator<Item = Self> {
        let target = *target;
        Shape::ALL.into_iter().filter(move |s| s.runs(&target)).map(|s| Self { form: Form::Cooperative(s), parts: 1 })
    }

    /// How the sums are cut.
    pub(super) fn cut(&self, product: &Product<'_>) -> Option<Parts> {
        parts::cut(product, self.parts)
    }

    /// The choices for a product whose sizes are known, the one that its shape suggests first; none for others.
    pub fn all(contract: &Contract, target: &WgslTarget) -> Vec<Self> {
        let Ok(element) = Element::of(contract.dtype, target) else { return Vec::new() };
        let known = [&contract.batch, &contract.m, &contract.n, &contract.k];
        if !known.into_iter().all(|d| d.as_const().is_some_and(|n| n > 0)) {
            return Vec::new();
        }
        let product = Product::of(contract, element);
        let few = few::fits(&product);
        let few = few.into_iter().flat_map(|form| [4, 8, 16, 32, 64].map(|along| Form::Few(form.along(along))));
        let mut tiles = few.chain(Tiling::all(&product, target).map(Form::Tiles));
        let mut all = vec![Self::of(&product, target)];
        let mut add = |forms: &mut dyn Iterator<Item = Form>, most: usize| {
            for form in forms {
                for parts in parts::counts(&product, &form.groups(&product)) {
                    let choice = Self { form, parts };
                    let same = |c: &Self| c.form == form && c.cut(&product) == choice.cut(&product);
                    if !all.iter().any(same) {
                        all.push(choice);
                    }
                }
            }
            all.truncate(most);
        };
        add(&mut Shape::all(&product, target).map(Form::Cooperative), MOST / 2);
        add(&mut tiles, MOST);
        all
    }

    /// The word that names a choice in a file.
    pub fn word(&self) -> String {
        match self.form {
            Form::Tiles(Tiling { size, each, depth }) => format!("tiles-{size}-{each}-{depth}-{}", self.parts),
            Form::Cooperative(Shape { size, invocations, depth }) => {
                format!("cooperative-{size}-{invocations}-{depth}-{}", self.parts)
            }
            Form::Few(form) => format!("few-{}-{}", form.along_sum(), self.parts),
        }
    }
}

/// In words.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Tiles(Tiling { size, each, depth }) => {
                write!(f, "tiles of {size} by {size}, {each} by {each} an invocation, {depth} terms at a time")?;
            }
            Form::Cooperative(Shape { size, invocations, depth }) => {
                write!(f, "tiles of {size} by {size} in cooperative matrices, {invocations} invocations, ")?;
                write!(f, "{depth} terms at a time")?;
            }
            Form::Few(form) => write!(f, "vectors, {} invocations along each sum", form.along_sum())?,
        }
        if self.parts > 1 { write!(f, ", sums in {} parts", self.parts) } else { Ok(()) }
    }
}

/// The text of all that the time of a product depends on: equal products of any plans have equal texts.
pub fn canonical(contract: &Contract, kernels: &[Arc<Kernel>]) -> String {
    let Contract { dtype, batch, m, n, k, a, b, c, epilogue } = contract;
    let digits = |d: &Digits| d.digits().iter().map(|d| format!(" {}*{}", d.size, d.stride)).collect::<String>();
    let matrix = |x: &Matrix| format!("{};{};{};{}", x.offset, digits(&x.batch), digits(&x.row), digits(&x.column));
    let same = a.buffer == b.buffer;
    let mut text = format!("{dtype} {batch} {m} {n} {k} same {same}");
    for x in [a, b, c] {
        text += &format!("\n{}", matrix(x));
    }
    if let Some(e) = epilogue {
        let all = [a.buffer, b.buffer, c.buffer];
        let first = |id| all.iter().chain(&e.buffers).position(|b| *b == id);
        let buffers: Vec<Option<usize>> = e.buffers.iter().map(|b| first(*b)).collect();
        let sizes: Vec<String> = e.sizes.iter().map(ToString::to_string).collect();
        text += &format!("\nepilogue {buffers:?} {sizes:?} {} {}\n", e.first_column, e.columns);
        if let Some(kernel) = kernels.get(e.kernel as usize) {
            text += &kernel.canonical_text();
        }
    }
    text
}
