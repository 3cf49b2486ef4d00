//! Latencies in fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Page;

/// Upper bounds in microseconds; a last bucket takes what is longer.
const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// A Prometheus histogram of times.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Not cumulative; [`write`](Self::write) adds up.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Notes one time.
    pub fn record(&self, us: u64) {
        let bucket = BOUNDS_US.partition_point(|&bound| bound < us);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Adds its samples to a page.
    pub fn write(&self, page: &mut Page, name: &str, help: &str) {
        page.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let bounds = BOUNDS_US.iter().map(|&us| (us as f64 / 1e6).to_string()).chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (bound, count) in bounds.zip(&self.buckets) {
            total += count.load(Ordering::Relaxed);
            page.sample(&bucket, &[("le", bound)], total);
        }
        page.sample(&format!("{name}_sum"), &[], self.sum_us.load(Ordering::Relaxed) as f64 / 1e6);
        page.sample(&format!("{name}_count"), &[], total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let histogram = Histogram::default();
        for us in [0, 100, 101, 9_999, 99_000_000] {
            histogram.record(us);
        }
        let mut page = Page(String::new());
        histogram.write(&mut page, "t", "help");
        for line in [
            "stitchkit_t_bucket{le=\"0.0001\"} 2",
            "stitchkit_t_bucket{le=\"0.00025\"} 3",
            "stitchkit_t_bucket{le=\"0.01\"} 4",
            "stitchkit_t_bucket{le=\"10\"} 4",
            "stitchkit_t_bucket{le=\"+Inf\"} 5",
            "stitchkit_t_count 5",
            "stitchkit_t_sum 99.0102",
        ] {
            assert!(page.0.lines().any(|found| found == line), "{line} is missing in {}", page.0);
        }
    }
}
