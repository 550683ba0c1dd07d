//! Many like pieces are worked on by all cores; a few are not worth a thread.

/// From so many pieces on, other cores take part.
const PIECES_MIN: usize = 64;

/// Does the same to every piece and gives the answers in order, or the first error in that order.
///
/// Work on few pieces stays in the caller's thread, so what it does there has a fixed order.
pub fn on_all<T: Sync, R: Send, E: Send>(
    pieces: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if pieces.len() < PIECES_MIN || cores == 1 {
        return pieces.iter().map(work).collect();
    }
    let work = &work;
    std::thread::scope(|scope| {
        let parts: Vec<_> = pieces
            .chunks(pieces.len().div_ceil(cores))
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Result<Vec<_>, E>>()))
            .collect();
        let mut done = Vec::with_capacity(pieces.len());
        for part in parts {
            match part.join() {
                Ok(part) => done.extend(part?),
                // As if it had happened in this thread.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(done)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order_and_the_first_error_counts() {
        let pieces: Vec<usize> = (0..1000).collect();
        let doubled = on_all(&pieces, |it| Ok::<_, usize>(it * 2)).unwrap();
        assert!(doubled.iter().enumerate().all(|(n, it)| *it == n * 2));
        let odd = on_all(&pieces, |it| if *it > 700 || *it == 300 { Err(*it) } else { Ok(()) });
        assert_eq!(odd, Err(300));
    }
}
