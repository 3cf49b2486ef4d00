//! Search for paths through a network of blocks: costs add up (memory: the largest counts), so does the estimated gain.
//!
//! Paths are extended node by node; of two partial paths that end at one node, the one that is no better in anything is
//! dropped, and so is every partial path that already exceeds a limit. What is left at the end contains the best path, as
//! costs never shrink and gains of later edges do not depend on earlier ones.

/// Costs of an edge or a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Costs {
    /// Adds up.
    pub latency_ps: u64,
    /// Adds up.
    pub flash_bytes: u64,
    /// Adds up.
    pub crossings: u32,
    /// The largest counts.
    pub ram_bytes: u64,
}

impl Costs {
    fn then(self, next: Self) -> Self {
        Self {
            latency_ps: self.latency_ps.saturating_add(next.latency_ps),
            flash_bytes: self.flash_bytes.saturating_add(next.flash_bytes),
            crossings: self.crossings.saturating_add(next.crossings),
            ram_bytes: self.ram_bytes.max(next.ram_bytes),
        }
    }

    /// Whether no cost exceeds that of `limit`.
    #[must_use]
    pub const fn within(&self, limit: &Self) -> bool {
        self.latency_ps <= limit.latency_ps
            && self.flash_bytes <= limit.flash_bytes
            && self.crossings <= limit.crossings
            && self.ram_bytes <= limit.ram_bytes
    }
}

/// One way from a node to a later one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    /// Node it leaves.
    pub from: usize,
    /// Node it enters, greater than `from`.
    pub to: usize,
    /// What it costs.
    pub costs: Costs,
    /// What it gains; may be negative.
    pub gain: f64,
}

/// Nodes 0 to `nodes - 1`, from the first to the last.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Network {
    /// Number of nodes.
    pub nodes: usize,
    /// Edges in any order.
    pub edges: Vec<Edge>,
}

/// A path from the first node to the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// Indices of its edges in order.
    pub edges: Vec<usize>,
    /// What it costs.
    pub costs: Costs,
    /// What it gains.
    pub gain: f64,
}

#[derive(Debug, Clone, Copy)]
struct Label {
    costs: Costs,
    gain: f64,
    /// Edge that led here and position of the label it extends.
    came: Option<(usize, usize)>,
}

impl Label {
    fn covers(&self, other: &Self) -> bool {
        self.gain >= other.gain && self.costs.within(&other.costs)
    }
}

impl Network {
    /// Number of paths from the first node to the last, saturating.
    #[must_use]
    pub fn count(&self) -> u64 {
        let mut ways = vec![0u64; self.nodes];
        if let Some(first) = ways.first_mut() {
            *first = 1;
        }
        for edges in self.by_origin() {
            for edge in edges.into_iter().map(|index| self.edges[index]) {
                ways[edge.to] = ways[edge.to].saturating_add(ways[edge.from]);
            }
        }
        ways.last().copied().unwrap_or(0)
    }

    /// The paths inside `limit` that no other one covers in costs and gain, best gain first, of equal gains the fastest.
    /// Empty if no path is inside.
    #[must_use]
    pub fn best_paths(&self, limit: &Costs) -> Vec<Path> {
        let mut labels: Vec<Vec<Label>> = vec![Vec::new(); self.nodes];
        if let Some(first) = labels.first_mut() {
            first.push(Label { costs: Costs::default(), gain: 0.0, came: None });
        }
        for edges in self.by_origin() {
            for index in edges {
                let edge = self.edges[index];
                for position in 0..labels[edge.from].len() {
                    let before = labels[edge.from][position];
                    let costs = before.costs.then(edge.costs);
                    let label = Label { costs, gain: before.gain + edge.gain, came: Some((index, position)) };
                    if costs.within(limit) {
                        add(&mut labels[edge.to], label);
                    }
                }
            }
        }
        let Some(last) = labels.last() else { return Vec::new() };
        let mut paths: Vec<Path> = last.iter().map(|label| self.path(&labels, label)).collect();
        sort(&mut paths);
        paths
    }

    /// Every path inside `limit`, ordered as [`Self::best_paths`] orders them. Their number can be exponential in the number
    /// of nodes: see [`Self::count`].
    #[must_use]
    pub fn all_paths(&self, limit: &Costs) -> Vec<Path> {
        let leaving = self.by_origin();
        let mut open = vec![(0, Path { edges: Vec::new(), costs: Costs::default(), gain: 0.0 })];
        let mut paths = Vec::new();
        while let Some((node, path)) = open.pop() {
            if node + 1 == self.nodes {
                paths.push(path);
                continue;
            }
            for &index in &leaving[node] {
                let edge = self.edges[index];
                let mut longer = path.clone();
                longer.edges.push(index);
                (longer.costs, longer.gain) = (path.costs.then(edge.costs), path.gain + edge.gain);
                if longer.costs.within(limit) {
                    open.push((edge.to, longer));
                }
            }
        }
        sort(&mut paths);
        paths
    }

    /// Indices of the edges that leave each node.
    fn by_origin(&self) -> Vec<Vec<usize>> {
        let mut leaving = vec![Vec::new(); self.nodes];
        for (index, edge) in self.edges.iter().enumerate() {
            leaving[edge.from].push(index);
        }
        leaving
    }

    fn path(&self, labels: &[Vec<Label>], end: &Label) -> Path {
        let (mut edges, mut came) = (Vec::new(), end.came);
        while let Some((edge, position)) = came {
            edges.push(edge);
            came = labels[self.edges[edge].from][position].came;
        }
        edges.reverse();
        Path { edges, costs: end.costs, gain: end.gain }
    }
}

fn sort(paths: &mut [Path]) {
    paths.sort_by(|a, b| b.gain.total_cmp(&a.gain).then(a.costs.latency_ps.cmp(&b.costs.latency_ps)));
}

/// Adds a label unless another covers it, and drops those it covers. A node's labels are complete before they are
/// extended, because edges lead to later nodes only; so positions stay valid.
fn add(labels: &mut Vec<Label>, label: Label) {
    if labels.iter().any(|held| held.covers(&label)) {
        return;
    }
    labels.retain(|held| !label.covers(held));
    labels.push(label);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network() -> impl Strategy<Value = Network> {
        let edge = |nodes: usize| {
            (0..nodes - 1, 1..nodes, 0u64..6, 0u64..6, 0u32..2, 0u64..6, -4i8..8).prop_map(
                move |(from, step, latency_ps, flash_bytes, crossings, ram_bytes, gain)| Edge {
                    from,
                    to: (from + step).min(nodes - 1),
                    costs: Costs { latency_ps, flash_bytes, crossings, ram_bytes },
                    gain: f64::from(gain),
                },
            )
        };
        (2usize..8).prop_flat_map(move |nodes| {
            prop::collection::vec(edge(nodes), 0..18).prop_map(move |edges| Network { nodes, edges })
        })
    }

    proptest! {
        #[test]
        fn the_search_finds_what_trying_every_path_finds(
            network in network(), latency_ps in 0u64..20, flash_bytes in 0u64..20, crossings in 0u32..4, ram_bytes in 0u64..7,
        ) {
            let limit = Costs { latency_ps, flash_bytes, crossings, ram_bytes };
            let (found, all) = (network.best_paths(&limit), network.all_paths(&limit));
            prop_assert_eq!(found.is_empty(), all.is_empty());
            prop_assert!(found.iter().all(|path| all.contains(path)));
            for path in &all {
                let covered = |p: &Path| p.gain >= path.gain && p.costs.within(&path.costs);
                prop_assert!(found.iter().any(covered), "{path:?} is missing");
            }
            let best = all.iter().map(|p| p.gain).fold(f64::NEG_INFINITY, f64::max);
            prop_assert_eq!(found.first().map_or(f64::NEG_INFINITY, |p| p.gain), best);
        }

        #[test]
        fn paths_are_counted_as_enumerated(network in network()) {
            let open = Costs { latency_ps: u64::MAX, flash_bytes: u64::MAX, crossings: u32::MAX, ram_bytes: u64::MAX };
            prop_assert_eq!(network.count(), network.all_paths(&open).len() as u64);
        }
    }

    #[test]
    fn every_path_of_a_small_network_is_listed() {
        let edge = |from, to, latency_ps| Edge { from, to, costs: Costs { latency_ps, ..Costs::default() }, gain: 1.0 };
        let network = Network { nodes: 3, edges: vec![edge(0, 1, 1), edge(0, 1, 5), edge(1, 2, 1), edge(0, 2, 1)] };
        let limit = Costs { latency_ps: 5, ..Costs::default() };
        let paths: Vec<Vec<usize>> = network.all_paths(&limit).into_iter().map(|path| path.edges).collect();
        assert_eq!(paths, [vec![0, 2], vec![3]]);
        assert_eq!(network.count(), 3);
    }

    #[test]
    fn a_long_network_of_many_paths_is_searched_to_the_end() {
        let edge = |from: usize, choice: u64| Edge {
            from,
            to: from + 1,
            costs: Costs { latency_ps: 1 + choice * 2, flash_bytes: 3 - choice, crossings: 0, ram_bytes: 1 },
            gain: choice as f64,
        };
        let edges = (0..30).flat_map(|from| (0..3).map(move |choice| edge(from, choice))).collect();
        let network = Network { nodes: 31, edges };
        assert_eq!(network.count(), 3u64.pow(30));
        let limit = Costs { latency_ps: 90, flash_bytes: u64::MAX, crossings: 0, ram_bytes: 9 };
        assert_eq!(network.best_paths(&limit)[0].gain, 30.0);
    }
}
