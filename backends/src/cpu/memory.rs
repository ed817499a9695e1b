//! Aligned memory for temporaries and scratch.

use super::pages;

/// Bytes that start at a multiple of this, one cache line.
const LINE: usize = 64;

/// Bytes that start at a multiple of 64; they grow on demand and are then kept.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    /// Room for one line more than asked for, since an allocation of another alignment would be zeroed by hand: this one comes
    /// as fresh pages, which nobody touches before they are used.
    bytes: Vec<u8>,
    /// Where the first line starts.
    start: usize,
    len: usize,
}

impl Aligned {
    /// Makes room for so many bytes; says whether the bytes moved.
    pub(super) fn reserve(&mut self, bytes: usize) -> bool {
        if bytes <= self.len {
            return false;
        }
        // What was there is of no use, so that it is not copied.
        self.bytes = Vec::new();
        let len = bytes.next_multiple_of(LINE);
        self.bytes = vec![0; len + LINE];
        pages::prefer_huge_pages(self.bytes.as_ptr(), self.bytes.len());
        self.start = self.bytes.as_ptr().align_offset(LINE);
        self.len = len;
        true
    }

    /// Where the bytes start.
    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr().wrapping_add(self.start)
    }

    /// Bytes of room.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}
