//! Columns that line up, colours that can be left out, and text that cannot play tricks.

/// How a piece of text stands out, where colours are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// A heading, or the thing itself.
    Bold,
    /// Beside the point.
    Dim,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// A person must act.
    Bad,
}

/// Dresses text with ANSI colours, or leaves it bare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// Whether colours are allowed.
    pub colored: bool,
}

impl Paint {
    /// Dresses a text.
    pub fn dress(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            _ if !self.colored => return text.to_owned(),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Warning => "33",
            Style::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Rows of cells. Columns are as wide as their widest cell; the last one is not padded.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<(Style, String)>>,
    indent: usize,
}

impl Table {
    /// A table under headings.
    pub fn with_head(head: &[&str]) -> Table {
        let cells = head.iter().map(|it| (Style::Bold, (*it).to_owned())).collect();
        Table { rows: vec![cells], indent: 0 }
    }

    /// A table without headings, moved to the right.
    pub fn indented(indent: usize) -> Table {
        Table { rows: Vec::new(), indent }
    }

    /// Adds a row. Cells are made printable here.
    pub fn row<const N: usize>(&mut self, cells: [(Style, String); N]) {
        let printable = |(style, text): (Style, String)| (style, printable(&text));
        self.rows.push(cells.into_iter().map(printable).collect());
    }

    /// The whole table, each row ended by a line feed.
    pub fn render(&self, paint: Paint) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let wide = |n: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(n));
            cells.map(|(_, text)| width(text)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(wide).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (n, (style, text)) in row.iter().enumerate() {
                line.push_str(&paint.dress(*style, text));
                // An empty tail of the row would leave blanks at the end of the line.
                if row[n + 1..].iter().any(|(_, rest)| !rest.is_empty()) {
                    line.push_str(&" ".repeat(widths[n] - width(text) + 2));
                }
            }
            out.push_str(&line);
            out.push('\n');
        }
        out
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Makes a text of somebody else's safe for a terminal and keep to its line: what would move the
/// cursor, change colours or turn the direction of writing becomes `\u{..}`; a tab is a space.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            c if c.is_control() || is_invisible(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `1 file`, `2 files`.
pub fn count(n: usize, thing: &str) -> String {
    match n {
        1 => format!("1 {thing}"),
        n => format!("{n} {thing}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_blanks_at_the_end() {
        let mut table = Table::with_head(&["KIND", "NAME"]);
        table.row([(Style::Plain, "VPCAttachment".into()), (Style::Good, "a".into())]);
        table.row([(Style::Plain, "VPC".into()), (Style::Plain, String::new())]);
        let plain = table.render(Paint { colored: false });
        assert_eq!(plain, "KIND           NAME\nVPCAttachment  a\nVPC\n");
        let colored = table.render(Paint { colored: true });
        assert!(colored.contains("\x1b[32ma\x1b[0m"), "{colored:?}");
    }

    #[test]
    fn a_hostile_name_cannot_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{202e}c\nd\te"), "a\\u{1b}[2Jb\\u{202e}c\\u{a}d e");
    }
}
