//! Tables for people: columns as wide as their widest cell, numbers to the right.
//!
//! Cells may come from clients (names, hosts, client ids): control characters never reach the terminal (G-11).

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Text(&'static str),
    Number(&'static str),
}

/// Rows under their heads.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; one cell per column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell)).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, without blanks at their ends.
    pub(crate) fn lines(&self) -> Vec<String> {
        let heads: Vec<String> = self
            .columns
            .iter()
            .map(|column| match column {
                Column::Text(head) | Column::Number(head) => (*head).to_owned(),
            })
            .collect();
        let all: Vec<&Vec<String>> = std::iter::once(&heads).chain(&self.rows).collect();
        let width = |at: usize| all.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.columns.len()).map(|at| width(at).unwrap_or(0)).collect();
        let set = |row: &Vec<String>| {
            let cells = row.iter().zip(&self.columns).zip(&widths).map(|((cell, column), width)| match column {
                Column::Text(_) => format!("{cell:width$}"),
                Column::Number(_) => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        all.into_iter().map(set).collect()
    }
}

/// Without control characters.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A number of bytes for people; exact below a KiB.
pub(crate) fn bytes(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes.unsigned_abs() < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut number = bytes as f64 / 1024.0;
    let mut unit = 0;
    while number >= 999.95 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    format!("{number:.1} {}", UNITS[unit])
}

/// A duration for people in its two largest units; -1 is for ever.
pub(crate) fn duration_ms(ms: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    if ms < 0 {
        return "for ever".to_owned();
    }
    let mut rest = ms;
    let mut parts = Vec::new();
    for (size, unit) in UNITS {
        if rest >= size && parts.len() < 2 {
            parts.push(format!("{} {unit}", rest / size));
            rest %= size;
        }
    }
    if parts.is_empty() { format!("{ms} ms") } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[Column::Text("TOPIC"), Column::Number("RECORDS"), Column::Text("KEPT")]);
        table.row(["telemetry.raw".to_owned(), "1".to_owned(), "7 d".to_owned()]);
        table.row(["a\u{1b}[2J".to_owned(), "123456789".to_owned(), String::new()]);
        assert_eq!(
            table.lines(),
            ["TOPIC            RECORDS  KEPT", "telemetry.raw          1  7 d", "a\u{fffd}[2J          123456789"]
        );
    }

    #[test]
    fn figures_for_people() {
        assert_eq!([bytes(0), bytes(1023), bytes(1024)], ["0 B", "1023 B", "1.0 KiB"]);
        assert_eq!([bytes(33_554_432), bytes(1_048_575_000)], ["32.0 MiB", "1.0 GiB"]);
        assert_eq!(
            [duration_ms(-1), duration_ms(604_800_000), duration_ms(90_061_000)],
            ["for ever", "7 d", "1 d 1 h"]
        );
        assert_eq!([duration_ms(1_500), duration_ms(5)], ["1 s", "5 ms"]);
    }
}
