//! Tables as `kubectl` prints them.

/// A table whose columns are as wide as their widest cell. An empty cell is shown as `-`.
pub(crate) fn table<const COLUMNS: usize>(header: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let header = header.map(str::to_owned);
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let cells = std::iter::once(&header).chain(rows).map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    });
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let cell = if cell.is_empty() { "-" } else { cell.as_str() };
            line.push_str(&format!("{cell:<width$}   "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let rows = [["a".to_owned(), "long".to_owned()], ["wider".to_owned(), String::new()]];
        assert_eq!(table(["ONE", "TWO"], &rows), "ONE     TWO\na       long\nwider   -\n");
    }
}
