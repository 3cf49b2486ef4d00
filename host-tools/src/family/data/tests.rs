use std::io::Cursor;

use ndarray::{Array1, Array3, ArrayD, IxDyn};
use ndarray_npy::NpzWriter;
use tempfile::TempDir;

use super::*;
use crate::family::Layout;

fn input(shape: [usize; 3]) -> InputConfig {
    InputConfig { shape, layout: Layout::Nchw, scale: 1.0, mean: vec![0.0; shape[2]], std: vec![1.0; shape[2]] }
}

fn png(value: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image::GrayImage::from_pixel(2, 2, image::Luma([value])).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// `split/class/name` and its bytes.
type Files<'a> = &'a [(&'a str, Vec<u8>)];

fn folder(files: Files<'_>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

fn tar(files: Files<'_>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(std::fs::File::create(folder.path().join("data.tar")).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.finish().unwrap();
    folder
}

/// Loads the same files as a folder and as a tar file.
fn load_both(files: Files<'_>, split: Option<&str>, labels: &[&str]) -> [Result<Dataset, DataError>; 2] {
    let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
    let (folder, tar) = (folder(files), tar(files));
    [folder.path().to_owned(), tar.path().join("data.tar")].map(|path| {
        let source = DataSource { path, split: split.map(str::to_owned) };
        load_dataset(&source, input([2, 2, 1]).shape, &labels)
    })
}

fn errors(files: Files<'_>, split: Option<&str>, labels: &[&str]) -> [String; 2] {
    load_both(files, split, labels).map(|result| result.unwrap_err().to_string())
}

#[test]
fn class_folders_in_name_order_are_the_class_indices() {
    let files = [
        ("train/dog/b.png", png(3)),
        ("train/cat/z.png", png(1)),
        ("train/dog/a.png", png(2)),
        ("test/cat/q.png", png(9)),
    ];
    for dataset in load_both(&files, Some("train"), &["cat", "dog"]) {
        let dataset = dataset.unwrap();
        assert_eq!(dataset.labels, [0, 1, 1]);
        assert_eq!((dataset.image(0)[0], dataset.image(1)[0], dataset.image(2)[0]), (1, 2, 3));
    }
}

#[test]
fn a_source_without_splits_needs_none() {
    let files = [("cat/a.png", png(1)), ("dog/a.png", png(2))];
    for dataset in load_both(&files, None, &[]) {
        assert_eq!(dataset.unwrap().labels, [0, 1]);
    }
}

#[test]
fn a_split_that_is_not_there_is_answered_with_what_is() {
    for text in errors(&[("train/cat/a.png", png(1))], Some("val"), &[]) {
        assert!(text.contains("val") && text.contains("train"), "{text}");
    }
}

#[test]
fn class_folders_must_be_the_labels() {
    for text in errors(&[("t/cat/a.png", png(1)), ("t/cow/a.png", png(1))], Some("t"), &["cat", "dog"]) {
        assert!(text.contains("cat, cow") && text.contains("cat, dog"), "{text}");
    }
}

#[test]
fn broken_stray_and_wrongly_sized_files_are_named() {
    let mut wide = Cursor::new(Vec::new());
    image::GrayImage::new(3, 2).write_to(&mut wide, image::ImageFormat::Png).unwrap();
    let cases = [
        ("t/cat/broken.png", b"no image".to_vec()),
        ("t/cat/cut.png", png(5)[..40].to_vec()),
        ("t/cat/notes.txt", b"text".to_vec()),
        ("t/cat/wide.png", wide.into_inner()),
    ];
    for (name, bytes) in cases {
        for text in errors(&[("t/cat/a.png", png(1)), (name, bytes.clone())], Some("t"), &[]) {
            assert!(text.contains(name), "{text}");
        }
    }
}

#[test]
fn places_without_data_are_told_apart() {
    let empty = tempfile::tempdir().unwrap();
    let source = |path: PathBuf| DataSource { path, split: None };
    let load = |source: &DataSource| load_dataset(source, input([2, 2, 1]).shape, &[]).unwrap_err();
    assert!(matches!(load(&source(empty.path().to_owned())), DataError::Empty { .. }));
    assert!(matches!(load(&source(empty.path().join("absent"))), DataError::Missing { .. }));
    let text = empty.path().join("data.zip");
    std::fs::write(&text, "x").unwrap();
    assert!(matches!(load(&source(text)), DataError::Unsupported { .. }));
}

#[test]
fn a_truncated_tar_is_an_error() {
    let whole = tar(&[("t/cat/a.png", png(1)), ("t/cat/b.png", png(2))]);
    let path = whole.path().join("data.tar");
    let bytes = std::fs::read(&path).unwrap();
    // Inside the second entry's header, then inside its pixels.
    for length in [1024 + 300, 1024 + 512 + 20] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let source = DataSource { path: path.clone(), split: Some("t".into()) };
        assert!(load_dataset(&source, input([2, 2, 1]).shape, &[]).is_err(), "{length} bytes");
    }
}

fn npz(x: ArrayD<u8>, y: &[i64]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = NpzWriter::new_compressed(std::fs::File::create(folder.path().join("d.npz")).unwrap());
    writer.add_array("x_train", &x).unwrap();
    writer.add_array("y_train", &Array1::from(y.to_vec())).unwrap();
    writer.add_array("x_float", &Array3::<f32>::zeros((1, 2, 2))).unwrap();
    writer.add_array("y_float", &Array1::from(vec![0i64])).unwrap();
    writer.finish().unwrap();
    folder
}

fn load_npz(folder: &TempDir, split: &str, labels: &[String]) -> Result<Dataset, DataError> {
    let source = DataSource { path: folder.path().join("d.npz"), split: Some(split.to_owned()) };
    load_dataset(&source, input([2, 2, 1]).shape, labels)
}

#[test]
fn npz_arrays_hold_images_with_or_without_a_channel_axis() {
    for shape in [vec![2, 2, 2], vec![2, 2, 2, 1]] {
        let folder = npz(ArrayD::from_shape_vec(IxDyn(&shape), (0..8).collect()).unwrap(), &[1, 0]);
        let dataset = load_npz(&folder, "train", &[]).unwrap();
        assert_eq!((dataset.labels.as_slice(), dataset.image(1)), ([1u16, 0].as_slice(), [4u8, 5, 6, 7].as_slice()));
    }
}

#[test]
fn npz_problems_say_what_is_expected() {
    let folder = npz(ArrayD::zeros(IxDyn(&[2, 2, 2])), &[1, 5]);
    let labels = ["a".to_owned(), "b".to_owned()];
    let text = |split: &str| load_npz(&folder, split, &labels).unwrap_err().to_string();
    assert!(text("train").contains("label 5"), "{}", text("train"));
    assert!(text("float").contains("u8"), "{}", text("float"));
    assert!(text("test").contains("x_train"), "{}", text("test"));
    let wide = npz(ArrayD::zeros(IxDyn(&[2, 3, 2])), &[0, 1]);
    let text = load_npz(&wide, "train", &labels).unwrap_err().to_string();
    assert!(text.contains("3x2") && text.contains("2x2x1"), "{text}");
    let uneven = npz(ArrayD::zeros(IxDyn(&[2, 2, 2])), &[0]);
    assert!(load_npz(&uneven, "train", &labels).unwrap_err().to_string().contains("1 labels"));
}
