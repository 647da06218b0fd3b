//! Reduces a failing run. Pure: the caller defines what a run is and whether it fails.

/// Removes from `all` what is not needed for `fails` to return true, in parts of decreasing size
/// (delta debugging: Zeller and Hildebrandt, 2002), until `fails` returns `None`.
///
/// The result has failed, or is all of it. Where failures are random, `fails` should try more
/// than once.
pub fn shrink<T: Clone>(all: Vec<T>, mut fails: impl FnMut(&[T]) -> Option<bool>) -> Vec<T> {
    let mut left = all;
    let mut parts = 2;
    while left.len() > 1 {
        let size = left.len().div_ceil(parts);
        // One part on its own is the largest reduction; all but one of them the usual one.
        let alone = (0..left.len()).step_by(size).map(|from| {
            let to = (from + size).min(left.len());
            left[from..to].to_vec()
        });
        let without = (0..left.len()).step_by(size).map(|from| {
            let to = (from + size).min(left.len());
            [&left[..from], &left[to..]].concat()
        });
        let mut smaller = None;
        for candidate in alone.chain(without) {
            if candidate.is_empty() || candidate.len() == left.len() {
                continue;
            }
            match fails(&candidate) {
                None => return left,
                Some(false) => {}
                Some(true) => {
                    smaller = Some(candidate);
                    break;
                }
            }
        }
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
            let fails = |some: &[i32]| Some(needed.iter().all(|one| some.contains(one)));
            let left = shrink((0..1_000).collect(), fails);
            assert_eq!(left, needed);
        }
    }

    #[test]
    fn it_ends_with_a_failing_run_when_no_more_runs_are_allowed() {
        let mut count = 0;
        let left = shrink((0..1_000).collect(), |some: &[i32]| {
            count += 1;
            (count <= 25).then(|| some.contains(&3) && some.contains(&997))
        });
        assert_eq!(count, 26);
        assert!(left.contains(&3) && left.contains(&997) && left.len() < 1_000);
    }

    #[test]
    fn a_run_that_never_fails_again_is_not_shortened() {
        let all: Vec<i32> = (0..50).collect();
        assert_eq!(shrink(all.clone(), |_| Some(false)), all);
    }
}
