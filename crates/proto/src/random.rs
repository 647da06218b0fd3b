//! Random choices that a seed reproduces.
//!
//! Draw number `n` is SipHash-2-4 of `n` under a key made from the seed: without the seed no choice
//! can be predicted from earlier ones, and the whole state is two integers, so that a machine stays
//! `Clone + Eq + Hash`.

use std::time::Duration;

use bitcoin::hashes::siphash24;

/// A generator owned by one machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    /// The generator of `seed`. Equal seeds give equal draws on every platform.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// 64 uniform bits.
    pub fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        let domain = u64::from_le_bytes(*b"handfast");
        siphash24::Hash::hash_to_u64_with_keys(self.seed, domain, &self.drawn.to_le_bytes())
    }

    /// A uniform number in `0..bound`; 0 when `bound` is 0.
    ///
    /// The bias is at most `bound / 2^64`, which is negligible for our bounds.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.draw()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the high half of a product of two u64")
    }

    /// A uniform index into something of `len` items; 0 when it is empty.
    pub fn index(&mut self, len: usize) -> usize {
        let bound = u64::try_from(len).expect("a usize fits in 64 bits");
        usize::try_from(self.below(bound)).expect("below a usize")
    }

    /// A waiting time of a Poisson process whose events are `mean` apart on average, to the
    /// millisecond.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        // 53 bits fit a double exactly; above zero, so that the logarithm is finite.
        let uniform = ((self.draw() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let millis = mean.as_secs_f64() * 1_000.0 * -uniform.ln();
        Duration::from_millis(millis as u64)
    }

    /// Moves a uniform choice of `count` items to the front of `items`, in random order.
    pub fn shuffle_front<T>(&mut self, items: &mut [T], count: usize) {
        for at in 0..count.min(items.len()) {
            let other = at + self.index(items.len() - at);
            items.swap(at, other);
        }
    }
}

/// A hash of `data` that cannot be predicted without `seed`. Each use has a distinct `domain`.
#[must_use]
pub fn keyed(seed: u64, domain: [u8; 8], data: &[u8]) -> u64 {
    siphash24::Hash::hash_to_u64_with_keys(seed, u64::from_le_bytes(domain), data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_draws_and_others_do_not() {
        let draws = |seed| {
            let mut random = Random::new(seed);
            [random.draw(), random.draw(), random.draw()]
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        assert_ne!(draws(7)[0], draws(7)[1]);
    }

    #[test]
    fn every_value_below_the_bound_occurs_and_none_above() {
        let mut random = Random::new(1);
        let mut seen = [0u32; 5];
        for _ in 0..5_000 {
            seen[random.index(5)] += 1;
        }
        assert!(seen.iter().all(|n| (800..1_200).contains(n)), "{seen:?}");
        assert_eq!((random.below(0), random.below(1)), (0, 0));
    }

    #[test]
    fn waiting_times_have_their_mean_and_no_memory() {
        let mut random = Random::new(5);
        let mean = Duration::from_secs(30);
        let times: Vec<Duration> = (0..10_000).map(|_| random.exponential(mean)).collect();
        let sum: Duration = times.iter().sum();
        assert!((280_000..320_000).contains(&sum.as_secs()), "{sum:?}");
        // Of an exponential distribution e^-1 is beyond the mean, and e^-2 beyond twice it.
        let beyond = |limit| times.iter().filter(|time| **time > limit).count();
        assert!((3_500..3_860).contains(&beyond(mean)));
        assert!((1_250..1_460).contains(&beyond(2 * mean)));
    }

    #[test]
    fn shuffling_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Random::new(3).shuffle_front(&mut items, 50);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
        Random::new(3).shuffle_front::<u32>(&mut [], 4);
    }
}
