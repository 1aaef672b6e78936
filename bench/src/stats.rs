//! Statistics of paired measurements: medians, and a bootstrap interval with a fixed seed.
//!
//! Invariant: the same numbers always give the same interval; there is no randomness from outside.

/// Resamples of a bootstrap; enough for two stable digits of a 95 % interval.
const RESAMPLES: usize = 4_000;
/// Seed of every bootstrap.
const SEED: u64 = 0x5eed_2f0b_a1a9_ce01;

/// A small generator with good statistics (splitmix64); for the order of slices and for resampling.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not zero and small, so that the bias does not matter.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        usize::try_from(self.draw() % bound).expect("smaller than a usize")
    }

    pub fn coin(&mut self) -> bool {
        self.draw() >> 63 == 1
    }
}

/// A median with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

/// Median of the values with a bootstrap 95 % interval; `None` without values.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let median_of_all = median(values)?;
    let mut random = Random::new(SEED);
    let mut medians: Vec<f64> = Vec::with_capacity(RESAMPLES);
    let mut sample = vec![0.0; values.len()];
    for _ in 0..RESAMPLES {
        for slot in &mut sample {
            *slot = values[random.below(values.len())];
        }
        medians.push(sorted_median(&mut sample));
    }
    medians.sort_by(f64::total_cmp);
    let (low, high) = (permille(&medians, 25)?, permille(&medians, 975)?);
    Some(Estimate { median: median_of_all, low, high })
}

/// Ratio of each pair; pairs with a zero or broken peer are left out.
pub fn ratios(pairs: impl IntoIterator<Item = (f64, f64)>) -> Vec<f64> {
    pairs.into_iter().map(|(ours, peer)| ours / peer).filter(|ratio| ratio.is_finite()).collect()
}

/// The middle value, the mean of the two middle ones when there is an even number.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut copy = values.to_vec();
    if copy.is_empty() { None } else { Some(sorted_median(&mut copy)) }
}

fn sorted_median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] }
}

/// The value at this place of a sorted list, in thousandths.
pub fn permille(sorted: &[f64], permille: usize) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last * permille + 500) / 1000).copied()
}

/// True when the last five values lie within 5 % of their middle one: the program is warm.
pub fn settled(values: &[f64]) -> bool {
    let Some(last) = values.len().checked_sub(5).map(|from| &values[from..]) else { return false };
    let middle = median(last).expect("five values");
    last.iter().all(|value| (value - middle).abs() <= 0.05 * middle.abs())
}

/// Slope of a straight line through the points (least squares), in y per x.
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    if points.len() < 2 {
        return None;
    }
    let count = float(points.len() as u64);
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    (variance > 0.0).then(|| covariance / variance)
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
pub const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_wild_pair_does_not_move_the_ratio() {
        let mut pairs = vec![(80.0, 100.0); 20];
        pairs.push((800.0, 1.0));
        pairs.push((1.0, 0.0)); // a peer that did nothing is no measurement
        let ratios = ratios(pairs);
        assert_eq!(ratios.len(), 21);
        let estimate = estimate(&ratios).unwrap();
        assert_eq!((estimate.median, estimate.low, estimate.high), (0.8, 0.8, 0.8));
    }

    #[test]
    fn the_interval_holds_the_truth_about_as_often_as_it_says() {
        // values around 1.0, evenly spread over 0.5 to 1.5; the median of the source is 1.0
        let mut random = Random::new(7);
        let hits = (0..200)
            .filter(|_| {
                let values: Vec<f64> = (0..31).map(|_| 0.5 + float(random.draw() >> 44) / float(1 << 20)).collect();
                let estimate = estimate(&values).unwrap();
                estimate.low <= 1.0 && 1.0 <= estimate.high
            })
            .count();
        assert!((180..=200).contains(&hits), "{hits} of 200");
    }

    #[test]
    fn the_interval_narrows_with_more_pairs_and_is_the_same_every_time() {
        let mut random = Random::new(3);
        let values: Vec<f64> = (0..400).map(|_| float(random.draw() >> 54)).collect();
        let (few, many) = (estimate(&values[..20]).unwrap(), estimate(&values).unwrap());
        assert!(many.high - many.low < few.high - few.low);
        assert_eq!(estimate(&values), estimate(&values));
        assert!(few.low <= few.median && few.median <= few.high);
    }

    #[test]
    fn warm_means_five_alike() {
        assert!(!settled(&[100.0, 100.0, 100.0, 100.0]));
        assert!(settled(&[10.0, 100.0, 101.0, 99.0, 102.0, 98.0]));
        assert!(!settled(&[100.0, 101.0, 99.0, 102.0, 90.0]));
    }

    #[test]
    fn slopes() {
        assert_eq!(slope(&[(0.0, 1.0)]), None);
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]), Some(2.0));
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 3.0)]), None);
    }
}
