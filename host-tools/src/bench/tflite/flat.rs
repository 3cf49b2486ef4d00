//! FlatBuffers as a tree, written parents first: <https://flatbuffers.dev/internals/>.

/// A field of a table.
#[derive(Debug, Clone)]
pub enum Field {
    /// 8 bits.
    Byte(u8),
    /// 32 bits.
    Word(u32),
    /// Another table.
    Table(Table),
    /// A list of tables.
    Tables(Vec<Table>),
    /// A list of words.
    Words(Vec<u32>),
    /// A list of 64-bit numbers.
    Longs(Vec<i64>),
    /// A list of bytes.
    Bytes(Vec<u8>),
}

/// Fields with their numbers in the schema, each once.
pub type Table = Vec<(u16, Field)>;

/// The file of a root table with a file identifier.
#[must_use]
pub fn file(root: &Table, identifier: [u8; 4]) -> Vec<u8> {
    let mut file = vec![0; 4];
    file.extend(identifier);
    put_table(&mut file, 0, root);
    file
}

fn align(file: &mut Vec<u8>, to: usize) {
    file.resize(file.len().next_multiple_of(to), 0);
}

/// Writes into the word at `place` how far behind it the file ends now.
fn point_here(file: &mut [u8], place: usize) {
    let distance = (file.len() - place) as u32;
    file[place..place + 4].copy_from_slice(&distance.to_le_bytes());
}

/// Writes a table that the word at `place` points to.
fn put_table(file: &mut Vec<u8>, place: usize, table: &Table) {
    let slots = table.iter().map(|&(number, _)| number + 1).max().unwrap_or(0);
    // The table of field offsets: its size, that of the fields, and where each of them lies.
    align(file, 4);
    let offsets = file.len();
    file.resize(offsets + 4 + 2 * usize::from(slots), 0);
    align(file, 4);
    point_here(file, place);
    let start = file.len();
    file.extend(((start - offsets) as u32).to_le_bytes());
    let mut children = Vec::new();
    for (number, field) in table {
        let slot = offsets + 4 + 2 * usize::from(*number);
        let at = file.len();
        file[slot..slot + 2].copy_from_slice(&((at - start) as u16).to_le_bytes());
        match field {
            Field::Byte(byte) => file.extend([*byte, 0, 0, 0]),
            Field::Word(word) => file.extend(word.to_le_bytes()),
            child => {
                file.extend([0; 4]);
                children.push((at, child));
            }
        }
    }
    let sizes = [4 + 2 * slots, (file.len() - start) as u16].map(u16::to_le_bytes);
    file[offsets..offsets + 4].copy_from_slice(sizes.as_flattened());
    for (place, child) in children {
        put_child(file, place, child);
    }
}

fn put_child(file: &mut Vec<u8>, place: usize, child: &Field) {
    match child {
        Field::Byte(_) | Field::Word(_) => {}
        Field::Table(table) => put_table(file, place, table),
        Field::Words(words) => put_list(file, place, words.len(), 4, words.iter().flat_map(|word| word.to_le_bytes())),
        Field::Longs(longs) => put_list(file, place, longs.len(), 8, longs.iter().flat_map(|long| long.to_le_bytes())),
        Field::Bytes(bytes) => put_list(file, place, bytes.len(), 16, bytes.iter().copied()),
        Field::Tables(tables) => {
            put_list(file, place, tables.len(), 4, std::iter::repeat_n(0, 4 * tables.len()));
            let first = file.len() - 4 * tables.len();
            for (index, table) in tables.iter().enumerate() {
                put_table(file, first + 4 * index, table);
            }
        }
    }
}

/// Writes a list whose first element lies at a multiple of `to`.
fn put_list(file: &mut Vec<u8>, place: usize, len: usize, to: usize, bytes: impl Iterator<Item = u8>) {
    file.resize((file.len() + 4).next_multiple_of(to) - 4, 0);
    align(file, 4);
    point_here(file, place);
    file.extend((len as u32).to_le_bytes());
    file.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(file: &[u8], at: usize) -> usize {
        u32::from_le_bytes(*file[at..].first_chunk().unwrap()) as usize
    }

    fn half(file: &[u8], at: usize) -> usize {
        u16::from_le_bytes(*file[at..].first_chunk().unwrap()).into()
    }

    /// Where a field of the table at `table` lies.
    fn field(file: &[u8], table: usize, number: usize) -> usize {
        let offsets = table - word(file, table);
        table + half(file, offsets + 4 + 2 * number)
    }

    fn follow(file: &[u8], at: usize) -> usize {
        at + word(file, at)
    }

    #[test]
    fn a_tree_is_read_back_by_following_its_offsets() {
        let child = |number| vec![(0, Field::Word(number))];
        let root = vec![
            (3, Field::Tables(vec![child(7), child(8)])),
            (0, Field::Byte(5)),
            (1, Field::Longs(vec![-1, 2])),
            (4, Field::Bytes(vec![9, 8, 7])),
        ];
        let file = file(&root, *b"TEST");
        assert_eq!(&file[4..8], b"TEST");
        let root = follow(&file, 0);
        assert_eq!(file[field(&file, root, 0)], 5);
        assert_eq!(half(&file, root - word(&file, root) + 4 + 2 * 2), 0, "an absent field");
        let longs = follow(&file, field(&file, root, 1));
        assert_eq!((word(&file, longs), (longs + 4) % 8, word(&file, longs + 12)), (2, 0, 2));
        let tables = follow(&file, field(&file, root, 3));
        let second = follow(&file, tables + 8);
        assert_eq!((word(&file, tables), word(&file, field(&file, second, 0))), (2, 8));
        let bytes = follow(&file, field(&file, root, 4));
        assert_eq!((&file[bytes + 4..bytes + 7], (bytes + 4) % 16), (&[9, 8, 7][..], 0));
    }
}
