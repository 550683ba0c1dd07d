//! What a flood took from the kernel goes back to it.
//!
//! The allocator keeps what was freed between things that live on, which after thousands of drops is
//! several times what is in use; nothing else would ever give it back.

/// Hands pages that hold nothing to the kernel. It costs a walk over what is free, so it is for
/// moments after much was freed.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks and moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
