//! Bundles with random graphs: every operator, odd extents, groups, strides, dilation, saturating values.
//!
//! A graph comes from a [`Recipe`], which a seed gives, which can be written in a line, and which can be made smaller: its
//! steps are seeds too, each of which draws an operator that fits whatever shape it meets.

mod step;

use std::fmt;
use std::str::FromStr;

use stitchkit_runtime::bundle::{BundleError, Op};
use stitchkit_runtime::kernels::{Conv2d, Shape, Window};

use crate::Rng;
use crate::builder::{Builder, SIGNED};
use crate::style::Style;
use step::{Drawing, Extents};

/// What a random graph is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Extents of the input.
    pub input: Shape,
    /// Outputs.
    pub classes: u16,
    /// Seeds of the steps that every plan runs.
    pub trunk: Vec<u32>,
    /// Seeds of the steps that the second plan runs after them; they keep the shape. Without any there is one plan.
    pub detour: Vec<u32>,
}

/// A bundle of two plans, one with a detour, that depends on `seed` alone.
///
/// # Errors
/// None in practice; [`BundleError`] if the writer refuses the parts.
pub fn bundle(seed: u32) -> Result<Vec<u8>, BundleError> {
    Recipe::of_seed(seed).bundle()
}

/// Elements of the input of a [`batch`], and the shapes they are given.
const BATCH_INPUT: u16 = 360;
const BATCH_SHAPES: [Shape; 8] = [
    Shape::new(6, 10, 6),
    Shape::new(8, 5, 9),
    Shape::new(9, 8, 5),
    Shape::new(3, 8, 15),
    Shape::new(5, 4, 18),
    Shape::new(20, 18, 1),
    Shape::new(1, 10, 36),
    Shape::new(12, 10, 3),
];
const BATCH_CLASSES: u16 = 5;

/// One bundle with a plan for each of `count` random graphs and two golden vectors, for machines on which every bundle costs a
/// build. All graphs take 360 values, in different shapes.
///
/// # Errors
/// None in practice; [`BundleError`] if the writer refuses the parts.
pub fn batch(seed: u32, count: u32) -> Result<Vec<u8>, BundleError> {
    let mut b = Builder::new("random", Shape::new(1, 1, BATCH_INPUT), Shape::new(1, 1, BATCH_CLASSES), seed);
    for graph in 0..count {
        let input = BATCH_SHAPES[(graph % 8) as usize];
        let recipe = Recipe { input, classes: BATCH_CLASSES, ..Recipe::of_seed(seed.wrapping_add(graph)) };
        let (mut blocks, shape) = recipe.trunk(&mut b);
        blocks.push(recipe.head(&mut b, shape));
        match graph % 3 {
            0 => b.plan(&format!("graph {graph}"), &blocks),
            1 => b.over_plan(&format!("graph {graph}"), &blocks),
            _ => b.divided_plan(&format!("graph {graph}"), &blocks),
        }
    }
    b.parts_mut().plans.sort_by_key(|plan| plan.cost);
    b.weave();
    b.finish(2)
}

impl Recipe {
    /// The recipe of a seed.
    #[must_use]
    pub fn of_seed(seed: u32) -> Self {
        let mut rng = Rng::new(seed);
        for _ in 0..4 {
            rng.next_u32();
        }
        let input = Shape::new(rng.up_to(9), rng.up_to(9), step::channels(&mut rng));
        let classes = rng.up_to(11);
        let mut seeds = |most: u16| (0..rng.up_to(most)).map(|_| rng.next_u32()).collect::<Vec<_>>();
        Self { input, classes, trunk: seeds(5), detour: seeds(3) }
    }

    /// The bundle's bytes, without golden vectors.
    ///
    /// # Errors
    /// None in practice; [`BundleError`] if the writer refuses the parts.
    pub fn bundle(&self) -> Result<Vec<u8>, BundleError> {
        let mut b = Builder::new("random", self.input, Shape::new(1, 1, self.classes), 1);
        let (trunk, shape) = self.trunk(&mut b);
        let detour = self.block(&mut b, &self.detour, shape, Extents::Kept);
        let head = self.head(&mut b, shape);
        let mut blocks = trunk.clone();
        blocks.push(head);
        b.plan("straight", &blocks);
        b.over_plan("over inputs", &blocks);
        if let Some((detour, _)) = detour {
            blocks.insert(trunk.len(), detour);
            b.divided_plan("detour", &blocks);
        }
        // Some heads keep their filters apart.
        if self.trunk.len() % 2 == 1 {
            b.weave();
        }
        b.finish(0)
    }

    /// The trunk's block, if it has steps, and the shape behind it.
    fn trunk(&self, b: &mut Builder) -> (Vec<u16>, Shape) {
        match self.block(b, &self.trunk, self.input, Extents::Free) {
            Some((block, shape)) => (vec![block], shape),
            None => (Vec::new(), self.input),
        }
    }

    fn block(&self, b: &mut Builder, seeds: &[u32], input: Shape, extents: Extents) -> Option<(u16, Shape)> {
        let mut drawing = Drawing::new(b, input, extents);
        for &seed in seeds {
            drawing.step(seed);
        }
        let (steps, shape) = drawing.finish();
        (!steps.is_empty()).then(|| (b.block("random", input, steps), shape))
    }

    /// A fully connected layer over everything, and softmax.
    fn head(&self, b: &mut Builder, shape: Shape) -> u16 {
        let features = Shape::new(1, 1, shape.len() as u16);
        let output = Shape::new(1, 1, self.classes);
        let dense = Conv2d { input: features, output, window: Window::POINT, groups: 1, pad_value: 0 };
        b.restyle(u32::from(self.classes), Style::TYPICAL);
        let table = b.softmax_table(0.98);
        let steps = vec![([0, 0], b.conv(dense, SIGNED, None)), ([1, 0], Op::Softmax { shape: output, table })];
        b.block("head", features, steps)
    }

    /// Recipes with one thing less: a step, or part of an extent.
    #[must_use]
    pub fn smaller(&self) -> Vec<Self> {
        let mut found = Vec::new();
        for at in 0..self.trunk.len() {
            let mut less = self.clone();
            less.trunk.remove(at);
            found.push(less);
        }
        for at in 0..self.detour.len() {
            let mut less = self.clone();
            less.detour.remove(at);
            found.push(less);
        }
        let Shape { h, w, c } = self.input;
        let less = |extent: u16| [1, extent / 2, extent - 1].into_iter().filter(move |&n| n > 0 && n < extent);
        found.extend(less(h).map(|h| Self { input: Shape::new(h, w, c), ..self.clone() }));
        found.extend(less(w).map(|w| Self { input: Shape::new(h, w, c), ..self.clone() }));
        found.extend(less(c).map(|c| Self { input: Shape::new(h, w, c), ..self.clone() }));
        found.extend(less(self.classes).map(|classes| Self { classes, ..self.clone() }));
        found
    }

    /// The smallest recipe reached by leaving out one thing after the other as long as `fails` holds.
    #[must_use]
    pub fn shrink(&self, mut fails: impl FnMut(&Self) -> bool) -> Self {
        let mut least = self.clone();
        while let Some(smaller) = least.smaller().into_iter().find(&mut fails) {
            least = smaller;
        }
        least
    }
}

/// `5x3x7 to 4: 0000002a 00000b0b / 12345678`: input, classes, steps of the trunk, steps of the detour.
impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { h, w, c } = self.input;
        write!(f, "{h}x{w}x{c} to {}:", self.classes)?;
        self.trunk.iter().try_for_each(|seed| write!(f, " {seed:08x}"))?;
        f.write_str(" /")?;
        self.detour.iter().try_for_each(|seed| write!(f, " {seed:08x}"))
    }
}

/// A line that is no recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRecipe;

impl FromStr for Recipe {
    type Err = NoRecipe;

    fn from_str(text: &str) -> Result<Self, NoRecipe> {
        let parse = || -> Option<Self> {
            let (head, steps) = text.split_once(':')?;
            let (input, classes) = head.split_once(" to ")?;
            let extents: Vec<u16> = input.split('x').map(|n| n.trim().parse().ok()).collect::<Option<_>>()?;
            let [h, w, c] = extents[..] else { return None };
            let (trunk, detour) = steps.split_once('/')?;
            let seeds = |part: &str| {
                part.split_whitespace().map(|seed| u32::from_str_radix(seed, 16).ok()).collect::<Option<Vec<u32>>>()
            };
            let classes = classes.trim().parse().ok()?;
            Some(Self { input: Shape::new(h, w, c), classes, trunk: seeds(trunk)?, detour: seeds(detour)? })
        };
        parse().ok_or(NoRecipe)
    }
}

#[cfg(test)]
mod tests {
    use stitchkit_runtime::bundle::{AlignedBytes, Bundle};

    use super::*;

    fn ops(file: &[u8]) -> Vec<Op> {
        let bytes = AlignedBytes::copy_of(file);
        let bundle = Bundle::parse(bytes.as_slice()).expect("a valid bundle");
        (0..bundle.step_count()).filter_map(|index| bundle.step(index)).map(|step| step.op).collect()
    }

    #[test]
    fn a_recipe_in_text_is_the_recipe() {
        for seed in 0..200 {
            let recipe = Recipe::of_seed(seed);
            assert_eq!(recipe.to_string().parse(), Ok(recipe));
        }
        assert_eq!("5x3 to 4: / ".parse::<Recipe>(), Err(NoRecipe));
    }

    #[test]
    fn every_operator_that_can_writes_over_its_input() {
        let mut over = std::collections::BTreeMap::new();
        for seed in 0..300 {
            let file = AlignedBytes::copy_of(&bundle(seed).expect("a bundle"));
            let bundle = Bundle::parse(file.as_slice()).expect("a valid bundle");
            for placed in bundle.plans().flat_map(|plan| bundle.steps_of(&plan)).filter(|at| at.is_over_input()) {
                *over.entry(placed.step.op.name()).or_insert(0) += 1;
            }
        }
        for name in ["conv2d", "depthwise", "maxpool", "avgpool", "softmax", "layernorm"] {
            assert!(over.get(name).is_some_and(|&count| count > 10), "{name}: {over:?}");
        }
    }

    #[test]
    fn some_heads_are_woven_and_some_are_not() {
        let is_woven = |seed| {
            let file = AlignedBytes::copy_of(&bundle(seed).expect("a bundle"));
            let bundle = Bundle::parse(file.as_slice()).expect("a valid bundle");
            let (woven, apart): (Vec<u16>, Vec<u16>) = (0..bundle.step_count())
                .filter(|&index| match bundle.step(index).map(|step| step.op) {
                    Some(Op::Conv2d { geometry, residual: None, .. }) => geometry.can_be_woven(),
                    _ => false,
                })
                .partition(|&index| bundle.is_woven(index));
            [woven.len(), apart.len()]
        };
        let [woven, apart] = (0..300).map(is_woven).fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
        assert!(woven > 20 && apart > 20, "{woven} woven, {apart} apart");
    }

    #[test]
    fn the_graphs_have_what_kernels_may_stumble_over() {
        let all: Vec<Op> = (0..300).flat_map(|seed| ops(&bundle(seed).expect("a bundle"))).collect();
        let count = |is: &dyn Fn(&Op) -> bool| all.iter().filter(|op| is(op)).count();
        for name in stitchkit_runtime::bundle::operators::OPERATORS {
            assert!(count(&|op| op.name() == name) > 20, "{name}");
        }
        let conv = |is: &dyn Fn(&Conv2d) -> bool| {
            count(&|op| match op {
                Op::Conv2d { geometry, .. } => is(geometry),
                _ => false,
            })
        };
        assert!(conv(&|g| g.output.c % 4 != 0) > 50 && conv(&|g| g.output.c % 16 == 0) > 10);
        assert!(conv(&|g| g.window.stride != [1, 1]) > 50 && conv(&|g| g.window.dilation != [1, 1]) > 30);
        assert!(conv(&|g| g.groups > 1) > 20 && conv(&|g| g.window == Window::POINT) > 50);
        assert!(conv(&|g| g.pad_value == -128) > 20 && conv(&|g| g.pad_value == 127) > 5);
        assert!(count(&|op| op.arity() == 2 && op.name() == "conv2d") > 20);
        assert!(count(&|op| op.arity() == 2 && op.name() == "depthwise") > 10);
    }

    #[test]
    fn a_failing_recipe_shrinks_to_what_fails() {
        let has_transpose =
            |recipe: &Recipe| ops(&recipe.bundle().expect("a bundle")).iter().any(|o| o.name() == "transpose");
        let failing = (0..).map(Recipe::of_seed).find(|r| has_transpose(r) && r.trunk.len() > 3 && r.detour.len() > 1);
        let least = failing.expect("one of them").shrink(has_transpose);
        assert_eq!((least.trunk.len() + least.detour.len(), least.input, least.classes), (1, Shape::new(1, 1, 1), 1));
        assert!(has_transpose(&least));
    }

    #[test]
    fn a_batch_has_a_plan_per_graph() {
        let bytes = AlignedBytes::copy_of(&batch(7, 12).expect("a bundle"));
        let bundle = Bundle::parse(bytes.as_slice()).expect("a valid bundle");
        assert_eq!(bundle.plan_count(), 12);
        assert_eq!(bundle.golden().map(|golden| golden.count()), Some(2));
    }
}
