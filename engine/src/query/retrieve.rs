//! Rows by filter or by primary key.

use crate::filter::Filter;
use crate::query::output::{KeyRef, Row};
use crate::storage::collection::View;
use crate::storage::part::{Keys, Part};

/// Rows of `view` that `filter` accepts, one per primary key (the newest), in the order of the keys.
pub fn retrieve(view: &View, filter: &Filter, primary_key: i64, growing: bool) -> Vec<Row> {
    let parts: Vec<&Part> = view.parts().collect();
    let mut rows = matching(view, filter, growing);
    let key = |row: &Row| KeyRef::of(parts[row.part], primary_key, row.row);
    let age = |row: &Row| parts[row.part].rows.timestamps[row.row];
    rows.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| age(b).cmp(&age(a))));
    rows.dedup_by(|b, a| key(a) == key(b));
    rows
}

/// Number of rows of `view` that `filter` accepts.
pub fn count(view: &View, filter: &Filter, growing: bool) -> usize {
    match filter.is_all() && growing {
        true => view.parts().map(Part::live_count).sum(),
        false => matching(view, filter, growing).len(),
    }
}

/// Primary keys of the rows that `filter` accepts.
pub fn keys(view: &View, filter: &Filter, primary_key: i64) -> Option<Keys> {
    let parts: Vec<&Part> = view.parts().collect();
    let mut all: Option<Keys> = None;
    for (number, part) in parts.iter().enumerate() {
        let rows = matching_in(part, filter, number);
        match (&mut all, Keys::of_rows(&part.rows, primary_key, rows.into_iter().map(|row| row.row))) {
            (None, keys) => all = Some(keys),
            (Some(Keys::Int(all)), Keys::Int(keys)) => all.extend(keys),
            (Some(Keys::Text(all)), Keys::Text(keys)) => all.extend(keys),
            _ => {}
        }
    }
    all.filter(|keys| !keys.is_empty())
}

fn matching(view: &View, filter: &Filter, growing: bool) -> Vec<Row> {
    let parts = view.parts().enumerate();
    let searched = parts.take(if growing { usize::MAX } else { view.sealed.len() });
    searched.flat_map(|(number, part)| matching_in(part, filter, number)).collect()
}

fn matching_in(part: &Part, filter: &Filter, number: usize) -> Vec<Row> {
    let to_row = |row: usize| Row { part: number, row };
    if let Some(keys) = filter.primary_keys().map(Keys::from) {
        let found = part.find(&keys).into_iter().map(|row| row as usize);
        return found.filter(|row| !part.deleted.contains(*row)).map(to_row).collect();
    }
    let mut rows = part.live();
    if !filter.is_all() {
        rows.intersect_with(&filter.evaluate(&part.rows));
    }
    rows.ones().map(to_row).collect()
}
