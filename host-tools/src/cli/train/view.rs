//! What people see of a run: the plan, progress, and the table at the end.

use std::fmt::Write as _;
use std::sync::Mutex;

use indicatif::ProgressBar;
use stitchkit::family::Family;
use stitchkit::report::table::{Align, Table, grouped, percent};
use stitchkit::train::sampler::line_gaps;
use stitchkit::train::settings::Quantized;
use stitchkit::train::{Outcome, Plan, Progress, Watch};

use super::super::Ui;
use super::super::stages::Stages;

/// Progress on a terminal; a line per validation anywhere.
pub struct View<'a> {
    ui: &'a Ui,
    stages: Stages<'a>,
    anchors: usize,
    bar: Mutex<Option<ProgressBar>>,
}

impl<'a> View<'a> {
    /// Nothing is shown yet.
    pub fn new(ui: &'a Ui, family: &Family) -> Self {
        Self { ui, stages: Stages::new(ui), anchors: family.anchors.len(), bar: Mutex::new(None) }
    }

    /// Removes the bars.
    pub fn finish(&self) {
        self.stages.finish();
        if let Ok(Some(bar)) = self.bar.lock().map(|mut bar| bar.take()) {
            bar.finish_and_clear();
        }
    }
}

impl Watch for View<'_> {
    fn stage(&self, name: &'static str, done: u64, all: u64) {
        self.stages.show(name, done, all);
        if done == all {
            self.stages.finish();
        }
    }

    fn step(&self, progress: Progress) {
        let Ok(mut bar) = self.bar.lock() else { return };
        let bar = bar.get_or_insert_with(|| {
            let bar = self.ui.bar(progress.steps, "training");
            bar.set_position(progress.step.saturating_sub(1));
            bar.reset_eta();
            bar
        });
        bar.set_position(progress.step);
        bar.set_message(format!(
            "epoch {}, loss {:.3}, {:.0} images/s",
            progress.epoch + 1,
            progress.loss,
            progress.images_per_second
        ));
    }

    fn validation(&self, epoch: u32, before: &[f64], now: &[f64]) {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let anchors: Vec<String> = now[..self.anchors].iter().map(|&accuracy| percent(accuracy)).collect();
        let when = if epoch == 0 { "start".to_owned() } else { format!("epoch {epoch}") };
        let mut line = format!("{when}: anchors {}", anchors.join(", "));
        let (now, before) = (&now[self.anchors..], &before[self.anchors..]);
        if !now.is_empty() {
            let _ = write!(line, "; stitches {} on average, {} before", percent(mean(now)), percent(mean(before)));
        }
        match self.bar.lock().as_deref() {
            Ok(Some(bar)) => bar.suspend(|| self.ui.note(line)),
            _ => self.ui.note(line),
        }
    }
}

/// The plan of a dry run.
pub fn plan(family: &str, plan: &Plan) -> String {
    let mut text = String::new();
    let mib = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let memory = plan.memory_bytes;
    let _ = writeln!(
        text,
        "{family}: {} steps ({} per epoch) on {} images, validated on {} held-out ones\n\
         trains {} numbers, {} stay frozen\n\
         memory: images {}, parameters with gradients and moments {}, a step {}; {} in all\n",
        grouped(plan.steps),
        grouped(plan.epoch_steps),
        grouped(plan.training_images as u64),
        grouped(plan.validation_images as u64),
        grouped(plan.trained_parameters as u64),
        grouped(plan.frozen_parameters as u64),
        mib(memory.images),
        mib(memory.parameters),
        mib(memory.step),
        mib(memory.images + memory.parameters + memory.step),
    );
    for node in &plan.unwritable {
        let _ = writeln!(text, "stays frozen, the file has no place for other values: {node}");
    }
    let mut table = Table::new(&[
        ("stitch", Align::Right),
        ("MACs", Align::Right),
        ("first draws", Align::Right),
        ("path", Align::Left),
    ]);
    for (network, share) in &plan.networks {
        table.row([network.id.to_string(), grouped(network.macs), percent(*share), network.path.clone()]);
    }
    text + &table.to_string()
}

/// The table after a run.
pub fn outcome(folder: &str, outcome: &Outcome) -> String {
    let macs: Vec<u64> = outcome.networks.iter().map(|network| network.macs).collect();
    let is_anchor: Vec<bool> = outcome.networks.iter().map(|network| network.is_anchor).collect();
    let gaps = line_gaps(&macs, &is_anchor, &outcome.after);
    let mut table = Table::new(&[
        ("stitch", Align::Right),
        ("MACs", Align::Right),
        ("before", Align::Right),
        ("after", Align::Right),
        ("change", Align::Right),
        ("to line", Align::Right),
        ("draws", Align::Right),
        ("", Align::Left),
        ("path", Align::Left),
    ]);
    for (n, network) in outcome.networks.iter().enumerate() {
        table.row([
            network.id.to_string(),
            grouped(network.macs),
            percent(outcome.before[n]),
            percent(outcome.after[n]),
            format!("{:+.2}", 100.0 * (outcome.after[n] - outcome.before[n])),
            if network.is_anchor { String::new() } else { format!("{:+.2}", -100.0 * gaps[n]) },
            grouped(outcome.draws[n]),
            if outcome.dropped[n] { "dropped".to_owned() } else { String::new() },
            network.path.clone(),
        ]);
    }
    format!(
        "{folder}: {} steps; accuracy in {} on {} held-out images; `to line` is the distance from the straight line between \
         the anchors around it, over the logarithm of MACs\n\n{table}",
        grouped(outcome.steps),
        if outcome.quantized == Quantized::Activations { "int8" } else { "float" },
        grouped(outcome.validation_images as u64),
    )
}
