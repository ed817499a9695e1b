//! Large pages for large memory.
//!
//! The first touch of each page of fresh memory costs a fault. An array of 64 MiB has 16,384 small pages, which take longer than most
//! kernels over it, and 32 large ones. Systems that give large pages only to those who ask for them are asked.
#![expect(unsafe_code, reason = "advice to the system about memory")]

/// From so many bytes on it pays: so much holds a large page of 2 MiB wherever it starts.
const LARGE: usize = 4 << 20;

/// Asks for large pages for the memory that starts here, if it is large. Nothing happens where the system has none.
pub fn prefer_huge_pages(start: *const u8, bytes: usize) {
    if bytes < LARGE {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        // The advice is about whole pages; those that the memory shares with others at its ends are left out.
        let page = rustix::param::page_size();
        let first = start.align_offset(page);
        let whole = bytes.saturating_sub(first) / page * page;
        let start = start.cast_mut().wrapping_add(first).cast();
        // SAFETY: this advice changes no byte of any memory and unmaps none, whatever the range.
        // A system that refuses it goes on with small pages.
        let _ = unsafe { rustix::mm::madvise(start, whole, rustix::mm::Advice::LinuxHugepage) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = start;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_stay_as_they_are() {
        for n in [0, 1, LARGE - 1, LARGE, 3 * LARGE + 4097] {
            let data: Vec<u8> = (0..n).map(|i| (i % 251) as u8).collect();
            prefer_huge_pages(data.as_ptr(), n);
            assert!(data.iter().enumerate().all(|(i, &b)| b == (i % 251) as u8), "{n}");
        }
    }
}
