//! Pages of lists: their size and cursors.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::names::MAX_NAME_BYTES;

/// Default number of rows per page.
pub const DEFAULT_PAGE_ROWS: u16 = 50;
/// Maximum number of rows per page.
pub const MAX_PAGE_ROWS: u16 = 250;

/// The number of rows of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRows(u16);

/// The error if a text is not a valid page size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number from 1 to {MAX_PAGE_ROWS}")]
pub struct PageRowsError;

impl PageRows {
    pub fn parse(text: &str) -> Result<Self, PageRowsError> {
        // The function `u16::from_str` would accept a leading plus sign.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let rows = text.parse().ok().filter(|rows| digits && (1..=MAX_PAGE_ROWS).contains(rows));
        rows.map(Self).ok_or(PageRowsError)
    }

    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for PageRows {
    fn default() -> Self {
        Self(DEFAULT_PAGE_ROWS)
    }
}

/// The position after the last row of a page, in a list ordered by descending id. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(Uuid);

/// The error if a text is not a valid cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the next_cursor of an earlier page")]
pub struct CursorError;

impl Cursor {
    /// A cursor that continues after the row with this id.
    pub const fn behind(id: Uuid) -> Self {
        Self(id)
    }

    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(|bytes| Self(Uuid::from_bytes(bytes))).ok_or(CursorError)
    }

    pub const fn id(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// The position after the last row of a page, in a list ordered by ascending name. Opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameCursor(String);

impl NameCursor {
    /// A cursor that continues after the row with this name.
    pub fn behind(name: &str) -> Self {
        Self(name.to_owned())
    }

    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| (1..=MAX_NAME_BYTES).contains(&bytes.len()));
        let name = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|name| !name.contains('\0'));
        name.map(Self).ok_or(CursorError)
    }

    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NameCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

/// The rows of one page, and the cursor of the next page. The last page has no cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// Builds a page. An additional row after the page's rows shows that another page follows.
    pub fn of<R, E>(
        mut rows: Vec<R>,
        page_rows: PageRows,
        cursor: impl FnOnce(&R) -> Cursor,
        read: impl FnMut(R) -> Result<T, E>,
    ) -> Result<Self, E> {
        let page_rows = usize::from(page_rows.get());
        let goes_on = rows.len() > page_rows;
        rows.truncate(page_rows);
        let next = rows.last().filter(|_| goes_on).map(cursor);
        let rows = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { rows, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_round_trips() {
        let cursor = Cursor::behind(Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0001));
        assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        for text in ["", "AA", "not a cursor", "01930000000070008000000000000001"] {
            assert_eq!(Cursor::parse(text), Err(CursorError), "{text}");
        }
    }

    #[test]
    fn a_cursor_of_names_round_trips() {
        let cursor = NameCursor::behind("agent-ü");
        assert_eq!(NameCursor::parse(&cursor.to_string()), Ok(cursor));
        let too_long = NameCursor::behind(&"a".repeat(129)).to_string();
        for text in ["", "not a cursor", "_w", "AA", &too_long] {
            assert_eq!(NameCursor::parse(text), Err(CursorError), "{text}");
        }
    }

    #[test]
    fn a_page_has_a_cursor_only_if_another_row_follows() {
        let page = |rows| {
            let read = |row: u128| if row < 9 { Ok(row * 10) } else { Err("unreadable") };
            Page::of(rows, PageRows(2), |row| Cursor::behind(Uuid::from_u128(*row)), read)
        };
        let behind = |row| Some(Cursor::behind(Uuid::from_u128(row)));
        assert_eq!(page(vec![1, 2, 3]), Ok(Page { rows: vec![10, 20], next: behind(2) }));
        assert_eq!(page(vec![1, 2]), Ok(Page { rows: vec![10, 20], next: None }));
        assert_eq!(page(vec![]), Ok(Page { rows: vec![], next: None }));
        assert_eq!(page(vec![9]), Err("unreadable"));
    }

    #[test]
    fn a_page_has_1_to_250_rows() {
        for (text, rows) in [("1", Some(1)), ("250", Some(250)), ("0", None), ("251", None), ("+5", None), ("", None)] {
            assert_eq!(PageRows::parse(text).ok().map(PageRows::get), rows, "{text}");
        }
    }
}
