//! The ratios as a picture: a bar a question, as long as our processor time is beside that of the other.

use std::fmt::Write as _;

/// One comparison.
pub(crate) struct Row {
    pub(crate) what: String,
    /// Microseconds of processor time a request.
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
    pub(crate) beside: &'static str,
}

const LINE: usize = 26;
const LEFT: usize = 190;
/// As long as the bar of the other side is.
const ONE: f64 = 260.0;

/// An SVG of these rows, for light and dark pages alike.
pub(crate) fn svg(rows: &[Row], title: &str) -> String {
    let height = LINE * (rows.len() + 3);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"860\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"22\" font-weight=\"bold\">Processor time a request, beside the bare cost (grey = 1)</text>\n\
         <text x=\"12\" y=\"42\" fill=\"#555\">{title}</text>\n"
    );
    for (n, Row { what, ours, theirs, beside }) in rows.iter().enumerate() {
        let (y, ratio) = (LINE * (n + 2), ours / theirs);
        writeln!(
            svg,
            "<text x=\"12\" y=\"{}\">{what}</text>\
             <rect x=\"{LEFT}\" y=\"{}\" width=\"{ONE}\" height=\"18\" fill=\"#ddd\"/>\
             <rect x=\"{LEFT}\" y=\"{}\" width=\"{:.0}\" height=\"10\" fill=\"#2a6f97\"/>\
             <text x=\"{}\" y=\"{}\">{ours:.1} µs: {ratio:.2} × {beside} ({theirs:.1} µs)</text>",
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
