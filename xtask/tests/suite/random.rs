//! Random numbers that a seed repeats: splitmix64.

use std::time::Duration;

pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// One of those that are left; of all, once none is.
    pub fn draw<T: Copy>(&mut self, left: &mut Vec<T>, all: &[T]) -> T {
        if left.is_empty() {
            left.extend(all);
        }
        left.swap_remove(self.below(left.len()))
    }

    pub fn wait(&mut self, milliseconds: usize) {
        std::thread::sleep(Duration::from_millis(self.below(milliseconds.max(1)) as u64));
    }
}
