//! The lines that two texts do not share.
//!
//! Lines that are unique in both texts are matched where their order agrees (the longest increasing sequence, as in patience
//! diff), and runs of equal lines next to a match are matched with it; what is left between is compared line by line where it is
//! short. That is all a graph's text needs, where almost every line defines a value of its own, and it takes O(n log n).

use rustc_hash::FxHashMap;

use super::Change;

/// What changed from one text to the other, in the order of the lines; removals come before what replaces them.
pub(super) fn diff(before: &str, after: &str) -> Vec<Change> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let matched = matches(&old, &new);
    let mut changes = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (to_i, to_j) in matched.into_iter().chain([(old.len(), new.len())]) {
        changes.extend(old[i..to_i].iter().map(|l| Change::Removed((*l).to_owned())));
        changes.extend(new[j..to_j].iter().map(|l| Change::Added((*l).to_owned())));
        (i, j) = (to_i + 1, to_j + 1);
    }
    changes
}

/// Pairs of positions of equal lines, ascending in both.
fn matches(old: &[&str], new: &[&str]) -> Vec<(usize, usize)> {
    let anchors = longest_increasing(&unique_pairs(old, new));
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (to_i, to_j) in anchors.into_iter().chain([(old.len(), new.len())]) {
        // Equal lines after the match before, then equal lines before this one.
        while i < to_i && j < to_j && old[i] == new[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        }
        let mut n = 0;
        while n < to_i - i && n < to_j - j && old[to_i - 1 - n] == new[to_j - 1 - n] {
            n += 1;
        }
        let between = common(&old[i..to_i - n], &new[j..to_j - n]);
        pairs.extend(between.into_iter().map(|(a, b)| (i + a, j + b)));
        pairs.extend((0..n).rev().map(|k| (to_i - 1 - k, to_j - 1 - k)));
        if to_i < old.len() && to_j < new.len() {
            pairs.push((to_i, to_j));
        }
        (i, j) = (to_i + 1, to_j + 1);
    }
    pairs
}

/// The most pairs of lines that are compared one by one between two matches.
const MOST_COMPARED: usize = 1 << 14;

/// A longest common subsequence of a few lines; nothing for many.
fn common(old: &[&str], new: &[&str]) -> Vec<(usize, usize)> {
    if old.len().saturating_mul(new.len()) > MOST_COMPARED {
        return Vec::new();
    }
    // How many lines the rests from here have in common.
    let width = new.len() + 1;
    let mut best = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            best[i * width + j] = if old[i] == new[j] {
                best[(i + 1) * width + j + 1] + 1
            } else {
                best[(i + 1) * width + j].max(best[i * width + j + 1])
            };
        }
    }
    let mut pairs = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() && j < new.len() {
        if old[i] == new[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if best[(i + 1) * width + j] >= best[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

/// The positions of lines that are once in each text, in the order of the first.
fn unique_pairs(old: &[&str], new: &[&str]) -> Vec<(usize, usize)> {
    let places = |lines: &[&str]| {
        let mut places: FxHashMap<String, Option<usize>> = FxHashMap::default();
        for (i, line) in lines.iter().enumerate() {
            places.entry((*line).to_owned()).and_modify(|p| *p = None).or_insert(Some(i));
        }
        places
    };
    let (in_old, in_new) = (places(old), places(new));
    let once = |places: &FxHashMap<String, Option<usize>>, line: &str| places.get(line).copied().flatten();
    let pairs = old.iter().filter_map(|line| Some((once(&in_old, line)?, once(&in_new, line)?)));
    pairs.collect()
}

/// A longest choice of pairs whose second parts ascend, as the first do.
fn longest_increasing(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // The last pair of the best chain of each length, and for each pair the one before it in its chain.
    let mut ends: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (at, pair) in pairs.iter().enumerate() {
        let length = ends.partition_point(|&end| pairs[end].1 < pair.1);
        previous.push(length.checked_sub(1).map(|l| ends[l]));
        if length == ends.len() {
            ends.push(at);
        } else {
            ends[length] = at;
        }
    }
    let mut chain = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied();
    while let Some(i) = at {
        chain.push(pairs[i]);
        at = previous[i];
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expect` spells removed lines `-x` and added lines `+x`; letters stand for lines.
    fn check(before: &str, after: &str, expect: &str) {
        let lines = |s: &str| s.chars().map(|c| format!("{c}\n")).collect::<String>();
        let spelled: String = diff(&lines(before), &lines(after))
            .into_iter()
            .map(|c| match c {
                Change::Removed(l) => format!("-{l}"),
                Change::Added(l) => format!("+{l}"),
            })
            .collect();
        assert_eq!(spelled, expect, "{before} to {after}");
    }

    #[test]
    fn lines_that_stay_are_not_shown() {
        check("abc", "abc", "");
        check("abc", "axc", "-b+x");
        check("abc", "ac", "-b");
        check("", "ab", "+a+b");
        check("ab", "", "-a-b");
        check("abcd", "bd", "-a-c");
    }

    #[test]
    fn repeated_lines_go_with_their_neighbours() {
        check("a}b}", "a}c}", "-b+c");
        check("}}", "}}}", "+}");
        check("x}}y", "x}y", "-}");
        check("a}b}c", "d}e}f", "-a+d-b+e-c+f");
    }

    #[test]
    fn moved_lines_are_removed_and_added() {
        check("abcd", "bcda", "-a+a");
        check("abc", "cba", "-a-b+b+a");
    }

    #[test]
    fn applying_a_diff_gives_the_other_text() {
        let (mut seed, letters) = (7u32, "abcdef}}");
        let mut text = |n: usize| -> String {
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                letters.as_bytes()[(seed >> 24) as usize % letters.len()] as char
            };
            (0..n).map(|_| format!("{}\n", next())).collect()
        };
        for n in 0..60 {
            let (before, after) = (text(n % 13), text(n % 7));
            let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
            let pairs = matches(&old, &new);
            assert!(pairs.iter().all(|&(i, j)| old[i] == new[j]), "{before}{after}");
            assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1), "{before}{after}");
            assert_eq!(diff(&before, &after).len(), old.len() + new.len() - 2 * pairs.len());
        }
    }
}
