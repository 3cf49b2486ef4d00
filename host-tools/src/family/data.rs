//! Labelled images: folders of class folders, tar files of the same, and npz files.
//!
//! A source is opened first (names and labels only), then the chosen images are decoded in parallel. Class folders sorted
//! by name are the class indices.

mod files;
mod npz;
mod sample;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use self::sample::shuffled;
use super::{CalibrationConfig, Family, InputConfig};
use crate::graph::Batch;

/// Where labelled images are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSource {
    /// Folder, `.tar` or `.npz`.
    pub path: PathBuf,
    /// Sub-folder, or suffix of the npz keys (`x_<split>`, `y_<split>`; without split `x`, `y`).
    pub split: Option<String>,
}

/// Decoded labelled images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Pixels, images one after the other, each HWC.
    pub images: Vec<u8>,
    /// Class index of each image.
    pub labels: Vec<u16>,
    /// Height, width, channels.
    pub shape: [usize; 3],
}

impl Dataset {
    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// HWC pixels of one image.
    #[must_use]
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.shape.iter().product::<usize>();
        &self.images[index * size..(index + 1) * size]
    }

    /// A range of images as the anchors take them.
    #[must_use]
    pub fn batch(&self, range: Range<usize>, input: &InputConfig) -> Batch {
        let size = self.shape.iter().product::<usize>();
        let data = input.normalize(&self.images[range.start * size..range.end * size]);
        Batch { n: range.len(), shape: self.shape.to_vec(), data }
    }
}

/// Why labelled images cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Nothing at the path.
    #[error("{path}: does not exist")]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{path}: cannot be read")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Neither folder nor tar nor npz.
    #[error("{path}: is neither a folder nor a .tar nor an .npz file")]
    Unsupported {
        /// The path.
        path: PathBuf,
    },
    /// The split is not there.
    #[error("{path}: no split `{split}`; it holds {}", listed(.found))]
    NoSplit {
        /// The source.
        path: PathBuf,
        /// The split asked for.
        split: String,
        /// What is there instead.
        found: Vec<String>,
    },
    /// No images.
    #[error("{path}: no images in {place}")]
    Empty {
        /// The source.
        path: PathBuf,
        /// Where images were expected.
        place: String,
    },
    /// A file among the images is none, or lies outside of class folders.
    #[error("{path}: {entry}: {reason}")]
    Stray {
        /// The source.
        path: PathBuf,
        /// The file.
        entry: String,
        /// Why it is unexpected.
        reason: &'static str,
    },
    /// An image that cannot be decoded.
    #[error("{name}: not a readable image: {reason}")]
    Image {
        /// The image.
        name: String,
        /// What the decoder says.
        reason: String,
    },
    /// An image or array of another size.
    #[error("{name}: is {}, expected {}", by(.found), by(.wanted))]
    Size {
        /// The image or array.
        name: String,
        /// Height, width and, where known, channels.
        found: Vec<usize>,
        /// Height, width, channels.
        wanted: Vec<usize>,
    },
    /// Class folders that are not the labels.
    #[error("{path}: class folders are {}, `labels` are {}", listed(.found), listed(.labels))]
    Classes {
        /// The source.
        path: PathBuf,
        /// Class folders in order.
        found: Vec<String>,
        /// Labels of the family.
        labels: Vec<String>,
    },
    /// A class index without a label.
    #[error("{path}: label {label} of image {index} is not below {classes}")]
    Label {
        /// The source.
        path: PathBuf,
        /// The image.
        index: usize,
        /// Its label.
        label: i64,
        /// Number of classes.
        classes: usize,
    },
    /// An npz file that does not hold what it must.
    #[error("{path}: {reason}")]
    Npz {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Fewer images than asked for.
    #[error("{path}: holds {available} images, {wanted} are needed for {purpose}")]
    TooFew {
        /// The source.
        path: PathBuf,
        /// Images there.
        available: usize,
        /// Images asked for.
        wanted: usize,
        /// What for.
        purpose: &'static str,
    },
    /// The family does not say where images are.
    #[error("{family}: family.toml has no [{section}]")]
    NoSection {
        /// Name of the family.
        family: String,
        /// The table that is missing.
        section: &'static str,
    },
}

fn by(extents: &[usize]) -> String {
    extents.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// A source that was opened: labels are known, images are decoded on demand.
#[derive(Debug)]
pub struct Listing {
    path: PathBuf,
    shape: [usize; 3],
    labels: Vec<u16>,
    store: Store,
}

#[derive(Debug)]
enum Store {
    Folder(Vec<PathBuf>),
    Tar(Vec<files::TarEntry>),
    Memory(Vec<u8>),
}

impl Listing {
    /// Opens a source. `labels` may be empty; else class folders must equal them in order, and npz labels index them.
    ///
    /// # Errors
    /// Every [`DataError`] but those of single images.
    pub fn open(source: &DataSource, shape: [usize; 3], labels: &[String]) -> Result<Self, DataError> {
        let path = &source.path;
        let split = source.split.as_deref();
        if !path.exists() {
            return Err(DataError::Missing { path: path.clone() });
        }
        let has_extension = |wanted: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(wanted));
        let (labels, store) = if path.is_dir() {
            let (labels, files) = files::list_folder(path, split, labels)?;
            (labels, Store::Folder(files))
        } else if has_extension("tar") {
            let (labels, entries) = files::list_tar(path, split, labels)?;
            (labels, Store::Tar(entries))
        } else if has_extension("npz") {
            let (labels, pixels) = npz::read(path, split, shape, labels)?;
            (labels, Store::Memory(pixels))
        } else {
            return Err(DataError::Unsupported { path: path.clone() });
        };
        Ok(Self { path: path.clone(), shape, labels, store })
    }

    /// Number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// For every image whether it is among the last `count` of its class.
    fn last_of_each_class(&self, count: usize) -> Vec<bool> {
        let mut left: HashMap<u16, usize> = HashMap::new();
        let mut marks: Vec<bool> = self
            .labels
            .iter()
            .rev()
            .map(|&label| {
                let left = left.entry(label).or_insert(count);
                let is_last = *left > 0;
                *left = left.saturating_sub(1);
                is_last
            })
            .collect();
        marks.reverse();
        marks
    }

    /// Decodes the chosen images, in the order of `indices`, each below [`Self::len`].
    ///
    /// # Errors
    /// [`DataError::Image`], [`DataError::Size`] and [`DataError::Io`] for the first image that cannot be used.
    pub fn load(&self, indices: &[usize]) -> Result<Dataset, DataError> {
        let images = match &self.store {
            Store::Folder(files) => files::decode_folder(files, indices, self.shape)?,
            Store::Tar(entries) => files::decode_tar(&self.path, entries, indices, self.shape)?,
            Store::Memory(pixels) => {
                let size = self.shape.iter().product::<usize>();
                indices.iter().flat_map(|&index| &pixels[index * size..(index + 1) * size]).copied().collect()
            }
        };
        let labels = indices.iter().map(|&index| self.labels[index]).collect();
        Ok(Dataset { images, labels, shape: self.shape })
    }
}

/// Loads all images of a source; see [`Listing::open`].
///
/// # Errors
/// Any [`DataError`].
pub fn load_dataset(source: &DataSource, shape: [usize; 3], labels: &[String]) -> Result<Dataset, DataError> {
    let listing = Listing::open(source, shape, labels)?;
    listing.load(&(0..listing.len()).collect::<Vec<_>>())
}

/// Training images in their two roles, without overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingImages {
    /// For stitching layers and activation ranges.
    pub calibration: Dataset,
    /// For ranking candidates.
    pub search: Dataset,
}

/// What each image of the calibration source is for.
struct Roles {
    calibration: Vec<usize>,
    ranking: Vec<usize>,
    /// Neither; networks may be trained on these.
    unused: Vec<usize>,
}

impl Family {
    /// Loads the calibration images and the images that rank candidates, both drawn in the order that the seed gives. The
    /// ranking images are the held-out ones if the family names any, else what calibration leaves, up to `search-images`.
    ///
    /// # Errors
    /// [`DataError::NoSection`] without `[calibration]`, [`DataError::TooFew`] when no image is left to rank with, or any
    /// other [`DataError`].
    pub fn training_images(&self) -> Result<TrainingImages, DataError> {
        let (listing, roles) = self.training_roles()?;
        Ok(TrainingImages {
            calibration: self.adapt(listing.load(&roles.calibration)?),
            search: self.adapt(listing.load(&roles.ranking)?),
        })
    }

    /// Loads all images that networks may be trained on: those of the calibration source that do not rank candidates.
    ///
    /// # Errors
    /// As [`Self::training_images`].
    pub fn learning_images(&self) -> Result<Dataset, DataError> {
        let (listing, roles) = self.training_roles()?;
        let mut chosen = [roles.calibration, roles.unused].concat();
        chosen.sort_unstable();
        Ok(self.adapt(listing.load(&chosen)?))
    }

    fn training_roles(&self) -> Result<(Listing, Roles), DataError> {
        let section = self.config.calibration.as_ref().ok_or_else(|| self.no_section("calibration"))?;
        let source = self.source(&section.data, section.split.as_deref());
        let listing = Listing::open(&source, self.stored_shape(), self.stored_labels())?;
        let too_few = |wanted, purpose| DataError::TooFew {
            path: source.path.clone(),
            available: listing.len(),
            wanted,
            purpose,
        };
        let order: Vec<usize> = shuffled(listing.len(), section.seed)
            .into_iter()
            .filter(|&index| self.has_class(&listing, index))
            .collect();
        let held_out = listing.last_of_each_class(section.held_out_per_class);
        let (mut ranking, mut seen): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|&index| held_out[index]);
        let calibration = self.calibration_images(section, seen.len());
        if seen.len() < calibration || calibration == 0 {
            return Err(too_few(section.images, "calibration"));
        }
        let mut unused = seen.split_off(calibration);
        let most = self.config.evaluation.as_ref().map_or(usize::MAX, |evaluation| evaluation.search_images);
        if section.held_out_per_class == 0 {
            ranking = unused.drain(..most.min(unused.len())).collect();
        }
        if ranking.is_empty() {
            return Err(too_few(section.images + 1, "calibration and for ranking candidates"));
        }
        ranking.truncate(most);
        self.check_outputs(&listing)?;
        Ok((listing, Roles { calibration: seen, ranking, unused }))
    }

    /// Images that calibrate, of `seen` that may. With fewer classes there are fewer images; then those that are there have
    /// to do, less a quarter for ranking where none were held out.
    fn calibration_images(&self, section: &CalibrationConfig, seen: usize) -> usize {
        match (&self.variant.classes, section.held_out_per_class) {
            (None, _) => section.images,
            (Some(_), 0) => section.images.min(seen - seen / 4),
            (Some(_), _) => section.images.min(seen),
        }
    }

    fn has_class(&self, listing: &Listing, index: usize) -> bool {
        self.variant.classes.as_ref().is_none_or(|classes| classes.index_of(listing.labels[index]).is_some())
    }

    /// Loads the held-out images: all of them, or `limit` of them chosen with the calibration seed.
    ///
    /// # Errors
    /// [`DataError::NoSection`] without `[evaluation]`, or any other [`DataError`].
    pub fn evaluation_images(&self, limit: Option<usize>) -> Result<Dataset, DataError> {
        let section = self.config.evaluation.as_ref().ok_or_else(|| self.no_section("evaluation"))?;
        let source = self.source(&section.data, section.split.as_deref());
        let listing = Listing::open(&source, self.stored_shape(), self.stored_labels())?;
        self.check_outputs(&listing)?;
        let seed = self.config.calibration.as_ref().map_or(0, |calibration| calibration.seed);
        let mut chosen: Vec<usize> = match limit.filter(|&limit| limit < listing.len()) {
            None => (0..listing.len()).collect(),
            Some(_) => shuffled(listing.len(), seed),
        };
        chosen.retain(|&index| self.has_class(&listing, index));
        chosen.truncate(limit.unwrap_or(usize::MAX));
        Ok(self.adapt(listing.load(&chosen)?))
    }

    fn source(&self, data: &Path, split: Option<&str>) -> DataSource {
        DataSource { path: self.folder.join(data), split: split.map(str::to_owned) }
    }

    fn no_section(&self, section: &'static str) -> DataError {
        DataError::NoSection { family: self.config.name.clone(), section }
    }

    /// Labels beyond the anchors' outputs are found here when the family names no labels.
    fn check_outputs(&self, listing: &Listing) -> Result<(), DataError> {
        let Some(anchor) = self.anchors.first() else { return Ok(()) };
        let outputs = anchor.graph.elements(anchor.graph.output);
        let classes = self.variant.classes.as_ref().map_or(outputs, |classes| classes.all);
        match listing.labels.iter().position(|&label| usize::from(label) >= classes) {
            None => Ok(()),
            Some(index) => {
                let label = i64::from(listing.labels[index]);
                Err(DataError::Label { path: listing.path.clone(), index, label, classes })
            }
        }
    }
}
