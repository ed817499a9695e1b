//! Batches: how a data set is dealt out, epoch by epoch.

use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use lehr_ir::Array;

use super::{Dataset, permutation, take_rows};
use crate::inputs::{Feed, Inputs};
use crate::random::Key;

/// How a data set is dealt out: iterate over it.
#[derive(Clone, Debug)]
#[must_use = "a loader does nothing until it is iterated over"]
pub struct Loader {
    data: Dataset,
    size: usize,
    order: Option<Key>,
    epochs: usize,
    drop_last: bool,
    progress: bool,
}

impl Loader {
    pub(super) fn new(data: Dataset) -> Self {
        let size = data.len().max(1);
        Self { data, size, order: None, epochs: 1, drop_last: false, progress: false }
    }

    /// So many examples in a batch (at least 1); the last of an epoch has what is left.
    pub fn batch(mut self, size: usize) -> Self {
        self.size = size.max(1);
        self
    }

    /// Another order each epoch, determined by the seed.
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.order = Some(Key::new(seed));
        self
    }

    /// So many passes over the data.
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.epochs = epochs;
        self
    }

    /// Leaves out a last batch that is not full.
    pub fn drop_last(mut self) -> Self {
        self.drop_last = true;
        self
    }

    /// Shows a progress bar on the terminal, with examples a second and what [`Batch::note`] says.
    pub fn progress(mut self) -> Self {
        self.progress = true;
        self
    }
}

impl IntoIterator for Loader {
    type Item = Batch;
    type IntoIter = Batches;

    fn into_iter(self) -> Batches {
        let rows = self.data.len();
        let per_epoch = if self.drop_last { rows / self.size * self.size } else { rows };
        let bar = self.progress.then(|| {
            let bar = ProgressBar::new((per_epoch * self.epochs) as u64);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {per_sec:>14} {msg}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar
        });
        Batches { loader: self, rows: per_epoch, epoch: 0, at: 0, order: None, bar }
    }
}

/// The batches of a [`Loader`], in order.
#[derive(Debug)]
pub struct Batches {
    loader: Loader,
    /// The examples dealt out in an epoch.
    rows: usize,
    epoch: usize,
    at: usize,
    order: Option<Vec<usize>>,
    bar: Option<ProgressBar>,
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.at >= self.rows {
            self.epoch += 1;
            self.at = 0;
            self.order = None;
        }
        if self.epoch >= self.loader.epochs || self.rows == 0 {
            if let Some(bar) = self.bar.take() {
                bar.finish();
            }
            return None;
        }
        let data = &self.loader.data;
        let order = self.order.get_or_insert_with(|| match self.loader.order {
            Some(key) => permutation(data.len(), key.fold_in(self.epoch as u32)),
            None => (0..data.len()).collect(),
        });
        let rows = &order[self.at..(self.at + self.loader.size).min(self.rows)];
        self.at += rows.len();
        let columns = data.columns.iter().map(|(n, a)| (Arc::clone(n), take_rows(a, rows))).collect();
        if let Some(bar) = &self.bar {
            bar.inc(rows.len() as u64);
        }
        Some(Batch { epoch: self.epoch, bar: self.bar.clone(), ..Batch::new(columns, rows.len()) })
    }
}

/// A batch of examples, which executables take as inputs: each column that they have an input for.
#[derive(Clone, Debug)]
pub struct Batch {
    columns: Vec<(Arc<str>, Array)>,
    rows: usize,
    epoch: usize,
    bar: Option<ProgressBar>,
}

impl Batch {
    pub(super) fn new(columns: Vec<(Arc<str>, Array)>, rows: usize) -> Self {
        Self { columns, rows, epoch: 0, bar: None }
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The pass over the data that it belongs to, from 0.
    pub fn epoch(&self) -> usize {
        self.epoch
    }

    /// The array of a column, if there is one.
    pub fn column(&self, name: &str) -> Option<&Array> {
        self.columns.iter().find(|(n, _)| &**n == name).map(|(_, a)| a)
    }

    /// Shows a text after the progress bar, if there is one.
    pub fn note(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }
}

impl Inputs for &Batch {
    fn feed(self, feed: &mut Feed<'_>) {
        for (name, array) in &self.columns {
            if feed.wants(name) {
                feed.named(name, array.clone());
            }
        }
    }
}

impl Inputs for Batch {
    fn feed(self, feed: &mut Feed<'_>) {
        (&self).feed(feed);
    }
}
