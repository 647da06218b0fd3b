//! A shorter run that still fails. Pure: what a run is, and whether it fails, is the
//! caller's business.

/// Leaves out of `all` what need not be there for `fails` to say yes, in parts that become
/// smaller (delta debugging: Zeller and Hildebrandt, 2002). Tries at most `tries` times.
///
/// What comes out has failed, or is all of it. Where failing is a matter of luck, `fails`
/// should try more than once.
pub fn shrink<T: Clone>(all: Vec<T>, tries: usize, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut left = all;
    let mut parts = 2;
    let mut tried = 0;
    while left.len() > 1 && tried < tries {
        let size = left.len().div_ceil(parts);
        // One part on its own is the greatest step; all but one of them the usual one.
        let alone = (0..left.len()).step_by(size).map(|from| {
            let to = (from + size).min(left.len());
            left[from..to].to_vec()
        });
        let without = (0..left.len()).step_by(size).map(|from| {
            let to = (from + size).min(left.len());
            [&left[..from], &left[to..]].concat()
        });
        let smaller = alone.chain(without).find(|candidate| {
            let try_it = !candidate.is_empty() && candidate.len() < left.len() && tried < tries;
            tried += usize::from(try_it);
            try_it && fails(candidate)
        });
        match smaller {
            Some(smaller) => {
                parts = 2.max(parts - 1).min(smaller.len());
                left = smaller;
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(left.len()),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_it_takes_is_left() {
        for needed in [
            vec![7],
            vec![3, 500],
            vec![0, 1, 998, 999],
            vec![100, 200, 300],
        ] {
            let fails = |some: &[i32]| needed.iter().all(|one| some.contains(one));
            let left = shrink((0..1_000).collect(), 10_000, fails);
            assert_eq!(left, needed);
        }
    }

    #[test]
    fn it_ends_after_so_many_tries_with_something_that_failed() {
        let mut count = 0;
        let left = shrink((0..1_000).collect(), 25, |some: &[i32]| {
            count += 1;
            some.contains(&3) && some.contains(&997)
        });
        assert!(count <= 25, "{count}");
        assert!(left.contains(&3) && left.contains(&997) && left.len() < 1_000);
    }

    #[test]
    fn what_never_fails_again_stays_as_it_is() {
        let all: Vec<i32> = (0..50).collect();
        assert_eq!(shrink(all.clone(), 1_000, |_| false), all);
    }
}
