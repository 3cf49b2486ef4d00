//! Class folders of PNG and JPEG files, on disk or in a tar file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::DataError;
use crate::family::image::decode;

/// An image inside a tar file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TarEntry {
    name: String,
    offset: u64,
    size: u64,
}

/// An image file and the class folder it lies in.
struct Found<T> {
    class: String,
    /// Order inside the class.
    name: String,
    place: T,
}

/// Labels and files of a folder, by class and then by name.
pub(super) fn list_folder(
    path: &Path,
    split: Option<&str>,
    labels: &[String],
) -> Result<(Vec<u16>, Vec<PathBuf>), DataError> {
    let root = split.map_or_else(|| path.to_owned(), |split| path.join(split));
    if !root.is_dir() {
        let split = split.unwrap_or_default().to_owned();
        let found = children(path)?.into_iter().filter(|child| child.is_dir()).map(|child| file_name(&child)).collect();
        return Err(DataError::NoSplit { path: path.to_owned(), split, found });
    }
    let (mut found, mut classes) = (Vec::new(), BTreeSet::new());
    for child in children(&root)? {
        if !child.is_dir() {
            reject_loose(path, &file_name(&child))?;
            continue;
        }
        let class = file_name(&child);
        classes.insert(class.clone());
        for file in children(&child)? {
            require_image(path, &file.display().to_string(), file.is_dir())?;
            found.push(Found { class: class.clone(), name: file_name(&file), place: file });
        }
    }
    arrange(path, &root.display().to_string(), found, &classes, labels)
}

/// Labels and entries of a tar file, by class and then by name. Nothing is decoded. The split may lie in a folder of its
/// own, as in `cifar10/train/cat/1.png`.
pub(super) fn list_tar(
    path: &Path,
    split: Option<&str>,
    labels: &[String],
) -> Result<(Vec<u16>, Vec<TarEntry>), DataError> {
    let unreadable = |source| DataError::Io { path: path.to_owned(), source };
    let mut archive = tar::Archive::new(BufReader::new(File::open(path).map_err(unreadable)?));
    let (mut found, mut classes, mut above) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for entry in archive.entries_with_seek().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(unreadable)?.display().to_string();
        let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let [folders @ .., class, file] = parts.as_slice() else {
            reject_loose(path, &name)?;
            continue;
        };
        if file.starts_with('.') {
            continue;
        }
        let folders = folders.join("/");
        let inside = split.is_none_or(|split| folders == split || folders.ends_with(&format!("/{split}")));
        above.insert(folders);
        if !inside {
            continue;
        }
        require_image(path, &name, false)?;
        classes.insert((*class).to_owned());
        let place = TarEntry { name: name.clone(), offset: entry.raw_file_position(), size: entry.size() };
        found.push(Found { class: (*class).to_owned(), name: (*file).to_owned(), place });
    }
    let above: Vec<String> = above.into_iter().collect();
    match split {
        Some(split) if found.is_empty() && !above.is_empty() => {
            Err(DataError::NoSplit { path: path.to_owned(), split: split.to_owned(), found: above })
        }
        None if above.len() > 1 => {
            Err(DataError::NoSplit { path: path.to_owned(), split: "(none given)".to_owned(), found: above })
        }
        _ => arrange(path, split.unwrap_or("it"), found, &classes, labels),
    }
}

/// Decodes chosen files in order.
pub(super) fn decode_folder(files: &[PathBuf], indices: &[usize], shape: [usize; 3]) -> Result<Vec<u8>, DataError> {
    let images: Result<Vec<Vec<u8>>, DataError> = indices
        .par_iter()
        .map(|&index| {
            let path = &files[index];
            let bytes = fs::read(path).map_err(|source| DataError::Io { path: path.clone(), source })?;
            decode(&path.display().to_string(), &bytes, shape)
        })
        .collect();
    Ok(images?.concat())
}

/// Images that one task decodes with one open file.
const TASK_IMAGES: usize = 64;

/// Decodes chosen entries in order.
pub(super) fn decode_tar(
    path: &Path,
    entries: &[TarEntry],
    indices: &[usize],
    shape: [usize; 3],
) -> Result<Vec<u8>, DataError> {
    let unreadable = |source| DataError::Io { path: path.to_owned(), source };
    let images: Result<Vec<Vec<u8>>, DataError> = indices
        .par_chunks(TASK_IMAGES)
        .map(|chunk| {
            let mut file = File::open(path).map_err(unreadable)?;
            let mut pixels = Vec::with_capacity(chunk.len() * shape.iter().product::<usize>());
            for &index in chunk {
                let entry = &entries[index];
                let mut bytes = Vec::new();
                file.seek(SeekFrom::Start(entry.offset)).map_err(unreadable)?;
                file.by_ref().take(entry.size).read_to_end(&mut bytes).map_err(unreadable)?;
                pixels.extend(decode(&format!("{}: {}", path.display(), entry.name), &bytes, shape)?);
            }
            Ok(pixels)
        })
        .collect();
    Ok(images?.concat())
}

/// Sorts by class and name, and checks the classes against the labels.
fn arrange<T>(
    path: &Path,
    place: &str,
    mut found: Vec<Found<T>>,
    classes: &BTreeSet<String>,
    labels: &[String],
) -> Result<(Vec<u16>, Vec<T>), DataError> {
    if found.is_empty() {
        return Err(DataError::Empty { path: path.to_owned(), place: place.to_owned() });
    }
    let classes: Vec<String> = classes.iter().cloned().collect();
    if (!labels.is_empty() && classes != labels) || classes.len() > usize::from(u16::MAX) {
        return Err(DataError::Classes { path: path.to_owned(), found: classes, labels: labels.to_vec() });
    }
    found.sort_by(|a, b| (&a.class, &a.name).cmp(&(&b.class, &b.name)));
    let index = |class: &String| classes.binary_search(class).unwrap_or_default() as u16;
    Ok(found.into_iter().map(|image| (index(&image.class), image.place)).unzip())
}

/// Visible entries of a folder, sorted.
fn children(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let unreadable = |source| DataError::Io { path: folder.to_owned(), source };
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).map_err(unreadable)?.collect();
    let mut paths: Vec<PathBuf> = entries.map_err(unreadable)?.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| !file_name(path).starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_image(name: &str) -> bool {
    let extension = Path::new(name).extension().unwrap_or_default().to_ascii_lowercase();
    extension == "png" || extension == "jpg" || extension == "jpeg"
}

fn require_image(path: &Path, entry: &str, is_folder: bool) -> Result<(), DataError> {
    if !is_folder && is_image(entry) {
        return Ok(());
    }
    let reason = "a class folder may only hold .png, .jpg and .jpeg files";
    Err(DataError::Stray { path: path.to_owned(), entry: entry.to_owned(), reason })
}

/// Files beside class folders are left alone unless they are images.
fn reject_loose(path: &Path, entry: &str) -> Result<(), DataError> {
    if !is_image(entry) {
        return Ok(());
    }
    let reason = "an image outside of a class folder";
    Err(DataError::Stray { path: path.to_owned(), entry: entry.to_owned(), reason })
}
