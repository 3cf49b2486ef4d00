//! The assembler: from limits to a bundle with the one plan that meets them best, without training.
//!
//! The options are the stitches of a family, on images of one or more sizes, perhaps with fewer classes. All of them are
//! compiled, so memory and flash are exact, latency is the board's prediction, and accuracy is measured on the ranking
//! images. Paths with several crossings are found by [`search`] where there are too many to try them all.
//!
//! | module | purpose |
//! |---|---|
//! | [`search`] | best paths through a network of blocks |
//! | [`paths`] | the network of a family's blocks and crossings |
//! | [`cache`] | results kept between calls |

pub mod cache;
pub mod paths;
pub mod search;

use serde::Serialize;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};

use self::cache::{Cache, Evaluated};
use self::paths::Blocks;
use self::search::{Costs, Path};
use crate::compile::{CompileError, Compiled};
use crate::export::{ExportError, Watch};
use crate::family::Family;
use crate::fleet::limits::{Excess, Figures, Limits, nearest};
use crate::fleet::{self, Need};
use crate::stitch::{Candidate, evaluate, space};
use crate::study::{Settings, Study, int8_correct, study};

/// Paths with several crossings that are measured: all if there are no more, else the best estimates.
const MOST_MEASURED: usize = 16;

/// Spaces of at most so many paths are listed one by one, larger ones are searched.
const MOST_LISTED: u64 = 10_000;

/// Which of the options inside the limits is best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Prefer {
    /// The most accurate, of equals the fastest.
    Accuracy,
    /// The fastest.
    Latency,
    /// The one with the smallest arena.
    Memory,
    /// The one with the smallest bundle.
    Flash,
}

/// What to assemble.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Limits, and how long steps take.
    pub need: Need,
    /// Which option is best.
    pub prefer: Prefer,
    /// Most crossings of a path.
    pub crossings: u32,
    /// Image sizes to try, rows then columns.
    pub sizes: Vec<[usize; 2]>,
}

/// One network that could be shipped.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contender {
    /// Path through the anchors.
    pub path: String,
    /// Rows and columns of its images.
    pub input: [usize; 2],
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Costs, and accuracy on the ranking images.
    #[serde(flatten)]
    pub figures: Figures,
    /// Limits it exceeds.
    pub excesses: Vec<Excess>,
}

/// The result.
#[derive(Debug, Clone)]
pub struct Assembly {
    /// The bundle; `None` if nothing meets the limits.
    pub bundle: Option<Chosen>,
    /// Every option, by size of images, in the order of the enumeration.
    pub options: Vec<Contender>,
    /// Paths in the space, over all image sizes; those that were not measured are beaten or outside of the limits by
    /// costs and estimate.
    pub paths: u64,
    /// Why nothing fits: index of the nearest option and what it exceeds.
    pub miss: Option<(usize, Vec<Excess>)>,
}

/// The bundle of the chosen option.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Index into [`Assembly::options`].
    pub option: usize,
    /// The bundle.
    pub bytes: Vec<u8>,
    /// Float accuracy on the evaluation images.
    pub accuracy_float: f64,
    /// int8 accuracy on the evaluation images; the figure in the bundle.
    pub accuracy: f64,
    /// Images evaluated.
    pub evaluation_images: usize,
    /// False if the golden vectors were left out to fit the flash.
    pub golden: bool,
}

/// A studied list of candidates of one variant.
struct Lot {
    family: Family,
    study: Study,
    key: String,
}

/// Finds the best network inside the limits and builds its bundle. What runs is kept in `cache`.
///
/// # Errors
/// [`ExportError`] from whichever step failed. That nothing fits is no error, see [`Assembly::miss`].
pub fn assemble(
    variants: Vec<Family>,
    order: &Order,
    settings: Settings,
    cache: &mut Cache,
    watch: Watch<'_>,
) -> Result<Assembly, ExportError> {
    let (mut lots, mut paths) = (Vec::new(), 0);
    for family in variants {
        let (more, count) = lots_of(family, order, settings, cache, watch)?;
        lots.extend(more);
        paths += count;
    }
    let mut options = Vec::new();
    let mut places = Vec::new();
    for (index, lot) in lots.iter().enumerate() {
        for (candidate, figures) in lot.study.candidates.iter().zip(figures(&lot.study, &order.need)?) {
            let [rows, columns, _] = lot.family.config.input.shape;
            places.push((index, candidate.id));
            options.push(Contender {
                path: candidate.path.clone(),
                input: [rows, columns],
                macs: candidate.macs,
                figures,
                excesses: order.need.limits.excesses(&figures),
            });
        }
    }
    choose(&lots, &places, options, paths, order, cache, watch)
}

/// Tries the options inside the limits, best first, until one is as accurate as wanted on the evaluation images too.
fn choose(
    lots: &[Lot],
    places: &[(usize, u32)],
    mut options: Vec<Contender>,
    paths: u64,
    order: &Order,
    cache: &mut Cache,
    watch: Watch<'_>,
) -> Result<Assembly, ExportError> {
    for option in ranking(&options, order.prefer) {
        let (lot, id) = (&lots[places[option].0], places[option].1);
        let (evaluated, compiled) = evaluated(lot, id, cache, watch)?;
        let share = |correct: usize| correct as f64 / evaluated.images.max(1) as f64;
        let (accuracy_float, accuracy) = (share(evaluated.float_correct), share(evaluated.int8_correct));
        let reached = Figures { accuracy, ..options[option].figures };
        let excesses = order.need.limits.excesses(&reached);
        if !excesses.is_empty() {
            (options[option].figures, options[option].excesses) = (reached, excesses);
            continue;
        }
        let (bytes, golden) = write(compiled, id, (accuracy, accuracy_float), &order.need.limits)?;
        options[option].figures.flash_bytes = bytes.len() as u64;
        let evaluation_images = evaluated.images;
        let chosen = Chosen { option, bytes, accuracy_float, accuracy, evaluation_images, golden };
        return Ok(Assembly { bundle: Some(chosen), options, paths, miss: None });
    }
    let all: Vec<Figures> = options.iter().map(|o| o.figures).collect();
    let miss = nearest(&all, &order.need.limits);
    Ok(Assembly { bundle: None, options, paths, miss })
}

/// Studies a variant: its enumerated candidates, and the paths with more crossings that are worth it.
fn lots_of(
    family: Family,
    order: &Order,
    settings: Settings,
    cache: &mut Cache,
    watch: Watch<'_>,
) -> Result<(Vec<Lot>, u64), ExportError> {
    let space = space::enumerate(&family)?;
    let single = lot(family.clone(), &space.candidates, settings, &order.need, cache, watch)?;
    if order.crossings < 2 {
        return Ok((vec![single], space.candidates.len() as u64));
    }
    let blocks = Blocks::new(&family, &single.study, &order.need);
    let count = blocks.network.count();
    let more: Vec<Candidate> = worth_measuring(&blocks, order)
        .iter()
        .filter_map(|path| blocks.candidate(path, 0))
        .take(MOST_MEASURED)
        .zip(0..)
        .map(|(candidate, id)| Candidate { id, ..candidate })
        .collect();
    if more.is_empty() {
        return Ok((vec![single], count));
    }
    let several = lot(family, &more, settings, &order.need, cache, watch)?;
    Ok((vec![single, several], count))
}

/// Paths inside the limits as far as costs of blocks tell, best estimate first. Arena and flash of a whole plan are at least
/// those of its blocks, so nothing that fits is left out here.
fn worth_measuring(blocks: &Blocks<'_>, order: &Order) -> Vec<Path> {
    let limits = &order.need.limits;
    let limit = Costs {
        latency_ps: limits.usable_us().map_or(u64::MAX, |us| us.saturating_mul(1_000_000)),
        flash_bytes: limits.flash_bytes.unwrap_or(u64::MAX),
        crossings: order.crossings,
        ram_bytes: limits.ram_bytes.map_or(u64::MAX, |bytes| bytes.saturating_add(order.need.fast_ram_bytes.into())),
    };
    match blocks.network.count() <= MOST_LISTED {
        true => blocks.network.all_paths(&limit),
        false => blocks.network.best_paths(&limit),
    }
}

fn lot(
    family: Family,
    candidates: &[Candidate],
    settings: Settings,
    need: &Need,
    cache: &mut Cache,
    watch: Watch<'_>,
) -> Result<Lot, ExportError> {
    let key = cache::key(&family, candidates, &settings);
    let space = space::enumerate(&family)?;
    let known = cache.get(&key).map(|entry| entry.findings.clone());
    let mut study = study(&family, &space, candidates, settings, known.as_ref(), watch)?;
    study.compiled.lay_out_for(&need.memories())?;
    study.compiled.order_filters(need.filters)?;
    cache.put(&key, &study.findings);
    // An interrupted search starts from here; if the file cannot be written, the caller's last save says so.
    let _ = cache.save();
    Ok(Lot { family, study, key })
}

/// Figures of every candidate of a study, each as the only plan of its bundle, without golden vectors.
fn figures(study: &Study, need: &Need) -> Result<Vec<Figures>, ExportError> {
    let mut bare = study.compiled.clone();
    bare.drop_golden()?;
    let one = |(candidate, (_, accuracy)): (&Candidate, &(f64, f64))| {
        let mut compiled = bare.clone();
        compiled.retain(&[candidate.id])?;
        let bytes = AlignedBytes::copy_of(&compiled.write().map_err(CompileError::from)?);
        let bundle = Bundle::parse(bytes.as_slice()).map_err(CompileError::from)?;
        let figures = fleet::figures(&bundle, need, &[bundle.len_bytes() as u64]);
        let figures = figures.first().copied().ok_or(CompileError::NoPlans)?;
        Ok(Figures { accuracy: *accuracy, ..figures })
    };
    study.candidates.iter().zip(&study.accuracy).map(one).collect()
}

/// Indices of the options inside the limits, best first.
fn ranking(options: &[Contender], prefer: Prefer) -> Vec<usize> {
    let mut inside: Vec<usize> = (0..options.len()).filter(|&i| options[i].excesses.is_empty()).collect();
    let cost = |f: &Figures| match prefer {
        Prefer::Accuracy => 0,
        Prefer::Latency => f.latency_us,
        Prefer::Memory => f.ram_bytes,
        Prefer::Flash => f.flash_bytes,
    };
    inside.sort_by(|&a, &b| {
        let (a, b) = (&options[a].figures, &options[b].figures);
        let by_accuracy = b.accuracy.total_cmp(&a.accuracy);
        cost(a).cmp(&cost(b)).then(by_accuracy).then(a.latency_us.cmp(&b.latency_us))
    });
    inside
}

/// Right answers of a candidate on the evaluation images, from the cache if it knows them, and its compiled plan.
fn evaluated(lot: &Lot, id: u32, cache: &mut Cache, watch: Watch<'_>) -> Result<(Evaluated, Compiled), ExportError> {
    let mut compiled = lot.study.compiled.clone();
    compiled.retain(&[id])?;
    let known = cache.get(&lot.key).and_then(|entry| entry.evaluated.iter().find(|e| e.id == id).copied());
    if let Some(known) = known {
        return Ok((known, compiled));
    }
    let images = lot.family.evaluation_images(None)?;
    let candidate = &lot.study.candidates[id as usize..=id as usize];
    let float = evaluate::accuracy(&lot.family, candidate, &lot.study.layers, &images, &|done, all| {
        watch("evaluating, float", done, all);
    })?;
    let int8 = int8_correct(&compiled, &images, "evaluating, int8", watch)?;
    let evaluated = Evaluated {
        id,
        float_correct: float.first().map_or(0, |a| a.correct),
        int8_correct: int8.first().map_or(0, |(_, correct)| *correct),
        images: images.len(),
    };
    if let Some(entry) = cache.get(&lot.key) {
        entry.evaluated.push(evaluated);
    }
    Ok((evaluated, compiled))
}

/// The bundle's bytes with its accuracy, and whether golden vectors are in it: they are left out if only that fits.
fn write(
    mut compiled: Compiled,
    id: u32,
    (int8, float): (f64, f64),
    limits: &Limits,
) -> Result<(Vec<u8>, bool), ExportError> {
    compiled.set_accuracy(id, int8, float);
    let bytes = compiled.write().map_err(CompileError::from)?;
    if limits.flash_bytes.is_none_or(|limit| bytes.len() as u64 <= limit) {
        return Ok((bytes, compiled.parts().golden.is_some()));
    }
    compiled.drop_golden()?;
    Ok((compiled.write().map_err(CompileError::from)?, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::filters::FilterOrder;
    use crate::stitch::testnet;
    use stitchkit_runtime::profile::LatencyModel;

    fn option(accuracy: f64, latency_us: u64, ram_bytes: u64) -> Contender {
        let figures = Figures { ram_bytes, flash_bytes: ram_bytes, latency_us, accuracy };
        Contender { path: String::new(), input: [1, 1], macs: 0, figures, excesses: Vec::new() }
    }

    #[test]
    fn preferences_order_the_options_and_what_exceeds_a_limit_is_left_out() {
        let mut options = vec![option(0.9, 30, 5), option(0.8, 10, 7), option(0.9, 20, 9), option(0.99, 1, 1)];
        options[3].excesses = vec![Excess::Memory { needed_bytes: 1, available_bytes: 0 }];
        assert_eq!(ranking(&options, Prefer::Accuracy), [2, 0, 1]);
        assert_eq!(ranking(&options, Prefer::Latency), [1, 2, 0]);
        assert_eq!(ranking(&options, Prefer::Memory), [0, 1, 2]);
    }

    /// A study of random networks; the accuracies are made up.
    fn study_of(family: &Family) -> Study {
        let space = space::enumerate(family).unwrap();
        let images = testnet::images(8);
        let layers = crate::stitch::init::least_squares(family, &space, &images, 0.0, &crate::stitch::silent).unwrap();
        let options = crate::compile::ExportOptions { golden_inputs: 0, ..Default::default() };
        let compiled = crate::compile::compile(family, &space.candidates, &layers.layers, &images, &options).unwrap();
        Study::for_tests(family, &space, layers.layers, compiled, images)
    }

    #[test]
    fn the_network_of_blocks_predicts_what_compiled_paths_cost() {
        let family = testnet::family(&[3, 4, 5], &[1, 2, 3]);
        let study = study_of(&family);
        let need = Need {
            board: String::new(),
            limits: Limits::NONE,
            fast_ram_bytes: 0,
            filters: FilterOrder::Apart,
            model: LatencyModel::CORTEX_M4,
            clock_hz: None,
        };
        let blocks = Blocks::new(&family, &study, &need);
        let open = Costs { latency_ps: u64::MAX, flash_bytes: u64::MAX, crossings: 2, ram_bytes: u64::MAX };
        let paths = blocks.network.best_paths(&open);
        let twice: Vec<(Path, Candidate)> =
            paths.iter().filter_map(|path| blocks.candidate(path, 0).map(|c| (path.clone(), c))).collect();
        assert!(!twice.is_empty(), "{paths:?}");
        let images = testnet::images(8);
        for (path, candidate) in twice.iter().take(4) {
            assert_eq!(candidate.path.matches(" > ").count(), 2, "{}", candidate.path);
            let options = crate::compile::ExportOptions { golden_inputs: 0, ..Default::default() };
            let one = std::slice::from_ref(candidate);
            let compiled = crate::compile::compile(&family, one, &study.layers, &images, &options).unwrap();
            let plan = &compiled.parts().plans[0];
            let bytes = AlignedBytes::copy_of(&compiled.write().unwrap());
            let bundle = Bundle::parse(bytes.as_slice()).unwrap();
            let ns = need.model.plan_ns(&bundle, &bundle.plan(0).unwrap());
            assert_eq!(ns, path.costs.latency_ps / 1000, "{}", candidate.path);
            assert_eq!(u64::from(plan.arena_lower_bound_bytes), path.costs.ram_bytes, "{}", candidate.path);
            let macs: u64 = bundle.steps_of(&bundle.plan(0).unwrap()).map(|s| s.step.op.macs()).sum();
            assert_eq!(macs, candidate.macs, "{}", candidate.path);
        }
    }
}
