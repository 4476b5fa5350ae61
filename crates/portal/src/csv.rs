//! Tables as CSV (RFC 4180), for spreadsheets.

use axum::response::{IntoResponse, Response};
use http::header;

use crate::serve::append;

/// A table that grows line by line.
#[derive(Debug, Default)]
pub(crate) struct Csv(String);

impl Csv {
    pub(crate) fn line<'cell>(&mut self, cells: impl IntoIterator<Item = &'cell str>) {
        for (place, cell) in cells.into_iter().enumerate() {
            if place > 0 {
                self.0.push(',');
            }
            // A spreadsheet would take it for a formula.
            let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
            let guard = if is_formula { "'" } else { "" };
            if is_formula || cell.contains([',', '"', '\n', '\r']) {
                self.0.push_str(&format!("\"{guard}{}\"", cell.replace('"', "\"\"")));
            } else {
                self.0.push_str(cell);
            }
        }
        self.0.push_str("\r\n");
    }

    /// It as a file to be saved.
    pub(crate) fn answer(self, name: &str) -> Response {
        let mut response = self.0.into_response();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        append(headers, header::CONTENT_TYPE, "text/csv; charset=utf-8");
        append(
            headers,
            header::CONTENT_DISPOSITION,
            &format!("attachment; filename=\"{name}.csv\""),
        );
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_cells_and_never_become_formulas() {
        let mut csv = Csv::default();
        csv.line(["plain", "a,b", "say \"x\"", "=1+1", ""]);
        assert_eq!(csv.0, "plain,\"a,b\",\"say \"\"x\"\"\",\"'=1+1\",\r\n");
    }
}
