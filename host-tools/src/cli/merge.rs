//! `stitchkit merge`.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use stitchkit::assemble::cache::Cache;
use stitchkit::shard::{self, Kind, MergeError, Part};

use super::{Ui, eval, output_file, stitches};

/// Arguments of `stitchkit merge`.
///
/// Joins what `stitches --evaluate --shard I/N` or `eval --shard I/N` wrote on N machines, and prints what the verb without
/// --shard would have printed. Parts that are missing, there twice or of another measurement are all named, and nothing is written.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Command {
    /// All parts, in any order.
    #[arg(required = true, value_name = "PART")]
    parts: Vec<PathBuf>,
    /// Keep the stitches' results where `stitches --evaluate`, `assemble` and `export --cache` find them; beside family.toml
    /// that is family.cache.json.
    #[arg(long, value_name = "FILE")]
    cache: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  for I in 1 2 3 4; do stitchkit stitches FAMILY --evaluate --shard $I/4 --out part-$I.jsonl; done
  stitchkit merge part-*.jsonl --cache FAMILY/family.cache.json
  stitchkit export FAMILY --cache FAMILY/family.cache.json --out family.stk   measures the kept stitches only";

impl Command {
    /// Runs the verb.
    pub fn run(self, ui: &Ui) -> anyhow::Result<()> {
        self.cache.as_deref().map(output_file::check).transpose()?;
        let (mut parts, mut problems) = (Vec::new(), Vec::new());
        for path in &self.parts {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"));
            match text.map(|text| Part::parse(&name, &text)) {
                Ok(Ok(part)) => parts.push(part),
                Ok(Err(MergeError { problems: found })) => problems.extend(found),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(MergeError { problems }.into());
        }
        let whole = shard::merge(parts)?;
        match (&self.cache, whole.header.kind) {
            (Some(path), Kind::Stitches) => {
                let findings = whole.header.findings.clone().context("the first part holds no findings")?;
                let key = whole.header.key.as_deref().context("the first part holds no key")?;
                let counts =
                    whole.counts.iter().map(|count| (count.correct_float.unwrap_or(0), count.correct)).collect();
                let mut cache = Cache::open(path);
                cache.put(key, &findings.with_counts(counts, whole.header.images));
                cache.save().with_context(|| format!("cannot write {}", path.display()))?;
            }
            (Some(_), Kind::Eval) => return Err(anyhow!("--cache keeps stitches; these are parts of `eval`")),
            (None, _) => {}
        }
        match whole.header.kind {
            Kind::Stitches => stitches::print_whole(ui, &whole),
            Kind::Eval => eval::print_whole(ui, &whole),
        }
    }
}
