//! A plot of points for the terminal.

use std::fmt::Write;

/// A point with the character that marks it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Position to the right; finite, and above 0.
    pub x: f64,
    /// Position upwards; finite.
    pub y: f64,
    /// Its mark.
    pub mark: char,
}

/// What the axes show.
#[derive(Debug, Clone, Copy)]
pub struct Axes<'a> {
    /// Name and unit of the horizontal axis, which is logarithmic.
    pub x: &'a str,
    /// Name and unit of the vertical axis.
    pub y: &'a str,
    /// Columns of the plotting area.
    pub columns: usize,
    /// Rows of the plotting area.
    pub rows: usize,
}

/// The plot as text; of points that fall together the last is seen. Empty without points.
#[must_use]
pub fn plot(points: &[Point], axes: &Axes<'_>) -> String {
    let (columns, rows) = (axes.columns.max(2), axes.rows.max(2));
    let (Some((left, right)), Some((low, high))) =
        (extent(points.iter().map(|p| p.x.ln())), extent(points.iter().map(|p| p.y)))
    else {
        return String::new();
    };
    let mut cells = vec![vec![' '; columns]; rows];
    for point in points {
        let column = place(point.x.ln(), left, right, columns);
        let row = rows - 1 - place(point.y, low, high, rows);
        cells[row][column] = point.mark;
    }
    let labels: Vec<String> = (0..rows)
        .map(|row| {
            if row == 0 {
                format!("{high:.1}")
            } else if row == rows - 1 {
                format!("{low:.1}")
            } else {
                String::new()
            }
        })
        .collect();
    let width = labels.iter().map(String::len).max().unwrap_or(0);
    let mut text = format!("{:>width$}  {}\n", "", axes.y);
    for (label, row) in labels.iter().zip(cells) {
        let _ = writeln!(text, "{label:>width$} |{}", row.iter().collect::<String>().trim_end());
    }
    let _ = writeln!(text, "{:>width$} +{}", "", "-".repeat(columns));
    let (from, to) = (short(left.exp()), short(right.exp()));
    let gap = columns.saturating_sub(from.len() + to.len() + axes.x.len()) / 2;
    let _ = writeln!(text, "{:>width$}  {from}{:gap$}{}{:gap$}{to}", "", "", axes.x, "");
    text
}

/// Smallest and largest value; `None` without values or with one that is not finite.
fn extent(values: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64)> {
    let range = values.clone().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
    (values.clone().all(f64::is_finite) && range.0 <= range.1).then_some(range)
}

fn place(value: f64, from: f64, to: f64, cells: usize) -> usize {
    let share = if to > from { (value - from) / (to - from) } else { 0.5 };
    ((share * (cells - 1) as f64).round() as usize).min(cells - 1)
}

/// A count with a decimal prefix: `843.7k`, `12.5M`.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.1}G", v / 1e9),
        v if v >= 1e6 => format!("{:.1}M", v / 1e6),
        v if v >= 1e3 => format!("{:.1}k", v / 1e3),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXES: Axes<'_> = Axes { x: "MACs", y: "accuracy, %", columns: 21, rows: 3 };

    #[test]
    fn points_stand_where_their_values_say() {
        let point = |x, y, mark| Point { x, y, mark };
        let text = plot(&[point(1e3, 90.0, 'a'), point(1e5, 91.0, 'b'), point(1e4, 92.0, 'c')], &AXES);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "92.0 |          c");
        assert_eq!(lines[2], "     |                    b");
        assert_eq!(lines[3], "90.0 |a");
        assert!(lines[5].contains("1.0k") && lines[5].contains("MACs") && lines[5].contains("100.0k"), "{text}");
    }

    #[test]
    fn nothing_and_one_point_are_fine() {
        assert_eq!(plot(&[], &AXES), "");
        assert!(plot(&[Point { x: 5.0, y: 1.0, mark: 'x' }], &AXES).contains('x'));
        assert_eq!(plot(&[Point { x: 0.0, y: 1.0, mark: 'x' }], &AXES), "");
    }
}
