//! An answer as a table: named columns, rows of text, counters as `int8`.

use bytes::BytesMut;
use pgwire::messages::data::{DataRow, FieldDescription, RowDescription};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `text`
    Text,
    /// `int8`
    Int8,
}

impl Type {
    fn oid(self) -> u32 {
        match self {
            Type::Text => 25,
            Type::Int8 => 20,
        }
    }

    fn size(self) -> i16 {
        match self {
            Type::Text => -1,
            Type::Int8 => 8,
        }
    }
}

/// One value; `None` is NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// NULL
    Null,
    /// Text.
    Text(String),
    /// A number.
    Int(i64),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_string())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl From<$number> for Cell {
            fn from(n: $number) -> Cell {
                Cell::Int(i64::try_from(n).unwrap_or(i64::MAX))
            }
        }
    )*};
}
numbers!(u16, u32, u64, i32, i64, u128, usize);

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Null, Into::into)
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Names and types.
    pub columns: Vec<(String, Type)>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table whose columns are `name` (text) or `name:n` (number), separated by spaces.
    pub fn new(columns: &str) -> Table {
        let column = |c: &str| match c.strip_suffix(":n") {
            Some(name) => (name.to_string(), Type::Int8),
            None => (c.to_string(), Type::Text),
        };
        Table { columns: columns.split_whitespace().map(column).collect(), rows: Vec::new() }
    }

    /// The header, with the formats that the client wants.
    pub fn description(&self, formats: &[i16]) -> RowDescription {
        let field = |(i, (name, kind)): (usize, &(String, Type))| {
            FieldDescription::new(name.clone(), 0, 0, kind.oid(), kind.size(), -1, format(formats, i))
        };
        RowDescription::new(self.columns.iter().enumerate().map(field).collect())
    }

    /// The rows, in those formats.
    pub fn data(&self, formats: &[i16]) -> impl Iterator<Item = DataRow> {
        self.rows.iter().map(|row| {
            let mut data = BytesMut::new();
            for (i, cell) in row.iter().enumerate() {
                put(&mut data, cell, self.columns.get(i).map(|c| c.1), format(formats, i));
            }
            DataRow::new(data, i16::try_from(row.len()).unwrap_or(0))
        })
    }
}

/// One format for all, one for each, or text (protocol, Bind).
fn format(formats: &[i16], column: usize) -> i16 {
    match formats {
        [] => 0,
        [one] => *one,
        many => many.get(column).copied().unwrap_or(0),
    }
}

fn put(data: &mut BytesMut, cell: &Cell, kind: Option<Type>, format: i16) {
    let mut value = |bytes: &[u8]| {
        data.extend_from_slice(&i32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
        data.extend_from_slice(bytes);
    };
    match cell {
        Cell::Null => data.extend_from_slice(&(-1i32).to_be_bytes()),
        Cell::Int(n) if format == 1 && kind == Some(Type::Int8) => value(&n.to_be_bytes()),
        Cell::Int(n) => value(n.to_string().as_bytes()),
        Cell::Text(text) => value(text.as_bytes()),
    }
}
