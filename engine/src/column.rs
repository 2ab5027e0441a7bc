//! Columns of rows in memory, and their stored form.
//!
//! A batch of growing rows and a segment have the same shape: one [`Rows`] with one [`Column`] per field, in the
//! order of the schema, and a timestamp per row. A column is immutable once it is built.

use bytes::Bytes;
use fixedbitset::FixedBitSet;

use crate::proto::schema::DataType;
use crate::proto::storage;

/// Variable-length byte strings, stored end to end.
#[derive(Debug, Clone, PartialEq)]
pub struct Strings {
    /// `len + 1` offsets into `bytes`.
    offsets: Vec<u32>,
    bytes: Vec<u8>,
}

impl Default for Strings {
    fn default() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }
}

impl Strings {
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no string at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a string.
    pub fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.offsets.push(self.bytes.len() as u32);
    }

    /// The bytes of string `row`.
    pub fn get(&self, row: usize) -> &[u8] {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// String `row` as text; every string was checked to be UTF-8 when it came in.
    pub fn text(&self, row: usize) -> &str {
        std::str::from_utf8(self.get(row)).unwrap_or_default()
    }

    /// Total bytes of all strings, the key figure for limits on requests and batches.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

impl<'a> FromIterator<&'a [u8]> for Strings {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(values: I) -> Self {
        let mut strings = Self::default();
        values.into_iter().for_each(|value| strings.push(value));
        strings
    }
}

/// The values of a column, one per row. Rows that are null hold the type's zero value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Values {
    Bool(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    VarChar(Strings),
    /// JSON texts (UTF-8), valid JSON each.
    Json(Strings),
    /// Row-major, `dim` values per row.
    FloatVector {
        dim: usize,
        values: Vec<f32>,
    },
}

/// One field's values over all rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The field's id in the schema.
    pub field_id: i64,
    /// Which rows are not null; `None` = all of them.
    pub validity: Option<FixedBitSet>,
    /// The values.
    pub values: Values,
}

impl Column {
    /// Whether `row` is not null.
    pub fn is_valid(&self, row: usize) -> bool {
        self.validity.as_ref().is_none_or(|bits| bits.contains(row))
    }

    /// Bytes that the column takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let validity = self.validity.as_ref().map_or(0, |bits| bits.len() / 8);
        validity
            + match &self.values {
                Values::Bool(values) => values.len(),
                Values::Int8(values) => values.len(),
                Values::Int16(values) => 2 * values.len(),
                Values::Int32(values) => 4 * values.len(),
                Values::Int64(values) => 8 * values.len(),
                Values::Float(values) => 4 * values.len(),
                Values::Double(values) => 8 * values.len(),
                Values::VarChar(strings) | Values::Json(strings) => strings.bytes.len() + 4 * strings.offsets.len(),
                Values::FloatVector { values, .. } => 4 * values.len(),
            }
    }

    /// The rows of `self` for which `keep` is set, in order.
    pub fn filtered(&self, keep: &FixedBitSet) -> Column {
        let mut builder = ColumnBuilder::like(self);
        keep.ones().for_each(|row| builder.push(self, row));
        builder.finish()
    }
}

/// Builds a column row by row from rows of columns of the same field.
#[derive(Debug)]
pub struct ColumnBuilder {
    column: Column,
    validity: Vec<bool>,
}

impl ColumnBuilder {
    /// An empty builder for the field and type of `column`.
    pub fn like(column: &Column) -> Self {
        let values = match &column.values {
            Values::Bool(_) => Values::Bool(Vec::new()),
            Values::Int8(_) => Values::Int8(Vec::new()),
            Values::Int16(_) => Values::Int16(Vec::new()),
            Values::Int32(_) => Values::Int32(Vec::new()),
            Values::Int64(_) => Values::Int64(Vec::new()),
            Values::Float(_) => Values::Float(Vec::new()),
            Values::Double(_) => Values::Double(Vec::new()),
            Values::VarChar(_) => Values::VarChar(Strings::default()),
            Values::Json(_) => Values::Json(Strings::default()),
            Values::FloatVector { dim, .. } => Values::FloatVector { dim: *dim, values: Vec::new() },
        };
        Self { column: Column { field_id: column.field_id, validity: None, values }, validity: Vec::new() }
    }

    /// Appends row `row` of `from`, which has the same type; a column of another type adds nothing.
    pub fn push(&mut self, from: &Column, row: usize) {
        self.validity.push(from.is_valid(row));
        match (&mut self.column.values, &from.values) {
            (Values::Bool(to), Values::Bool(from)) => to.push(from[row]),
            (Values::Int8(to), Values::Int8(from)) => to.push(from[row]),
            (Values::Int16(to), Values::Int16(from)) => to.push(from[row]),
            (Values::Int32(to), Values::Int32(from)) => to.push(from[row]),
            (Values::Int64(to), Values::Int64(from)) => to.push(from[row]),
            (Values::Float(to), Values::Float(from)) => to.push(from[row]),
            (Values::Double(to), Values::Double(from)) => to.push(from[row]),
            (Values::VarChar(to), Values::VarChar(from)) | (Values::Json(to), Values::Json(from)) => {
                to.push(from.get(row))
            }
            (Values::FloatVector { dim, values: to }, Values::FloatVector { values: from, .. }) => {
                to.extend_from_slice(&from[row * *dim..(row + 1) * *dim]);
            }
            _ => {}
        }
    }

    /// The finished column.
    pub fn finish(mut self) -> Column {
        if self.validity.contains(&false) {
            self.column.validity = Some(bits(&self.validity));
        }
        self.column
    }
}

/// A bit set with bit `i` set where `flags[i]`.
pub fn bits(flags: &[bool]) -> FixedBitSet {
    let mut bits = FixedBitSet::with_capacity(flags.len());
    flags.iter().enumerate().for_each(|(row, flag)| bits.set(row, *flag));
    bits
}

/// Rows of a collection: a growing batch or the contents of a segment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// Number of rows.
    pub count: usize,
    /// One column per field, in the order of the schema.
    pub columns: Vec<Column>,
    /// Hybrid timestamp of each row.
    pub timestamps: Vec<u64>,
}

impl Rows {
    /// The column of field `field_id`. Rows written before a field existed have none.
    pub fn column(&self, field_id: i64) -> Option<&Column> {
        self.columns.iter().find(|column| column.field_id == field_id)
    }

    /// Bytes that the rows take in memory.
    pub fn memory_bytes(&self) -> usize {
        self.columns.iter().map(Column::memory_bytes).sum::<usize>() + 8 * self.timestamps.len()
    }

    /// The rows for which `keep` is set, in order.
    pub fn filtered(&self, keep: &FixedBitSet) -> Rows {
        Rows {
            count: keep.count_ones(..),
            columns: self.columns.iter().map(|column| column.filtered(keep)).collect(),
            timestamps: keep.ones().map(|row| self.timestamps[row]).collect(),
        }
    }

    /// The kept rows of all parts, which have the same columns, one part after the other.
    pub fn concat(parts: &[(&Rows, &FixedBitSet)]) -> Rows {
        let Some((first, _)) = parts.first() else { return Rows::default() };
        let mut builders: Vec<_> = first.columns.iter().map(ColumnBuilder::like).collect();
        let mut timestamps = Vec::new();
        for (rows, keep) in parts {
            for row in keep.ones() {
                for (builder, column) in builders.iter_mut().zip(&rows.columns) {
                    builder.push(column, row);
                }
                timestamps.push(rows.timestamps[row]);
            }
        }
        Rows { count: timestamps.len(), columns: builders.into_iter().map(ColumnBuilder::finish).collect(), timestamps }
    }

    /// The stored form.
    pub fn to_stored(&self) -> storage::Rows {
        let same = self.timestamps.first().copied().filter(|first| self.timestamps.iter().all(|ts| ts == first));
        storage::Rows {
            count: self.count as u32,
            columns: self.columns.iter().map(Column::to_stored).collect(),
            timestamps: if same.is_some() {
                Bytes::new()
            } else {
                little_endian(&self.timestamps, |ts| ts.to_le_bytes())
            },
            timestamp: same.unwrap_or_default(),
        }
    }

    /// Rows from their stored form; what does not fit together is refused, with the reason.
    pub fn from_stored(stored: &storage::Rows) -> Result<Rows, String> {
        let count = stored.count as usize;
        let timestamps = match stored.timestamps.is_empty() {
            true => vec![stored.timestamp; count],
            false => fixed(&stored.timestamps, count, u64::from_le_bytes)?,
        };
        let columns =
            stored.columns.iter().map(|column| Column::from_stored(column, count)).collect::<Result<_, _>>()?;
        Ok(Rows { count, columns, timestamps })
    }
}

impl Column {
    fn to_stored(&self) -> storage::Column {
        let mut stored = storage::Column { field_id: self.field_id, ..Default::default() };
        if let Some(validity) = &self.validity {
            let mut bytes = vec![0u8; validity.len().div_ceil(8)];
            validity.ones().for_each(|row| bytes[row / 8] |= 1 << (row % 8));
            stored.validity = bytes.into();
        }
        let (data_type, values) = match &self.values {
            Values::Bool(values) => (DataType::Bool, values.iter().map(|value| *value as u8).collect()),
            Values::Int8(values) => (DataType::Int8, values.iter().map(|value| *value as u8).collect()),
            Values::Int16(values) => (DataType::Int16, little_endian(values, |value| value.to_le_bytes())),
            Values::Int32(values) => (DataType::Int32, little_endian(values, |value| value.to_le_bytes())),
            Values::Int64(values) => (DataType::Int64, little_endian(values, |value| value.to_le_bytes())),
            Values::Float(values) => (DataType::Float, little_endian(values, |value| value.to_le_bytes())),
            Values::Double(values) => (DataType::Double, little_endian(values, |value| value.to_le_bytes())),
            Values::VarChar(strings) | Values::Json(strings) => {
                stored.offsets = little_endian(&strings.offsets, |offset| offset.to_le_bytes());
                let data_type = if matches!(self.values, Values::Json(_)) { DataType::Json } else { DataType::VarChar };
                (data_type, Bytes::copy_from_slice(&strings.bytes))
            }
            Values::FloatVector { dim, values } => {
                stored.dim = *dim as u32;
                (DataType::FloatVector, little_endian(values, |value| value.to_le_bytes()))
            }
        };
        stored.r#type = data_type as i32;
        stored.values = values;
        stored
    }

    fn from_stored(stored: &storage::Column, count: usize) -> Result<Column, String> {
        let values = &stored.values;
        let strings = || -> Result<Strings, String> {
            let offsets: Vec<u32> = fixed(&stored.offsets, count + 1, u32::from_le_bytes)?;
            let ordered = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
            if !ordered
                || offsets.first() != Some(&0)
                || offsets.last().map(|last| *last as usize) != Some(values.len())
            {
                return Err("string offsets out of order".into());
            }
            let strings = Strings { offsets, bytes: values.to_vec() };
            match (0..count).all(|row| std::str::from_utf8(strings.get(row)).is_ok()) {
                true => Ok(strings),
                false => Err("text that is not UTF-8".into()),
            }
        };
        let values = match DataType::try_from(stored.r#type) {
            Ok(DataType::Bool) => Values::Bool(fixed(values, count, |byte: [u8; 1]| byte[0] != 0)?),
            Ok(DataType::Int8) => Values::Int8(fixed(values, count, i8::from_le_bytes)?),
            Ok(DataType::Int16) => Values::Int16(fixed(values, count, i16::from_le_bytes)?),
            Ok(DataType::Int32) => Values::Int32(fixed(values, count, i32::from_le_bytes)?),
            Ok(DataType::Int64) => Values::Int64(fixed(values, count, i64::from_le_bytes)?),
            Ok(DataType::Float) => Values::Float(fixed(values, count, f32::from_le_bytes)?),
            Ok(DataType::Double) => Values::Double(fixed(values, count, f64::from_le_bytes)?),
            Ok(DataType::VarChar) => Values::VarChar(strings()?),
            Ok(DataType::Json) => Values::Json(strings()?),
            Ok(DataType::FloatVector) => {
                let dim = stored.dim as usize;
                let total = count.checked_mul(dim).ok_or("vector column too large")?;
                Values::FloatVector { dim, values: fixed(values, total, f32::from_le_bytes)? }
            }
            _ => return Err(format!("column type {} is unknown", stored.r#type)),
        };
        let validity = match stored.validity.is_empty() {
            true => None,
            false if stored.validity.len() != count.div_ceil(8) => return Err("validity of another length".into()),
            false => {
                let flags: Vec<bool> = (0..count).map(|row| stored.validity[row / 8] >> (row % 8) & 1 == 1).collect();
                Some(bits(&flags))
            }
        };
        Ok(Column { field_id: stored.field_id, validity, values })
    }
}

fn little_endian<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Bytes {
    let mut out = Vec::with_capacity(values.len() * N);
    values.iter().for_each(|value| out.extend_from_slice(&bytes(*value)));
    out.into()
}

fn fixed<T, const N: usize>(bytes: &[u8], count: usize, value: impl Fn([u8; N]) -> T) -> Result<Vec<T>, String> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    if chunks.len() != count || !rest.is_empty() {
        return Err(format!("{} bytes where {count} values of {N} bytes belong", bytes.len()));
    }
    Ok(chunks.iter().map(|chunk| value(*chunk)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Rows {
        Rows {
            count: 3,
            columns: vec![
                Column { field_id: 100, validity: None, values: Values::Int64(vec![1, -2, i64::MAX]) },
                Column {
                    field_id: 101,
                    validity: Some(bits(&[true, false, true])),
                    values: Values::VarChar([&b"a"[..], b"", "\u{fc}ber".as_bytes()].into_iter().collect()),
                },
                Column { field_id: 102, validity: None, values: Values::FloatVector { dim: 2, values: vec![0.5; 6] } },
            ],
            timestamps: vec![7, 8, 9],
        }
    }

    #[test]
    fn stored_rows_come_back_as_they_were() {
        assert_eq!(Rows::from_stored(&sample().to_stored()), Ok(sample()));
    }

    #[test]
    fn rows_that_do_not_fit_together_are_refused() {
        for spoil in [
            |rows: &mut storage::Rows| rows.count = 4,
            |rows: &mut storage::Rows| rows.columns[1].offsets = Bytes::from_static(&[9; 16]),
            |rows: &mut storage::Rows| rows.columns[1].values = Bytes::from_static(&[0xff; 6]),
            |rows: &mut storage::Rows| rows.columns[2].dim = u32::MAX,
            |rows: &mut storage::Rows| rows.columns[0].r#type = 99,
        ] {
            let mut stored = sample().to_stored();
            spoil(&mut stored);
            assert!(Rows::from_stored(&stored).is_err(), "{stored:?}");
        }
    }

    #[test]
    fn filtering_keeps_order_and_nulls() {
        let kept = sample().filtered(&bits(&[false, true, true]));
        assert_eq!(kept.timestamps, [8, 9]);
        assert!(!kept.columns[1].is_valid(0) && kept.columns[1].is_valid(1));
    }
}
