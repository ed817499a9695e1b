//! Memory for time: what a gradient keeps of the forward computation, and what it computes again.

use lehr_ir::attrs::{Attr, Attrs};
use lehr_ir::loc::Loc;
use lehr_ir::ops::Call;
use lehr_passes::derivative::{CHECKPOINT, CHECKPOINT_NAME};

use crate::closure::{apply_all, captured, numbered, placeholders, region};
use crate::composite::Composite;
use crate::scope;
use crate::tensor::{Tensor, is_name, settle, sound};
use crate::tree::{self, Tree};

/// What a gradient keeps of the inside of a [`checkpoint`]; the inputs and what is captured are kept always.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Checkpoint {
    /// Nothing: all of it is computed again.
    #[default]
    Nothing,
    /// The results of dot products and convolutions, which cost most to compute again.
    Dots,
    /// The values of these names ([`Tensor::named`]).
    Named(Vec<String>),
    /// Everything that it uses, as without a checkpoint.
    Everything,
}

impl Checkpoint {
    /// Keeps the values of these names.
    pub fn named<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::Named(names.into_iter().map(Into::into).collect())
    }
}

/// What `f` gives for `inputs`, where a gradient keeps only what the policy says of what is computed inside, and computes the
/// rest again when it needs it.
///
/// Values and gradients are the same as without, to the bit. What is computed again is never merged with what it repeats, and
/// runs as late as it can. Tensors that `f` captures, such as weights, have gradients as ever.
/// # Errors
/// A name to keep that is no name.
/// ```
/// use lehr::prelude::*;
/// let w = Tensor::variable("w", [[0.5f32, 0.25], [1.0, -1.0]]);
/// let mut x = Tensor::input("x", F32, ("batch", 2));
/// for _ in 0..4 {
///     x = checkpoint(&x, Checkpoint::Nothing, |x| x + x.matmul(&w).tanh());
/// }
/// let gradient = grad(&x.sum(), &w);
/// assert_eq!(gradient.ty()?.to_string(), "f32[2, 2]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[track_caller]
pub fn checkpoint<I, O>(inputs: &I, keep: Checkpoint, f: impl FnOnce(&I::Mapped) -> O) -> O::Mapped
where
    I: Tree + ?Sized,
    O: Tree,
{
    let loc = Loc::caller();
    let leaves = tree::leaves(inputs);
    let params = placeholders(&leaves, &loc);
    let out = scope::outside(|| f(&tree::with_leaves(inputs, params.clone())));
    let outs = tree::leaves(&out);
    let made = attrs(keep, &loc).and_then(|attrs| call(attrs, &leaves, &params, &outs, &loc));
    tree::with_leaves(&out, made.unwrap_or_else(|bad| vec![bad; outs.len()]))
}

fn call(attrs: Attrs, leaves: &[Tensor], params: &[Tensor], outs: &[Tensor], loc: &Loc) -> Result<Vec<Tensor>, Tensor> {
    sound(&leaves.iter().chain(outs).collect::<Vec<&Tensor>>())?;
    let mut known = Vec::new();
    captured(outs, params, &mut known);
    let inner = [numbered("x", params), numbered("c", &known)].concat();
    let body = region(CHECKPOINT, &inner, &numbered("y", outs))?;
    let call = Call { attrs, ..Call::new(CHECKPOINT, body) };
    Ok(apply_all(call, &[leaves, &known].concat(), loc))
}

fn attrs(keep: Checkpoint, loc: &Loc) -> Result<Attrs, Tensor> {
    let attrs = Attrs::new();
    Ok(match keep {
        Checkpoint::Nothing => attrs.with_name(CHECKPOINT, "nothing"),
        Checkpoint::Dots => attrs.with_name(CHECKPOINT, "dots"),
        Checkpoint::Everything => attrs,
        Checkpoint::Named(names) => {
            if let Some(bad) = names.iter().find(|n| !is_name(n)) {
                return Err(not_a_name(bad, &[], loc));
            }
            attrs.with(CHECKPOINT, Attr::Str(names.join(",")))
        }
    })
}

impl Tensor {
    /// The same value, with a name by which a [`checkpoint`] can keep it.
    ///
    /// # Gradient
    /// The cotangent.
    /// # Errors
    /// A name that is not made of letters, digits, `_`, `.` and `-`, starting with a letter.
    /// ```
    /// use lehr::prelude::*;
    /// let x = Tensor::from([0.5f32, 1.0]);
    /// let y = checkpoint(&x, Checkpoint::named(["h"]), |x| (x * 3).named("h").square().sum());
    /// assert_eq!(grad(&y, &x).to_string(), "[9,18]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        let loc = Loc::caller();
        if !is_name(name) {
            return not_a_name(name, &[self], &loc);
        }
        let attrs = Attrs::new().with(CHECKPOINT_NAME, Attr::Str(name.to_owned()));
        let call = Composite { name: "named", attrs, operands: &[self], loc: &loc };
        settle(call.call(&|p| p[0].clone()))
    }
}

fn not_a_name(name: &str, operands: &[&Tensor], loc: &Loc) -> Tensor {
    let help = "use letters, digits, `_`, `.` and `-`, starting with a letter";
    Tensor::refuse(CHECKPOINT, operands, &format!("`{name}` is not a name"), help, loc.clone())
}
