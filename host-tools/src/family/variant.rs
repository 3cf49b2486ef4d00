//! A family with fewer classes, or for images of another size. No weight changes; everything that depends on the images
//! (stitching layers, ranges, accuracy) is found anew on the images of the variant.

use image::imageops::{FilterType, resize};
use image::{GrayImage, ImageBuffer};

use super::{Dataset, Family, Located};
use crate::graph::{Graph, head::HeadError, resize::ResizeError};

/// How a family differs from its `family.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variant {
    /// The classes that are left; `None` for all.
    pub classes: Option<Classes>,
    /// Extents of the images as they are stored, where they are resized; `None` for images of the input's size.
    pub stored_shape: Option<[usize; 3]>,
}

/// Some classes of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// Indices of the classes that are left, in the order of the outputs.
    pub kept: Vec<usize>,
    /// Labels of all classes; empty if the family names none.
    pub all_labels: Vec<String>,
    /// Number of all classes.
    pub all: usize,
}

impl Classes {
    /// New index of a class; `None` if it was left out.
    #[must_use]
    pub fn index_of(&self, label: u16) -> Option<u16> {
        self.kept.iter().position(|&kept| kept == usize::from(label)).map(|index| index as u16)
    }
}

/// Why a family has no such variant.
#[derive(Debug, thiserror::Error)]
pub enum VariantError {
    /// Classes that the family does not have, or named twice, or fewer than two.
    #[error("{reason}; the classes are {}", known.join(", "))]
    Classes {
        /// What is wrong.
        reason: String,
        /// Labels, or indices where there are none.
        known: Vec<String>,
    },
    /// A head that cannot be cut.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Anchors that belong to one image size, all of them.
    #[error("images of {rows}x{columns} are not possible:{}", problems.iter().map(|p| format!("\n  {p}")).collect::<String>())]
    Size {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        columns: usize,
        /// One problem per anchor.
        problems: Vec<ResizeError>,
    },
    /// Anchors whose shapes follow rules that resizing does not know.
    #[error("anchor {anchor}: its shapes cannot be inferred for another image size")]
    Shapes {
        /// The anchor.
        anchor: String,
    },
    /// The anchors no longer form a family.
    #[error("no family at this size: {}", problems.iter().map(|(_, p)| p.as_str()).collect::<Vec<_>>().join("; "))]
    Family {
        /// Everything found.
        problems: Vec<Located>,
    },
}

impl Family {
    /// The family that tells apart only the given classes: labels, or indices where the family names no labels. The last
    /// layer of every anchor is cut to their rows; images of other classes are left out.
    ///
    /// # Errors
    /// [`VariantError`] for unknown or repeated classes and heads that cannot be cut.
    pub fn with_classes(&self, names: &[String]) -> Result<Self, VariantError> {
        let all = self.anchors.first().map_or(0, |a| a.graph.elements(a.graph.output));
        let known: Vec<String> = match self.config.labels.is_empty() {
            true => (0..all).map(|index| index.to_string()).collect(),
            false => self.config.labels.clone(),
        };
        let kept = indices(&known, names)?;
        let graphs = self.anchors.iter().map(|a| a.graph.keep_outputs(&kept)).collect::<Result<Vec<Graph>, _>>()?;
        let mut config = self.config.clone();
        config.labels =
            if config.labels.is_empty() { Vec::new() } else { kept.iter().map(|&k| known[k].clone()).collect() };
        let mut family = Self::assemble(config, self.folder.clone(), graphs)
            .map_err(|problems| VariantError::Family { problems })?;
        family.variant = self.variant.clone();
        family.variant.classes = Some(Classes { kept, all_labels: self.config.labels.clone(), all });
        Ok(family)
    }

    /// The family on images of `rows` x `columns`. Stored images are resized with a triangle filter that covers all pixels
    /// (bilinear with antialiasing); a device has to feed images of this size.
    ///
    /// # Errors
    /// [`VariantError::Size`] names a node of every anchor that belongs to its original size.
    pub fn with_input_size(&self, rows: usize, columns: usize) -> Result<Self, VariantError> {
        let (mut graphs, mut problems) = (Vec::new(), Vec::new());
        for anchor in &self.anchors {
            match anchor.graph.with_input_size(rows, columns) {
                Ok(_) if !anchor.graph.keeps_its_shapes() => {
                    return Err(VariantError::Shapes { anchor: anchor.name.clone() });
                }
                Ok(graph) => graphs.push(graph),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(VariantError::Size { rows, columns, problems });
        }
        let stored = self.stored_shape();
        let mut config = self.config.clone();
        config.input.shape = [rows, columns, stored[2]];
        let mut family = Self::assemble(config, self.folder.clone(), graphs)
            .map_err(|problems| VariantError::Family { problems })?;
        family.variant = self.variant.clone();
        family.variant.stored_shape = (family.config.input.shape != stored).then_some(stored);
        Ok(family)
    }

    /// Extents of the images as they are stored.
    #[must_use]
    pub fn stored_shape(&self) -> [usize; 3] {
        self.variant.stored_shape.unwrap_or(self.config.input.shape)
    }

    /// Labels of the stored images.
    pub(super) fn stored_labels(&self) -> &[String] {
        self.variant.classes.as_ref().map_or(&self.config.labels, |classes| &classes.all_labels)
    }

    /// Stored images, all of classes that are left, as this family takes them.
    pub(super) fn adapt(&self, stored: Dataset) -> Dataset {
        let mut dataset = stored;
        if let Some(classes) = &self.variant.classes {
            dataset.labels = dataset.labels.iter().filter_map(|&label| classes.index_of(label)).collect();
        }
        let shape = self.config.input.shape;
        if dataset.shape != shape {
            dataset.images = (0..dataset.len()).flat_map(|i| resized(dataset.image(i), dataset.shape, shape)).collect();
            dataset.shape = shape;
        }
        dataset
    }
}

fn indices(known: &[String], names: &[String]) -> Result<Vec<usize>, VariantError> {
    let wrong = |reason: String| VariantError::Classes { reason, known: known.to_vec() };
    let unknown: Vec<&str> = names.iter().filter(|n| !known.contains(n)).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(wrong(format!("no class {}", unknown.join(", "))));
    }
    let kept: Vec<usize> = names.iter().filter_map(|name| known.iter().position(|k| k == name)).collect();
    if let Some(twice) = (1..kept.len()).find(|&i| kept[..i].contains(&kept[i])) {
        return Err(wrong(format!("class {} is named twice", names[twice])));
    }
    if kept.len() < 2 {
        return Err(wrong("at least two classes are needed".to_owned()));
    }
    Ok(kept)
}

/// HWC pixels at another size, channel by channel.
fn resized(pixels: &[u8], [rows, columns, channels]: [usize; 3], to: [usize; 3]) -> Vec<u8> {
    let mut result = vec![0; to.iter().product()];
    for channel in 0..channels {
        let plane: Vec<u8> = pixels.iter().skip(channel).step_by(channels).copied().collect();
        let Some(plane): Option<GrayImage> = ImageBuffer::from_raw(columns as u32, rows as u32, plane) else {
            continue;
        };
        let plane = resize(&plane, to[1] as u32, to[0] as u32, FilterType::Triangle).into_raw();
        result.iter_mut().skip(channel).step_by(channels).zip(plane).for_each(|(to, from)| *to = from);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stitch::testnet;

    #[test]
    fn resizing_keeps_constant_channels_and_their_places() {
        let image: Vec<u8> = [10, 200].repeat(4 * 6);
        let small = resized(&image, [4, 6, 2], [2, 3, 2]);
        assert_eq!(small, [10, 200].repeat(6));
    }

    #[test]
    fn images_of_other_classes_leave_and_labels_count_anew() {
        let family = testnet::family(&[2, 2], &[1, 2]);
        let some = family.with_classes(&["3".into(), "1".into()]).unwrap();
        let classes = some.variant.classes.as_ref().unwrap();
        assert_eq!((classes.index_of(3), classes.index_of(1), classes.index_of(0)), (Some(0), Some(1), None));
        assert!(some.anchors.iter().all(|a| a.graph.elements(a.graph.output) == 2));
        assert!(some.anchors[0].macs < family.anchors[0].macs);
    }

    #[test]
    fn wrong_classes_are_named_with_those_that_exist() {
        let family = testnet::family(&[2, 2], &[1, 2]);
        for (names, said) in [(&["7", "0"][..], "no class 7"), (&["1", "1"], "twice"), (&["1"], "at least two")] {
            let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
            let error = family.with_classes(&names).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("0, 1, 2, 3, 4"), "{error}");
        }
    }
}
