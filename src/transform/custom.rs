//! Functions with a derivative of their own.

use std::fmt;
use std::marker::PhantomData;

use lehr_ir::attrs::{Attr, Attrs};
use lehr_ir::loc::Loc;
use lehr_ir::ops::{CAPTURED, Call, Vjp};

use crate::closure::{apply_all, captured, depends, is_inexact, numbered, placeholders, region};
use crate::scope;
use crate::tensor::{Tensor, sound};
use crate::tree::{self, Tree};

/// A function of trees with a derivative of its own, for both modes.
///
/// `rule` gives the results and their tangents, from inputs and their tangents, and must be linear in the tangents: reverse mode
/// transposes it. A second derivative differentiates the rule. An input that is no float has a tangent of zeros.
/// The name is what dumps and errors call the function.
/// # Errors
/// Found by [`CustomJvp::call`]: a rule that gives other types than the function. Found by a derivative: a rule that is not linear
/// in its tangents, or a derivative by a tensor that the function captures, of which the rule says nothing.
/// ```
/// use lehr::prelude::*;
/// // log(1 + exp(x)), whose derivative overflows if it is taken step by step.
/// let log1pexp = custom_jvp(
///     "log1pexp",
///     |x: &Tensor| x.exp().log1p(),
///     |x: &Tensor, t: &Tensor| (x.exp().log1p(), t * x.sigmoid()),
/// );
/// let x = Tensor::from(100.0f32);
/// assert_eq!(grad(&log1pexp.call(&x), &x).to_string(), "1");
/// ```
pub fn custom_jvp<I, O, F, R>(name: &str, f: F, rule: R) -> CustomJvp<I, O, F, R>
where
    F: Fn(&I) -> O,
    R: Fn(&I, &I) -> (O, O),
{
    CustomJvp { name: name.to_owned(), f, rule, of: PhantomData }
}

/// A function with a derivative in reverse mode of its own.
///
/// `forward` gives the results and residuals, any tree; `backward` gives the inputs' cotangents from the residuals and the results'
/// cotangents. Reverse mode uses exactly these, whatever the function computes: gradients can be clipped, scaled or reversed.
/// A second derivative differentiates their bodies. The cotangent of a result that is no float is zeros, and that of an input that
/// is no float is not looked at. The name is what dumps and errors call the function.
/// # Errors
/// Found by [`CustomVjp::call`]: graphs that give other types than the function, and cotangents of other types than the inputs.
/// Found by a derivative: forward mode ([`custom_jvp`] serves both), or a derivative by a tensor that the function captures.
/// ```
/// use lehr::prelude::*;
/// let clipped = custom_vjp(
///     "clip_gradient",
///     |x: &Tensor| x.clone(),
///     |x: &Tensor| (x.clone(), ()),
///     |_: &(), ct: &Tensor| ct.clip(-1.0, 1.0),
/// );
/// let x = Tensor::from([0.1f32, 5.0]);
/// assert_eq!(grad(&clipped.call(&x).square().sum(), &x).to_string(), "[0.2,1]");
/// ```
pub fn custom_vjp<I, O, S, F, G, B>(name: &str, f: F, forward: G, backward: B) -> CustomVjp<I, O, S, F, G, B>
where
    F: Fn(&I) -> O,
    G: Fn(&I) -> (O, S),
    B: Fn(&S, &O) -> I,
{
    CustomVjp { name: name.to_owned(), f, forward, backward, of: PhantomData }
}

/// What a function takes and gives, of which a value holds nothing.
type Signature<I, O> = PhantomData<fn(&I) -> O>;

/// A function with a derivative of its own: see [`custom_jvp`].
pub struct CustomJvp<I, O, F, R> {
    name: String,
    f: F,
    rule: R,
    of: Signature<I, O>,
}

/// A function with a derivative in reverse mode of its own: see [`custom_vjp`].
pub struct CustomVjp<I, O, S, F, G, B> {
    name: String,
    f: F,
    forward: G,
    backward: B,
    of: Signature<I, (O, S)>,
}

impl<I, O, F, R> CustomJvp<I, O, F, R>
where
    I: Tree<Mapped = I>,
    O: Tree,
    F: Fn(&I) -> O,
    R: Fn(&I, &I) -> (O, O),
{
    /// What the function gives for inputs.
    ///
    /// # Errors
    /// See [`custom_jvp`]; every result carries the error.
    #[track_caller]
    pub fn call<J: Tree<Mapped = I> + ?Sized>(&self, inputs: &J) -> O::Mapped {
        let cx = Site { op: "custom_jvp", name: &self.name, loc: &Loc::caller() };
        let leaves = tree::leaves(inputs);
        let params = placeholders(&leaves, cx.loc);
        let args = tree::with_leaves(inputs, params.clone());
        let out = scope::outside(|| (self.f)(&args));
        let outs = tree::leaves(&out);
        let made = self.build(&cx, inputs, &leaves, &params, &args, &outs);
        tree::with_leaves(&out, made.unwrap_or_else(|bad| vec![bad; outs.len()]))
    }

    fn build<J: Tree<Mapped = I> + ?Sized>(
        &self,
        cx: &Site<'_>,
        inputs: &J,
        leaves: &[Tensor],
        params: &[Tensor],
        args: &I,
        outs: &[Tensor],
    ) -> Result<Vec<Tensor>, Tensor> {
        cx.sound(leaves, outs)?;
        let tangents = placeholders(leaves, cx.loc);
        let (varying, seen) = varying(&tangents);
        let (values, slopes) = scope::outside(|| (self.rule)(args, &tree::with_leaves(inputs, seen)));
        let (values, slopes) = (tree::leaves(&values), tree::leaves(&slopes));
        cx.agree("result", outs, &values)?;
        cx.agree("tangent", outs, &slopes)?;
        let all: Vec<Tensor> = params.iter().chain(&varying).cloned().collect();
        let mut known = Vec::new();
        captured(outs, params, &mut known);
        captured(&values, &all, &mut known);
        captured(&slopes, &all, &mut known);
        let inner = [numbered("x", params), numbered("c", &known)].concat();
        let body = region(&self.name, &inner, &numbered("y", outs))?;
        let of_known: Vec<Tensor> = known.iter().filter(|t| is_inexact(t)).cloned().collect();
        let of_known = placeholders(&of_known, cx.loc);
        let ruled = [inner, numbered("t", &varying), numbered("u", &of_known)].concat();
        let slopes: Vec<Tensor> = slopes.iter().filter(|t| is_inexact(t)).cloned().collect();
        let results = [numbered("y", &values), numbered("t", &slopes)].concat();
        let jvp = region(&format!("{}.jvp", self.name), &ruled, &results)?;
        let call = Call { jvp: Some(jvp), attrs: attrs(&known), ..Call::new(&*self.name, body) };
        Ok(apply_all(call, &[leaves, &known].concat(), cx.loc))
    }
}

impl<I, O, S, F, G, B> CustomVjp<I, O, S, F, G, B>
where
    I: Tree<Mapped = I>,
    O: Tree<Mapped = O>,
    S: Tree<Mapped = S>,
    F: Fn(&I) -> O,
    G: Fn(&I) -> (O, S),
    B: Fn(&S, &O) -> I,
{
    /// What the function gives for inputs.
    ///
    /// # Errors
    /// See [`custom_vjp`]; every result carries the error.
    #[track_caller]
    pub fn call<J: Tree<Mapped = I> + ?Sized>(&self, inputs: &J) -> O {
        let cx = Site { op: "custom_vjp", name: &self.name, loc: &Loc::caller() };
        let leaves = tree::leaves(inputs);
        let params = placeholders(&leaves, cx.loc);
        let args = tree::with_leaves(inputs, params.clone());
        let out = scope::outside(|| (self.f)(&args));
        let outs = tree::leaves(&out);
        let made = self.build(&cx, &leaves, &params, &args, &outs);
        tree::with_leaves(&out, made.unwrap_or_else(|bad| vec![bad; outs.len()]))
    }

    fn build(
        &self,
        cx: &Site<'_>,
        leaves: &[Tensor],
        params: &[Tensor],
        args: &I,
        outs: &[Tensor],
    ) -> Result<Vec<Tensor>, Tensor> {
        cx.sound(leaves, outs)?;
        let (out, saved) = scope::outside(|| (self.forward)(args));
        let (values, residuals) = (tree::leaves(&out), tree::leaves(&saved));
        cx.agree("result", outs, &values)?;
        cx.sound(&residuals, &[])?;
        // The backward function sees placeholders for all that comes from the forward one.
        let kept = placeholders(&residuals, cx.loc);
        let (cotangents, seen) = varying(&placeholders(&values, cx.loc));
        let found = scope::outside(|| {
            (self.backward)(&tree::with_leaves(&saved, kept.clone()), &tree::with_leaves(&out, seen))
        });
        let found = tree::leaves(&found);
        cx.agree("cotangent", leaves, &found)?;

        let given: Vec<Tensor> = kept.iter().chain(&cotangents).cloned().collect();
        let (mut late, mut known) = (Vec::new(), Vec::new());
        captured(&found, &given, &mut late);
        if let Some(t) = late.iter().find(|t| depends(t, params)) {
            let rule =
                format!("the backward function of `{}` captures a value from inside its forward function", self.name);
            return Err(Tensor::refuse(cx.op, &[t], &rule, "return it among the residuals", cx.loc.clone()));
        }
        let forward: Vec<Tensor> = outs.iter().chain(&values).chain(&residuals).cloned().collect();
        captured(&forward, params, &mut known);
        captured(&late, &[], &mut known);

        let inner = [numbered("x", params), numbered("c", &known)].concat();
        let body = region(&self.name, &inner, &numbered("y", outs))?;
        let saved = [numbered("y", &values), numbered("r", &residuals), numbered("c", &late)].concat();
        let fwd = region(&format!("{}.fwd", self.name), &inner, &saved)?;
        let of = |all: &[Tensor]| all.iter().filter(|t| is_inexact(t)).cloned().collect::<Vec<Tensor>>();
        // What is captured has no cotangent; a derivative by it is refused before this is asked for.
        let none: Vec<Tensor> = of(&known).iter().map(Tensor::zeros_like).collect();
        let inner = [numbered("r", &kept), numbered("c", &late), numbered("ct", &cotangents)].concat();
        let results = [numbered("x", &varying_of(leaves, &found)), numbered("c", &none)].concat();
        let bwd = region(&format!("{}.bwd", self.name), &inner, &results)?;
        let vjp = Some(Vjp { fwd: Some(fwd), bwd });
        let call = Call { vjp, attrs: attrs(&known), ..Call::new(&*self.name, body) };
        Ok(apply_all(call, &[leaves, &known].concat(), cx.loc))
    }
}

impl<I, O, F, R> fmt::Debug for CustomJvp<I, O, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CustomJvp({})", self.name)
    }
}

impl<I, O, S, F, G, B> fmt::Debug for CustomVjp<I, O, S, F, G, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CustomVjp({})", self.name)
    }
}

/// What errors say of a call.
struct Site<'a> {
    op: &'a str,
    name: &'a str,
    loc: &'a Loc,
}

impl Site<'_> {
    fn sound(&self, a: &[Tensor], b: &[Tensor]) -> Result<(), Tensor> {
        sound(&a.iter().chain(b).collect::<Vec<&Tensor>>())
    }

    /// Refuses what a rule gives if it is of another number or type than what it belongs to.
    fn agree(&self, what: &str, of: &[Tensor], given: &[Tensor]) -> Result<(), Tensor> {
        self.sound(of, given)?;
        let refuse = |operands: &[&Tensor], rule: String, help: &str| {
            Err(Tensor::refuse(self.op, operands, &rule, help, self.loc.clone()))
        };
        if of.len() != given.len() {
            let rule = format!("the rule of `{}` gives {} {what}s for {}", self.name, given.len(), of.len());
            return refuse(&[], rule, &format!("give one {what} for each"));
        }
        for (i, (x, t)) in of.iter().zip(given).enumerate() {
            // What does not vary has a tangent or cotangent that nobody looks at.
            if x.0.ty() != t.0.ty() && (what == "result" || is_inexact(x)) {
                let rule =
                    format!("{what} {i} of the rule of `{}` must have the type of what it belongs to", self.name);
                return refuse(&[x, t], rule, "cast, reshape or broadcast it");
            }
        }
        Ok(())
    }
}

/// The placeholders among tangents of floats, and what a rule sees: zeros for what does not vary.
fn varying(all: &[Tensor]) -> (Vec<Tensor>, Vec<Tensor>) {
    let varying = all.iter().filter(|t| is_inexact(t)).cloned().collect();
    let seen = all.iter().map(|t| if is_inexact(t) { t.clone() } else { t.zeros_like() });
    (varying, seen.collect())
}

/// What belongs to the floats among some tensors.
fn varying_of(of: &[Tensor], all: &[Tensor]) -> Vec<Tensor> {
    of.iter().zip(all).filter(|(t, _)| is_inexact(t)).map(|(_, x)| x.clone()).collect()
}

fn attrs(known: &[Tensor]) -> Attrs {
    if known.is_empty() {
        return Attrs::new();
    }
    Attrs::new().with(CAPTURED, Attr::Int(i64::try_from(known.len()).unwrap_or(i64::MAX)))
}
