//! Writes a small SQLite database with one table: what Cyrus keeps of Sieve scripts in `dav.db`.
//!
//! Each table and index is one page, and the page is as large as it needs to be, up to 64 KiB; so nothing overflows, and a few
//! hundred scripts fit. The format is that of <https://sqlite.org/fileformat2.html>. What must not come in: reading.

use crate::error::Error;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// A value of a column.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Value {
    /// Nothing; also where the column is the row's own number.
    Null,
    /// A number.
    Integer(i64),
    /// Text in UTF-8.
    Text(Vec<u8>),
}

/// A table, and the indexes that SQLite makes by itself for its UNIQUE constraints, in their order.
pub struct Table<'a> {
    /// Its name.
    pub name: &'a str,
    /// The statement that makes it, from `CREATE TABLE` on.
    pub sql: &'a str,
    /// The columns of each UNIQUE constraint.
    pub unique: &'a [&'a [usize]],
    /// The rows, the first of which gets the number 1.
    pub rows: &'a [Vec<Value>],
}

const PAGES: [usize; 5] = [4096, 8192, 16384, 32768, 65536];
/// The file's header, at the beginning of the first page.
const HEADER: usize = 100;
const TABLE_LEAF: u8 = 13;
const INDEX_LEAF: u8 = 10;
/// The version of the library that is said to have written it.
const LIBRARY: u32 = 3_040_000;

/// The file. Refused if a page of 64 KiB cannot take it.
pub fn emit(table: &Table<'_>) -> Result<Vec<u8>, Error> {
    PAGES.iter().find_map(|page| emit_with(table, *page)).ok_or_else(|| {
        let (name, rows) = (table.name, table.rows.len());
        Error::Refused(format!("table {name}: {rows} rows are more than one page of 65536 bytes takes"))
    })
}

/// The file with pages of this size, if they can take it.
fn emit_with(table: &Table<'_>, page: usize) -> Option<Vec<u8>> {
    let text = |text: &str| Value::Text(text.as_bytes().to_vec());
    let object = |kind: &str, name: &str, root: usize, sql: Value| {
        record(&[text(kind), text(name), text(table.name), Value::Integer(root as i64), sql])
    };
    let mut schema = vec![object("table", table.name, 2, text(table.sql))];
    for n in 0..table.unique.len() {
        let name: String = format!("sqlite_autoindex_{}_{}", table.name, n + 1);
        schema.push(object("index", &name, 3 + n, Value::Null));
    }
    let mut file = header(page, 2 + table.unique.len());
    file.extend(leaf(TABLE_LEAF, &numbered(schema), page, HEADER)?);
    let rows = table.rows.iter().map(|row| record(row)).collect();
    file.extend(leaf(TABLE_LEAF, &numbered(rows), page, 0)?);
    for columns in table.unique {
        file.extend(leaf(INDEX_LEAF, &index(table.rows, columns)?, page, 0)?);
    }
    Some(file)
}

/// The cells of an index over these columns.
fn index(rows: &[Vec<Value>], columns: &[usize]) -> Option<Vec<Vec<u8>>> {
    let key = |row: &Vec<Value>| columns.iter().map(|column| row.get(*column).cloned()).collect::<Option<Vec<Value>>>();
    let mut keys = Vec::new();
    for (n, row) in rows.iter().enumerate() {
        let mut key = key(row)?;
        key.push(Value::Integer(n as i64 + 1));
        keys.push(key);
    }
    keys.sort();
    Some(keys.iter().map(|key| with_len(record(key), None)).collect())
}

/// The cells of a table with these records.
fn numbered(records: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    records.into_iter().enumerate().map(|(n, record)| with_len(record, Some(n as u64 + 1))).collect()
}

fn with_len(record: Vec<u8>, number: Option<u64>) -> Vec<u8> {
    let mut cell = Vec::new();
    varint(record.len() as u64, &mut cell);
    number.into_iter().for_each(|number| varint(number, &mut cell));
    cell.extend(record);
    cell
}

/// A page without children. `before` bytes of it are the file's header, and are not written. `None` if it is too small, or if
/// SQLite would want a part of a cell on a page of its own.
fn leaf(kind: u8, cells: &[Vec<u8>], page: usize, before: usize) -> Option<Vec<u8>> {
    let longest = if kind == INDEX_LEAF { (page - 12) * 64 / 255 - 23 } else { page - 35 };
    let (mut out, mut start) = (vec![0; page], page);
    let pointers = before + 8;
    for (n, cell) in cells.iter().enumerate() {
        start = start.checked_sub(cell.len()).filter(|start| *start >= pointers + 2 * cells.len())?;
        if cell.len() > longest {
            return None;
        }
        out[start..start + cell.len()].copy_from_slice(cell);
        out[pointers + 2 * n..][..2].copy_from_slice(&(start as u16).to_be_bytes());
    }
    out[before] = kind;
    out[before + 3..before + 5].copy_from_slice(&u16::try_from(cells.len()).ok()?.to_be_bytes());
    // 65536 is written as 0.
    out[before + 5..before + 7].copy_from_slice(&(start as u16).to_be_bytes());
    Some(out.split_off(before))
}

/// A row as it stands in a cell: the types of its values, then the values.
fn record(values: &[Value]) -> Vec<u8> {
    let (mut types, mut content) = (Vec::new(), Vec::new());
    for value in values {
        match value {
            Value::Null => varint(0, &mut types),
            Value::Integer(0) => varint(8, &mut types),
            Value::Integer(1) => varint(9, &mut types),
            Value::Integer(n) => {
                let (code, len) = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6)]
                    .into_iter()
                    .find(|(_, len)| (-(1i64 << (8 * len - 1))..1i64 << (8 * len - 1)).contains(n))
                    .unwrap_or((6, 8));
                varint(code, &mut types);
                content.extend_from_slice(&n.to_be_bytes()[8 - len..]);
            }
            Value::Text(text) => {
                varint(13 + 2 * text.len() as u64, &mut types);
                content.extend_from_slice(text);
            }
        }
    }
    // Its own length is among what it counts.
    let len = types.len() as u64 + if types.len() < 127 { 1 } else { 2 };
    let mut out = Vec::new();
    varint(len, &mut out);
    out.extend(types);
    out.extend(content);
    out
}

/// Seven bits a byte, the highest first; of numbers below 2^56.
fn varint(n: u64, out: &mut Vec<u8>) {
    let groups = (1..8).find(|groups| n >> (7 * groups) == 0).unwrap_or(8);
    for group in (0..groups).rev() {
        let more = if group > 0 { 0x80 } else { 0 };
        out.push((n >> (7 * group) & 0x7F) as u8 | more);
    }
}

/// The first 100 bytes.
fn header(page: usize, pages: usize) -> Vec<u8> {
    let mut out = b"SQLite format 3\0".to_vec();
    // 65536 is written as 1. No journal but the usual, nothing reserved, and the fractions that must be these.
    out.extend_from_slice(&u16::try_from(page).unwrap_or(1).to_be_bytes());
    out.extend_from_slice(&[1, 1, 0, 64, 32, 32]);
    // Counter of changes, pages, no free ones, counter of the schema, its format, caches, UTF-8, and no version of the user's.
    for n in [1, pages as u32, 0, 0, 1, 4, 0, 0, 1, 0, 0, 0] {
        out.extend_from_slice(&n.to_be_bytes());
    }
    out.resize(HEADER - 8, 0);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&LIBRARY.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, name: usize) -> Vec<Vec<Value>> {
        let row = |n| vec![Value::Null, Value::Integer(n as i64), Value::Text(vec![b'x'; name])];
        (0..count).map(row).collect()
    }

    fn emit_rows(rows: &[Vec<Value>]) -> Result<Vec<u8>, Error> {
        emit(&Table { name: "t", sql: "CREATE TABLE t (a INTEGER PRIMARY KEY, b, c)", unique: &[&[1]], rows })
    }

    #[test]
    fn pages_are_as_large_as_they_need_to_be_and_no_larger() {
        let pages = |rows: &[Vec<Value>]| emit_rows(rows).map(|file| file.len() / 3);
        assert_eq!(pages(&rows(2, 100)).unwrap(), 4096);
        assert_eq!(pages(&rows(60, 100)).unwrap(), 8192);
        assert_eq!(pages(&rows(500, 100)).unwrap(), 65536);
        assert!(pages(&rows(700, 100)).is_err());
        assert!(pages(&rows(1, 70_000)).is_err());
    }

    #[test]
    fn numbers_have_the_bytes_that_they_need() {
        let lens: Vec<usize> = [0, 1, 2, -128, 128, 40_000, 1 << 23, 1 << 31, 1 << 47]
            .into_iter()
            .map(|n| record(&[Value::Integer(n)]).len() - 2)
            .collect();
        assert_eq!(lens, [0, 0, 1, 1, 2, 3, 4, 6, 8]);
        let varint = |n| {
            let mut out = Vec::new();
            super::varint(n, &mut out);
            out
        };
        assert_eq!([varint(0), varint(127), varint(128), varint(16_384)].concat(), [0, 127, 0x81, 0, 0x81, 0x80, 0]);
    }
}
