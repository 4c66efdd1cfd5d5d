//! Tables with aligned columns.

/// Lines of a table; the last column is not padded.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&title| title.to_owned()).collect();
    let all = || std::iter::once(&head).chain(rows);
    let width =
        |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "ünï".into(), "x".into()], vec!["longer".into(), "b".into(), String::new()]];
        assert_eq!(super::table(&["ONE", "TWO", "3"], &rows), "ONE     TWO  3\na       ünï  x\nlonger  b");
        assert_eq!(super::table(&["ONE", "TWO"], &[]), "ONE  TWO");
    }
}
