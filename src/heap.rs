//! What a flood took from the kernel goes back to it.
//!
//! The allocator keeps what was freed between things that live on, which after thousands of drops is
//! several times what is in use; nothing else would ever give it back.
//! What is large comes from the kernel by itself and goes back to it alone, as long as the allocator is
//! told what is large: left to itself it takes the largest thing that was ever freed for small, and the
//! trees and packs of a flood then lie between the records.

/// What is at least so large comes from the kernel by itself, in bytes.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: libc::c_int = 64 << 10;
/// So many heaps for all threads: each keeps what its own threads freed.
#[cfg(target_env = "gnu")]
const HEAPS_MAX: libc::c_int = 2;

/// Tells the allocator how to keep house; to be called before any thread is started.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    for (option, value) in [(libc::M_MMAP_THRESHOLD, LARGE_BYTES), (libc::M_ARENA_MAX, HEAPS_MAX)] {
        // SAFETY: sets a number of the allocator and touches no memory of ours.
        let taken = unsafe { libc::mallopt(option, value) };
        debug_assert!(taken == 1, "the allocator does not know option {option}");
    }
}

/// Hands pages that hold nothing to the kernel. It costs a walk over what is free, so it is for
/// moments after much was freed.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks and moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
