//! npz files: `x` of `u8` pixels, `[n, h, w, c]` or `[n, h, w]` for one channel, and `y` of integer labels, `[n]`.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use ndarray::ArrayD;
use ndarray_npy::{NpzReader, ReadableElement};

use super::DataError;

type Reader = NpzReader<BufReader<File>>;

/// Labels and HWC pixels of all images.
pub(super) fn read(
    path: &Path,
    split: Option<&str>,
    shape: [usize; 3],
    labels: &[String],
) -> Result<(Vec<u16>, Vec<u8>), DataError> {
    let wrong = |reason: String| DataError::Npz { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    let mut reader =
        NpzReader::new(BufReader::new(file)).map_err(|error| wrong(format!("not an npz file: {error}")))?;
    let names = reader.names().map_err(|error| wrong(format!("not an npz file: {error}")))?;
    let key = |axis: &str| split.map_or_else(|| axis.to_owned(), |split| format!("{axis}_{split}"));
    let (x, y) = (key("x"), key("y"));
    if !names.contains(&x) || !names.contains(&y) {
        let split = split.map_or_else(|| format!("({x}, {y})"), |split| format!("{split} ({x}, {y})"));
        return Err(DataError::NoSplit { path: path.to_owned(), split, found: names });
    }
    let pixels: ArrayD<u8> = reader
        .by_name(&x)
        .map_err(|error| wrong(format!("`{x}` must be u8 pixels, [n, h, w, c] or [n, h, w]: {error}")))?;
    let found = pixels.shape().get(1..).unwrap_or_default();
    if found != shape && !(shape[2] == 1 && found == &shape[..2]) {
        let name = format!("{}: an image of `{x}`", path.display());
        return Err(DataError::Size { name, found: found.to_vec(), wanted: shape.to_vec() });
    }
    let count = pixels.shape()[0];
    if count == 0 {
        return Err(DataError::Empty { path: path.to_owned(), place: format!("`{x}`") });
    }
    let values = read_labels(&mut reader, &y).ok_or_else(|| wrong(format!("`{y}` must be a list of integers")))?;
    if values.len() != count {
        return Err(wrong(format!("`{x}` holds {count} images, `{y}` {} labels", values.len())));
    }
    let classes = if labels.is_empty() { usize::from(u16::MAX) + 1 } else { labels.len() };
    Ok((check_labels(path, &values, classes)?, pixels.iter().copied().collect()))
}

fn read_labels(reader: &mut Reader, key: &str) -> Option<Vec<i64>> {
    of_type::<i64>(reader, key)
        .or_else(|| of_type::<u8>(reader, key))
        .or_else(|| of_type::<i32>(reader, key))
        .or_else(|| of_type::<u16>(reader, key))
        .or_else(|| of_type::<i16>(reader, key))
        .or_else(|| of_type::<u32>(reader, key))
        .or_else(|| of_type::<i8>(reader, key))
}

fn of_type<T: ReadableElement + Into<i64> + Copy>(reader: &mut Reader, key: &str) -> Option<Vec<i64>> {
    let array: ArrayD<T> = reader.by_name(key).ok()?;
    (array.ndim() == 1).then(|| array.iter().map(|&value| value.into()).collect())
}

fn check_labels(path: &Path, values: &[i64], classes: usize) -> Result<Vec<u16>, DataError> {
    let checked = values.iter().enumerate().map(|(index, &label)| {
        let fits = u16::try_from(label).ok().filter(|&value| usize::from(value) < classes);
        fits.ok_or_else(|| DataError::Label { path: path.to_owned(), index, label, classes })
    });
    checked.collect()
}
