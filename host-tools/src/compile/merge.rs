//! Blocks that always run together become one: fewer records, and fewer boundaries to check on the device.

use crate::quantize::integer::{IntegerBlock, MAX_BLOCK_STEPS};

/// Merged blocks and the plans in terms of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// Blocks with at least one step.
    pub blocks: Vec<IntegerBlock>,
    /// For each plan the indices of its blocks.
    pub routes: Vec<Vec<usize>>,
}

/// Merges every pair of neighbours that no plan separates. Blocks without steps, and blocks on no route, are left out.
#[must_use]
pub fn merge(blocks: &[IntegerBlock], routes: &[Vec<usize>]) -> Merged {
    let routes: Vec<Vec<usize>> =
        routes.iter().map(|route| route.iter().copied().filter(|&b| !blocks[b].steps.is_empty()).collect()).collect();
    let mut merged = Merged { blocks: Vec::new(), routes: vec![Vec::new(); routes.len()] };
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for (plan, route) in routes.iter().enumerate() {
        let mut at = 0;
        while at < route.len() {
            let index = chains.iter().position(|chain| chain[0] == route[at]).unwrap_or_else(|| {
                let chain = chain_from(blocks, &routes, route, at);
                merged.blocks.push(join(blocks, &chain));
                chains.push(chain);
                chains.len() - 1
            });
            merged.routes[plan].push(index);
            at += chains[index].len();
        }
    }
    merged
}

/// The blocks from `route[start]` on that every plan runs as a whole.
fn chain_from(blocks: &[IntegerBlock], routes: &[Vec<usize>], route: &[usize], start: usize) -> Vec<usize> {
    let mut chain = vec![route[start]];
    let mut steps = blocks[route[start]].steps.len();
    for pair in route[start..].windows(2) {
        steps += blocks[pair[1]].steps.len();
        if steps > MAX_BLOCK_STEPS || !always_together(routes, pair[0], pair[1]) {
            break;
        }
        chain.push(pair[1]);
    }
    chain
}

fn always_together(routes: &[Vec<usize>], first: usize, second: usize) -> bool {
    routes.iter().all(|route| {
        let after = |at: usize| route.get(at + 1) == Some(&second);
        let before = |at: usize| at > 0 && route[at - 1] == first;
        let first_is_followed = route.iter().enumerate().all(|(at, &b)| b != first || after(at));
        let second_is_preceded = route.iter().enumerate().all(|(at, &b)| b != second || before(at));
        first_is_followed && second_is_preceded
    })
}

fn join(blocks: &[IntegerBlock], chain: &[usize]) -> IntegerBlock {
    let mut joined = blocks[chain[0]].clone();
    for &next in &chain[1..] {
        joined = joined.followed_by(&blocks[next]);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ValueId;
    use crate::quantize::integer::{IntegerStep, Kernel};
    use stitchkit_runtime::bundle::Quant;
    use stitchkit_runtime::kernels::Shape;

    const QUANT: Quant = Quant { scale: 1.0, zero_point: 0 };

    fn block(name: &str, steps: usize) -> IntegerBlock {
        let shape = Shape::new(1, 1, 4);
        let step = |i: usize| IntegerStep {
            name: format!("{name}.{i}"),
            inputs: [i as u8, 0],
            kernel: Kernel::Lut { shape, table: Box::new([0; 256]) },
            quant: QUANT,
            value: ValueId(i + 1),
            piece: 0,
        };
        let steps = (0..steps).map(step).collect();
        IntegerBlock { name: name.to_owned(), input: shape, input_quant: QUANT, output_quant: QUANT, steps }
    }

    fn names(merged: &Merged) -> Vec<Vec<String>> {
        let route = |r: &Vec<usize>| r.iter().map(|&b| merged.blocks[b].name.clone()).collect();
        merged.routes.iter().map(route).collect()
    }

    #[test]
    fn neighbours_merge_unless_a_plan_separates_them() {
        let blocks: Vec<_> = ["a", "b", "c", "d", "s"].iter().map(|n| block(n, 1)).collect();
        struct Case {
            routes: Vec<Vec<usize>>,
            want: Vec<Vec<&'static str>>,
        }
        let cases = [
            Case { routes: vec![vec![0, 1, 2]], want: vec![vec!["a+b+c"]] },
            Case { routes: vec![vec![0, 1, 2], vec![0, 1, 3]], want: vec![vec!["a+b", "c"], vec!["a+b", "d"]] },
            Case { routes: vec![vec![0, 1, 2], vec![3, 4, 2]], want: vec![vec!["a+b", "c"], vec!["d+s", "c"]] },
            Case { routes: vec![vec![0, 1], vec![1]], want: vec![vec!["a", "b"], vec!["b"]] },
        ];
        for case in cases {
            assert_eq!(names(&merge(&blocks, &case.routes)), case.want, "{:?}", case.routes);
        }
    }

    #[test]
    fn values_are_renumbered_and_empty_blocks_vanish() {
        let blocks = [block("a", 2), block("none", 0), block("b", 2)];
        let merged = merge(&blocks, &[vec![0, 1, 2]]);
        let inputs: Vec<u8> = merged.blocks[0].steps.iter().map(|s| s.inputs[0]).collect();
        assert_eq!(inputs, [0, 1, 2, 3]);
    }

    #[test]
    fn a_merged_block_stays_within_the_step_limit() {
        let blocks = [block("a", 200), block("b", 100)];
        assert_eq!(names(&merge(&blocks, &[vec![0, 1]])), [["a", "b"]]);
    }
}
