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

/// Tells the allocator how to keep house, where its own variables in the environment do not; to be
/// called before any thread is started.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    for (option, value, by_hand) in [
        (libc::M_MMAP_THRESHOLD, LARGE_BYTES, "MALLOC_MMAP_THRESHOLD_"),
        (libc::M_ARENA_MAX, HEAPS_MAX, "MALLOC_ARENA_MAX"),
    ] {
        // Who runs the agent knows the machine: under a limit of the address space a second heap
        // takes 64 MiB of it, used or not.
        if std::env::var_os(by_hand).is_some() {
            continue;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Says whether a block came from the kernel by itself, as the allocator notes before it.
    #[cfg(target_env = "gnu")]
    fn is_alone(block: &[u8]) -> bool {
        const IS_MAPPED: usize = 2;
        // SAFETY: the word before a block of glibc's holds its size, and flags in the lowest bits.
        let size = unsafe { block.as_ptr().cast::<usize>().sub(1).read() };
        size & IS_MAPPED != 0
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_is_large_stays_alone_however_often_it_was_freed() {
        keep_small();
        for _ in 0..3 {
            assert!(is_alone(&vec![1; 1 << 20]));
        }
        assert!(!is_alone(&vec![1; 1 << 10]));
    }
}
