//! The ratios as a chart: one bar for each comparison, with the length of our CPU time relative to the other side's.

use std::fmt::Write as _;

/// One comparison.
pub(crate) struct Row {
    pub(crate) what: String,
    /// Microseconds of CPU time per request.
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
    pub(crate) compared_with: &'static str,
}

const LINE: usize = 26;
const LEFT: usize = 190;
/// Length of the other side's bar.
const ONE: f64 = 260.0;

/// An SVG of these rows, for light and dark pages.
pub(crate) fn svg(rows: &[Row], title: &str) -> String {
    let height = LINE * (rows.len() + 3);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"860\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"22\" font-weight=\"bold\">CPU time per request, compared with the other side (grey = 1)</text>\n\
         <text x=\"12\" y=\"42\" fill=\"#555\">{title}</text>\n"
    );
    for (n, Row { what, ours, theirs, compared_with }) in rows.iter().enumerate() {
        let (y, ratio) = (LINE * (n + 2), ours / theirs);
        writeln!(
            svg,
            "<text x=\"12\" y=\"{}\">{what}</text>\
             <rect x=\"{LEFT}\" y=\"{}\" width=\"{ONE}\" height=\"18\" fill=\"#ddd\"/>\
             <rect x=\"{LEFT}\" y=\"{}\" width=\"{:.0}\" height=\"10\" fill=\"#2a6f97\"/>\
             <text x=\"{}\" y=\"{}\">{ours:.1} µs: {ratio:.2} × {compared_with} ({theirs:.1} µs)</text>",
            y + 14,
            y,
            y + 4,
            ONE * ratio,
            LEFT + 290,
            y + 14,
        )
        .unwrap();
    }
    svg.push_str("</svg>\n");
    svg
}
