//! Many like pieces are worked on by all cores, and two long works side by side; a few pieces are not
//! worth a thread.

/// From so many pieces on, other cores take part.
const PIECES_MIN: usize = 64;

/// Says whether so many pieces are worth more than one thread.
pub fn are_many(pieces: usize) -> bool {
    pieces >= PIECES_MIN
}

/// Does the same to every piece and gives the answers in order, or the first error in that order.
///
/// Work on few pieces stays in the caller's thread, so what it does there has a fixed order.
pub fn on_all<T: Sync, R: Send, E: Send>(
    pieces: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if !are_many(pieces.len()) || cores == 1 {
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

/// Does one work over so many pieces beside another, which asks for its answer when it needs it.
///
/// Few pieces are worked on when the answer is asked for, so that what is done has a fixed order.
pub fn beside<A: Send, R>(
    pieces: usize,
    work: impl FnOnce() -> A + Send,
    other: impl FnOnce(Box<dyn FnOnce() -> A + '_>) -> R,
) -> R {
    if !are_many(pieces) {
        return other(Box::new(work));
    }
    std::thread::scope(|scope| {
        let work = scope.spawn(work);
        other(Box::new(move || match work.join() {
            Ok(answer) => answer,
            // As if it had happened in this thread.
            Err(panic) => std::panic::resume_unwind(panic),
        }))
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

    #[test]
    fn a_long_work_is_done_beside_and_a_short_one_when_it_is_asked_for() {
        let (said, heard) = std::sync::mpsc::channel();
        let said_too = said.clone();
        let answer = beside(
            PIECES_MIN,
            move || said_too.send("work").is_ok(),
            |answer| {
                // It has begun, though nobody asked.
                assert_eq!(heard.recv(), Ok("work"));
                answer()
            },
        );
        assert!(answer);
        let answer = beside(
            PIECES_MIN - 1,
            move || said.send("work").is_ok(),
            |answer| {
                assert!(heard.try_recv().is_err());
                answer()
            },
        );
        assert!(answer && heard.recv() == Ok("work"));
    }
}
