//! How far long work is, on the last line of a terminal.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use crate::output::terminal_width;

/// How far the work is, on the last line of a terminal.
pub(crate) struct Progress {
    total: usize,
    is_shown: bool,
}

impl Progress {
    /// Fewer inputs than this are done before anybody could read it.
    const WORTHWHILE: usize = 8;

    pub(crate) fn new(total: usize) -> Self {
        Self { total, is_shown: total >= Self::WORTHWHILE && io::stderr().is_terminal() }
    }

    pub(crate) fn show(&self, done: usize, current: &dyn Display) {
        const WIDTH: usize = 20;
        if !self.is_shown {
            return;
        }
        let bar = "=".repeat(WIDTH * done / self.total.max(1));
        let line = format!(
            "\r\x1b[2K[{bar:<WIDTH$}] {done}/{} {}",
            self.total,
            fitting(&current.to_string())
        );
        drop(io::stderr().write_all(line.as_bytes()));
    }

    pub(crate) fn clear(&self) {
        if self.is_shown {
            drop(io::stderr().write_all(b"\r\x1b[2K"));
        }
    }
}

/// As much of a text as fits behind the bar, on one line.
fn fitting(text: &str) -> String {
    const BAR: usize = 40;
    let room = terminal_width().saturating_sub(BAR);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(room).collect()
}
