//! The structures of the standard library as trees: references, lists, options, maps, tuples, and what has no leaves.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::hash::{BuildHasher, Hash};

use super::{Path, Tree};
use crate::tensor::Tensor;

type Visit<'a> = dyn FnMut(&Path, &Tensor) + 'a;
type Map<'a, L> = dyn FnMut(&Path, &Tensor) -> L + 'a;

impl<T: Tree + ?Sized> Tree for &T {
    type Mapped = T::Mapped;
    type Each<L> = T::Each<L>;

    fn visit(&self, path: &mut Path, f: &mut Visit<'_>) {
        (**self).visit(path, f);
    }

    fn map(&self, path: &mut Path, f: &mut Map<'_, Tensor>) -> T::Mapped {
        (**self).map(path, f)
    }

    fn each<L>(&self, path: &mut Path, f: &mut Map<'_, L>) -> T::Each<L> {
        (**self).each(path, f)
    }
}

impl<T: Tree + ?Sized> Tree for Box<T> {
    type Mapped = Box<T::Mapped>;
    type Each<L> = Box<T::Each<L>>;

    fn visit(&self, path: &mut Path, f: &mut Visit<'_>) {
        (**self).visit(path, f);
    }

    fn map(&self, path: &mut Path, f: &mut Map<'_, Tensor>) -> Box<T::Mapped> {
        Box::new((**self).map(path, f))
    }

    fn each<L>(&self, path: &mut Path, f: &mut Map<'_, L>) -> Box<T::Each<L>> {
        Box::new((**self).each(path, f))
    }
}

impl<T: Tree> Tree for [T] {
    type Mapped = Vec<T::Mapped>;
    type Each<L> = Vec<T::Each<L>>;

    fn visit(&self, path: &mut Path, f: &mut Visit<'_>) {
        for (i, t) in self.iter().enumerate() {
            path.within_index(i, |path| t.visit(path, f));
        }
    }

    fn map(&self, path: &mut Path, f: &mut Map<'_, Tensor>) -> Vec<T::Mapped> {
        self.iter().enumerate().map(|(i, t)| path.within_index(i, |path| t.map(path, f))).collect()
    }

    fn each<L>(&self, path: &mut Path, f: &mut Map<'_, L>) -> Vec<T::Each<L>> {
        self.iter().enumerate().map(|(i, t)| path.within_index(i, |path| t.each(path, f))).collect()
    }
}

impl<T: Tree> Tree for Vec<T> {
    type Mapped = Vec<T::Mapped>;
    type Each<L> = Vec<T::Each<L>>;

    fn visit(&self, path: &mut Path, f: &mut Visit<'_>) {
        self.as_slice().visit(path, f);
    }

    fn map(&self, path: &mut Path, f: &mut Map<'_, Tensor>) -> Vec<T::Mapped> {
        self.as_slice().map(path, f)
    }

    fn each<L>(&self, path: &mut Path, f: &mut Map<'_, L>) -> Vec<T::Each<L>> {
        self.as_slice().each(path, f)
    }
}

impl<T: Tree, const N: usize> Tree for [T; N] {
    type Mapped = [T::Mapped; N];
    type Each<L> = [T::Each<L>; N];

    fn visit(&self, path: &mut Path, f: &mut Visit<'_>) {
        self.as_slice().visit(path, f);
    }

    fn map(&self, path: &mut Path, f: &mut Map<'_, Tensor>) -> [T::Mapped; N] {
        std::array::from_fn(|i| path.within_index(i, |path| self[i].map(path, f)))
    }

    fn each<L>(&self, path: &mut Path, f: &mut Map<'_, L>) -> [T::Each<L>; N] {
        std::array::from_fn(|i| path.within_index(i, |path| self[i].each(path, f)))
    }
}

impl<T: Tree> Tree for Option<T> {
    type Mapped = Option<T::Mapped>;
    type Each<L> = Option<T::Each<L>>;

    fn visit(&self, path: &mut Path, f: &mut Visit<'_>) {
        if let Some(t) = self {
            t.visit(path, f);
        }
    }

    fn map(&self, path: &mut Path, f: &mut Map<'_, Tensor>) -> Option<T::Mapped> {
        self.as_ref().map(|t| t.map(path, f))
    }

    fn each<L>(&self, path: &mut Path, f: &mut Map<'_, L>) -> Option<T::Each<L>> {
        self.as_ref().map(|t| t.each(path, f))
    }
}

impl<K: Ord + Clone + Display, T: Tree> Tree for BTreeMap<K, T> {
    type Mapped = BTreeMap<K, T::Mapped>;
    type Each<L> = BTreeMap<K, T::Each<L>>;

    fn visit(&self, path: &mut Path, f: &mut Visit<'_>) {
        for (key, t) in self {
            path.within(&key.to_string(), |path| t.visit(path, f));
        }
    }

    fn map(&self, path: &mut Path, f: &mut Map<'_, Tensor>) -> Self::Mapped {
        self.iter().map(|(key, t)| (key.clone(), path.within(&key.to_string(), |path| t.map(path, f)))).collect()
    }

    fn each<L>(&self, path: &mut Path, f: &mut Map<'_, L>) -> Self::Each<L> {
        self.iter().map(|(key, t)| (key.clone(), path.within(&key.to_string(), |path| t.each(path, f)))).collect()
    }
}

/// The leaves come in the order of the keys, so that two runs of a program agree.
impl<K: Ord + Hash + Clone + Display, T: Tree, S: BuildHasher + Default> Tree for HashMap<K, T, S> {
    type Mapped = HashMap<K, T::Mapped, S>;
    type Each<L> = HashMap<K, T::Each<L>, S>;

    fn visit(&self, path: &mut Path, f: &mut Visit<'_>) {
        for (key, t) in sorted(self) {
            path.within(&key.to_string(), |path| t.visit(path, f));
        }
    }

    fn map(&self, path: &mut Path, f: &mut Map<'_, Tensor>) -> Self::Mapped {
        let of = |(key, t): (&K, &T)| (key.clone(), path.within(&key.to_string(), |path| t.map(path, f)));
        sorted(self).into_iter().map(of).collect()
    }

    fn each<L>(&self, path: &mut Path, f: &mut Map<'_, L>) -> Self::Each<L> {
        let of = |(key, t): (&K, &T)| (key.clone(), path.within(&key.to_string(), |path| t.each(path, f)));
        sorted(self).into_iter().map(of).collect()
    }
}

fn sorted<K: Ord, T, S>(map: &HashMap<K, T, S>) -> Vec<(&K, &T)> {
    let mut all: Vec<(&K, &T)> = map.iter().collect();
    all.sort_by(|a, b| a.0.cmp(b.0));
    all
}

macro_rules! leafless {
    ($($ty:ty),*) => { $(
        impl Tree for $ty {
            type Mapped = Self;
            type Each<L> = Self;

            fn visit(&self, _: &mut Path, _: &mut Visit<'_>) {}

            fn map(&self, _: &mut Path, _: &mut Map<'_, Tensor>) -> Self {
                self.clone()
            }

            fn each<L>(&self, _: &mut Path, _: &mut Map<'_, L>) -> Self {
                self.clone()
            }
        }
    )* };
}

leafless!((), bool, char, i8, i16, i32, i64, u8, u16, u32, u64, usize, isize, f32, f64);
leafless!(String, &'static str, crate::DType, crate::random::Key);

macro_rules! tuples {
    ($(($($T:ident $i:tt),+))*) => { $(
        impl<$($T: Tree),+> Tree for ($($T,)+) {
            type Mapped = ($($T::Mapped,)+);
            type Each<Leaf> = ($($T::Each<Leaf>,)+);

            fn visit(&self, path: &mut Path, f: &mut Visit<'_>) {
                $(path.within_index($i, |path| self.$i.visit(path, f));)+
            }

            fn map(&self, path: &mut Path, f: &mut Map<'_, Tensor>) -> Self::Mapped {
                ($(path.within_index($i, |path| self.$i.map(path, f)),)+)
            }

            fn each<Leaf>(&self, path: &mut Path, f: &mut Map<'_, Leaf>) -> Self::Each<Leaf> {
                ($(path.within_index($i, |path| self.$i.each(path, f)),)+)
            }
        }
    )* };
}

tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}
