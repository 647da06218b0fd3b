//! What several receivers of one message hold together: a slot, or credit.

use std::iter::repeat_n;
use std::ops::Deref;
use std::sync::Arc;

/// A permit that is released when the last of its holders has dropped it.
///
/// # Cost
/// A permit with one holder stays as it is: with one receiver, nothing is allocated.
#[derive(Debug)]
pub(crate) enum Joint<T> {
    /// This is its only holder.
    Sole(T),
    /// Others may hold it too.
    Shared(Arc<T>),
}

impl<T> Joint<T> {
    /// The permit for so many holders. Without any it is released at once.
    pub(crate) fn among(permit: T, holders: usize) -> impl Iterator<Item = Self> {
        let (sole, shared) = match holders {
            0 => (None, None),
            1 => (Some(permit), None),
            _ => (None, Some(Arc::new(permit))),
        };
        let shared = shared.into_iter().flat_map(move |it| repeat_n(it, holders));
        sole.map(Self::Sole)
            .into_iter()
            .chain(shared.map(Self::Shared))
    }
}

impl<T> Deref for Joint<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Sole(permit) => permit,
            Self::Shared(permit) => permit,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Counts how often one was released.
    struct Permit<'a>(&'a Cell<u32>);

    impl Drop for Permit<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn a_permit_is_released_once_when_the_last_holder_has_dropped_it() {
        for holders in 0..4 {
            let released = Cell::new(0);
            let mut held: Vec<_> = Joint::among(Permit(&released), holders).collect();
            assert_eq!(held.len(), holders);
            while held.pop().is_some() {
                assert_eq!(
                    released.get(),
                    u32::from(held.is_empty()),
                    "{holders} holders"
                );
            }
            assert_eq!(released.get(), 1);
        }
    }

    #[test]
    fn holders_that_were_not_given_their_part_do_not_keep_the_permit() {
        let released = Cell::new(0);
        let first = Joint::among(Permit(&released), 3).next();
        assert_eq!(released.get(), 0);
        drop(first);
        assert_eq!(released.get(), 1);
    }

    #[test]
    fn one_holder_has_the_permit_itself() {
        let mut alone = Joint::among(7, 1);
        assert!(matches!(alone.next(), Some(Joint::Sole(7))));
        assert!(alone.next().is_none());
    }
}
