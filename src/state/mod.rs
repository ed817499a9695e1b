//! The values of variables, shared between executables.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use lehr_ir::expr::Variable;
use lehr_ir::{Array, Type};
use rustc_hash::FxHashMap;

use crate::error::{Error, Result};
use crate::function::key;
use crate::inputs::type_of;
use crate::tensor::Tensor;
use crate::tree::{self, Tree};

mod file;
mod value;

pub use file::StateError;
pub(crate) use value::Value;

/// The values of variables. Clones share them: several executables train, evaluate, predict and save over one state.
///
/// A variable enters with its initial value when the first executable that uses it is made, under the name that its function
/// knows it by. Programs without updates run at the same time; one with updates runs alone.
#[derive(Clone, Default)]
pub struct State(Arc<RwLock<Inner>>);

#[derive(Default)]
struct Inner {
    variables: Vec<(Arc<Variable>, String)>,
    values: Vec<Value>,
    by_variable: FxHashMap<usize, usize>,
    by_name: FxHashMap<String, usize>,
}

impl State {
    /// A state without variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// A state that holds the variables of a model, each with its initial value, under the names of their paths.
    pub fn of<T: Tree + ?Sized>(model: &T) -> Self {
        let state = Self::new();
        let mut list = Vec::new();
        for (path, t) in tree::named_leaves(model) {
            if let Some(v) = t.as_variable() {
                list.push((Arc::clone(v), if path.is_empty() { v.name.clone() } else { path }));
            }
        }
        state.slots(&list);
        state
    }

    /// The names of the variables, in the order they came.
    pub fn names(&self) -> Vec<String> {
        self.inner(|s| s.variables.iter().map(|(_, n)| n.clone()).collect())
    }

    /// The value of the variable of a name.
    ///
    /// # Errors
    /// [`StateError::Unknown`].
    pub fn get(&self, name: &str) -> Result<Array> {
        self.inner(|s| s.values[s.find(name)?].host().cloned())
    }

    /// The value of a variable; its initial one if the state does not hold it.
    ///
    /// # Errors
    /// [`StateError::NoVariable`] for a tensor that reads none.
    pub fn value(&self, variable: &Tensor) -> Result<Array> {
        let Some(v) = variable.as_variable() else { return Err(StateError::NoVariable.into()) };
        self.inner(|s| {
            s.by_variable.get(&key(v)).map_or_else(|| Ok(v.initial.clone()), |&i| s.values[i].host().cloned())
        })
    }

    /// Sets the variable of a name.
    ///
    /// # Errors
    /// [`StateError::Unknown`]; [`StateError::Type`] for an array of another dtype or shape.
    pub fn set(&self, name: &str, value: impl Into<Array>) -> Result<()> {
        let value = value.into();
        self.inner_mut(|s| {
            let i = s.find(name)?;
            s.check(i, &value)?;
            s.values[i] = value.into();
            Ok(())
        })
    }

    /// Gives every variable its initial value again.
    pub fn reset(&self) {
        self.inner_mut(|s| {
            for (value, (v, _)) in s.values.iter_mut().zip(&s.variables) {
                *value = v.initial.clone().into();
            }
        });
    }

    /// Another state with the same values, which later calls do not change. Arrays are shared until written.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let copy = self.inner(|s| Inner {
            variables: s.variables.clone(),
            values: s.values.clone(),
            by_variable: s.by_variable.clone(),
            by_name: s.by_name.clone(),
        });
        Self(Arc::new(RwLock::new(copy)))
    }

    /// Writes all variables to a safetensors file.
    ///
    /// # Errors
    /// [`StateError::DType`] for a complex `c128` variable, which the format has no spelling for; a file that cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let all = self.inner(|s| {
            let named = s.variables.iter().zip(&s.values);
            named.map(|((_, name), value)| Ok((name.clone(), value.host()?.clone()))).collect::<Result<Vec<_>>>()
        })?;
        file::save(path.as_ref(), all)
    }

    /// Writes the variables of a model to a safetensors file.
    ///
    /// # Errors
    /// As [`State::save`].
    pub fn save_model<T: Tree + ?Sized>(&self, model: &T, path: impl AsRef<Path>) -> Result<()> {
        let mut all: Vec<(String, Array)> = Vec::new();
        for (name, t) in model_variables(model) {
            all.push((name, self.value(&t)?));
        }
        file::save(path.as_ref(), all)
    }

    /// Sets all variables from a safetensors file, which must hold exactly these, with these dtypes and shapes.
    ///
    /// # Errors
    /// A file that cannot be read, is malformed, or holds other variables; then no variable changes.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let found = file::load(path)?;
        self.inner_mut(|s| {
            let targets: Vec<(String, usize)> = s.variables.iter().map(|(_, n)| n.clone()).zip(0..).collect();
            s.fill(path, found, &targets)
        })
    }

    /// Sets the variables of a model from a safetensors file, which must hold exactly these, with these dtypes and shapes.
    ///
    /// # Errors
    /// As [`State::load`].
    pub fn load_model<T: Tree + ?Sized>(&self, model: &T, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let found = file::load(path)?;
        let wanted = model_variables(model);
        let list: Vec<(Arc<Variable>, String)> =
            wanted.iter().filter_map(|(n, t)| Some((Arc::clone(t.as_variable()?), n.clone()))).collect();
        let slots = self.slots(&list);
        let targets: Vec<(String, usize)> = list.into_iter().map(|(_, n)| n).zip(slots).collect();
        self.inner_mut(|s| s.fill(path, found, &targets))
    }

    /// Where the variables are; those that are new enter with their initial values.
    pub(crate) fn slots(&self, variables: &[(Arc<Variable>, String)]) -> Vec<usize> {
        self.inner_mut(|s| variables.iter().map(|(v, name)| s.slot(v, name)).collect())
    }

    /// Runs `f` on the values, at the same time as other readers.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&[Value]) -> R) -> R {
        self.inner(|s| f(&s.values))
    }

    /// Runs `f` on the values alone.
    pub(crate) fn write<R>(&self, f: impl FnOnce(&mut [Value]) -> R) -> R {
        self.inner_mut(|s| f(&mut s.values))
    }

    fn inner<R>(&self, f: impl FnOnce(&Inner) -> R) -> R {
        // Values are replaced whole, so that a panic elsewhere leaves nothing half done.
        f(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn inner_mut<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        f(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn slot(&mut self, v: &Arc<Variable>, wish: &str) -> usize {
        if let Some(&i) = self.by_variable.get(&key(v)) {
            return i;
        }
        let i = self.values.len();
        let mut name = wish.to_owned();
        let mut n = 1;
        while self.by_name.contains_key(&name) {
            name = format!("{wish}_{n}");
            n += 1;
        }
        self.by_variable.insert(key(v), i);
        self.by_name.insert(name.clone(), i);
        self.variables.push((Arc::clone(v), name));
        self.values.push(v.initial.clone().into());
        i
    }

    fn find(&self, name: &str) -> Result<usize, StateError> {
        self.by_name.get(name).copied().ok_or_else(|| {
            let known = self.variables.iter().map(|(_, n)| n.as_str());
            let near = crate::error::nearest(name, known.clone()).map(str::to_owned);
            StateError::Unknown { name: name.to_owned(), near, known: known.map(str::to_owned).collect() }
        })
    }

    fn check(&self, i: usize, value: &Array) -> Result<(), StateError> {
        let (v, name) = &self.variables[i];
        let got: Type = type_of(value);
        if got == v.ty {
            return Ok(());
        }
        Err(StateError::Type { name: name.clone(), ty: Box::new(v.ty.clone()), got: Box::new(got) })
    }

    /// Sets variables from what a file holds, all or none.
    fn fill(&mut self, path: &Path, found: Vec<(String, Array)>, targets: &[(String, usize)]) -> Result<()> {
        let mut found: FxHashMap<String, Array> = found.into_iter().collect();
        let in_file = |e: StateError| Error::from(StateError::File { path: path.to_owned(), source: Box::new(e) });
        let mut values = Vec::with_capacity(targets.len());
        for (name, i) in targets {
            let Some(value) = found.remove(name) else {
                return Err(in_file(StateError::Missing { name: name.clone() }));
            };
            self.check(*i, &value).map_err(in_file)?;
            values.push((*i, value));
        }
        if let Some(name) = found.into_keys().min() {
            let near = crate::error::nearest(&name, targets.iter().map(|(n, _)| n.as_str())).map(str::to_owned);
            let known = targets.iter().map(|(n, _)| n.clone()).collect();
            return Err(in_file(StateError::Unknown { name, near, known }));
        }
        for (i, value) in values {
            self.values[i] = value.into();
        }
        Ok(())
    }
}

/// The variables of a model, each with its path name.
fn model_variables<T: Tree + ?Sized>(model: &T) -> Vec<(String, Tensor)> {
    let mut out: Vec<(String, Tensor)> = Vec::new();
    for (path, t) in tree::named_leaves(model) {
        let Some(v) = t.as_variable() else { continue };
        // A weight that stands in two places is written once, under its first name.
        if out.iter().all(|(_, known)| known.as_variable().is_none_or(|k| !Arc::ptr_eq(k, v))) {
            out.push((if path.is_empty() { v.name.clone() } else { path }, t));
        }
    }
    out
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner(|s| {
            let mut map = f.debug_map();
            for (v, name) in &s.variables {
                map.entry(name, &format_args!("{}", v.ty));
            }
            map.finish()
        })
    }
}
