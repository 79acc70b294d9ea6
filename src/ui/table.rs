//! Tables on standard output, as Docker prints them: columns as wide as their widest cell, three spaces apart.

/// The least width of a column of Docker's lists, but for the last.
const NARROWEST: usize = 7;

/// The lines of a table; `rows` holds the head first. Columns are seven characters wide at least.
pub fn table(rows: &[Vec<String>]) -> String {
    table_of(rows, NARROWEST)
}

/// [`table`] with columns no wider than what is in them, as BuildKit tells of a build.
pub(super) fn narrow_table(rows: &[Vec<String>]) -> String {
    table_of(rows, 0)
}

fn table_of(rows: &[Vec<String>], narrowest: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |text| text.chars().count());
    let widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().map(|row| cell(row, c)).max().unwrap_or(0).max(narrowest)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(text, width)| format!("{text:width$}")).collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_one_another() {
        let rows =
            [["NAME", "SIZE", "X"], ["a-long-name", "1B", ""], ["é", "", ""]].map(|row| row.map(String::from).to_vec());
        assert_eq!(table(&rows), "NAME          SIZE      X\na-long-name   1B\né\n");
        assert_eq!(table(&[]), "");
    }
}
