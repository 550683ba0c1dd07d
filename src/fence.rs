//! Where somebody else's code panics, the panic ends here and is our caller's to tell.
//!
//! Rust prints each panic before anybody can catch it, and a stack trace is no answer to a full
//! disk. Behind the fence a panic goes to the log instead, at its most talkative level.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static FENCED: Cell<bool> = const { Cell::new(false) };
}

/// Does the work, or gives nothing where it panicked. What it worked on is not to be used then.
pub fn around<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    // A thread that is panicking already may not look at hooks; it prints, and is caught all the same.
    if !std::thread::panicking() {
        HOOK.call_once(|| {
            let before = take_hook();
            set_hook(Box::new(move |panic| match FENCED.get() {
                true => tracing::debug!(%panic, "caught a panic of somebody else's code"),
                false => before(panic),
            }));
        });
    }
    let outer = FENCED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    FENCED.set(outer);
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_at_the_fence_even_in_a_thread_that_panics() {
        assert_eq!(around(|| 1), Some(1));
        assert_eq!(around(|| -> u8 { panic!("not ours") }), None);
        assert!(!FENCED.get());
        struct Falls;
        impl Drop for Falls {
            fn drop(&mut self) {
                assert!(around(|| -> u8 { panic!("at the end, too") }).is_none());
            }
        }
        let outer = catch_unwind(|| {
            let _falls = Falls;
            std::panic::resume_unwind(Box::new("ours"));
        });
        assert_eq!(outer.unwrap_err().downcast_ref(), Some(&"ours"));
    }
}
