//! What an operator chooses from, as clients write it: closed lists of words.

use crate::model::fabric::Layout;
use crate::model::rules::{Mode, OnDelete};
use crate::pipeline::archive::ArchiveStrategy;
use crate::pipeline::processing::{OnInvalid, OnUnsupported};
use serde::Deserialize;
use utoipa::ToSchema;

/// How much the agent does for a fabric; each does what the one before it does, and more.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Mode)]
pub(in crate::api) enum ModeView {
    /// Records follow git; nothing is written, committed or sent.
    Observe,
    /// Drops and edits of records become commits, which stay here.
    Ingest,
    /// Commits are sent, and what others pushed is taken in.
    Push,
    /// Hand edits below `managed/` are committed as well.
    Full,
}

impl From<ModeView> for Mode {
    fn from(it: ModeView) -> Mode {
        match it {
            ModeView::Observe => Mode::Observe,
            ModeView::Ingest => Mode::Ingest,
            ModeView::Push => Mode::Push,
            ModeView::Full => Mode::Full,
        }
    }
}

/// What becomes of the record of a resource whose file others removed.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OnDelete)]
pub(in crate::api) enum OnDeleteView {
    /// It stays as an orphan, until the resource comes back or somebody deletes it.
    Orphan,
    /// It goes as well.
    Delete,
}

impl From<OnDeleteView> for OnDelete {
    fn from(it: OnDeleteView) -> OnDelete {
        match it {
            OnDeleteView::Orphan => OnDelete::Orphan,
            OnDeleteView::Delete => OnDelete::Delete,
        }
    }
}

/// Where originals are kept.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Archive)]
pub(in crate::api) enum ArchiveView {
    /// In commits of a ref, outside of the tree that others pull.
    Ref,
    /// In the tree, below `raw/processed/`.
    Directory,
    /// Nowhere.
    None,
}

impl From<ArchiveView> for ArchiveStrategy {
    fn from(it: ArchiveView) -> ArchiveStrategy {
        match it {
            ArchiveView::Ref => ArchiveStrategy::Ref,
            ArchiveView::Directory => ArchiveStrategy::Directory,
            ArchiveView::None => ArchiveStrategy::None,
        }
    }
}

/// What becomes of a drop with a mistake.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OnInvalid)]
pub(in crate::api) enum OnInvalidView {
    /// It stays in `raw/` with a report beside it.
    Keep,
    /// It moves to `raw/errors/` with its report.
    Quarantine,
    /// It moves to `unmanaged/` with its report.
    Unmanaged,
}

impl From<OnInvalidView> for OnInvalid {
    fn from(it: OnInvalidView) -> OnInvalid {
        match it {
            OnInvalidView::Keep => OnInvalid::Keep,
            OnInvalidView::Quarantine => OnInvalid::Quarantine,
            OnInvalidView::Unmanaged => OnInvalid::Unmanaged,
        }
    }
}

/// What becomes of a drop whose every document is of a foreign kind.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OnUnsupported)]
pub(in crate::api) enum OnUnsupportedView {
    /// It moves to `unmanaged/`, byte for byte.
    Unmanaged,
    /// It stays in `raw/` with a report beside it.
    Keep,
}

impl From<OnUnsupportedView> for OnUnsupported {
    fn from(it: OnUnsupportedView) -> OnUnsupported {
        match it {
            OnUnsupportedView::Unmanaged => OnUnsupported::Unmanaged,
            OnUnsupportedView::Keep => OnUnsupported::Keep,
        }
    }
}

/// Where the file of a new resource lies below the directory of its kind.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Layout)]
pub(in crate::api) enum LayoutView {
    /// All in one directory.
    Flat,
    /// In one of 256 directories.
    Sharded,
}

impl From<LayoutView> for Layout {
    fn from(it: LayoutView) -> Layout {
        match it {
            LayoutView::Flat => Layout::Flat,
            LayoutView::Sharded => Layout::Sharded,
        }
    }
}
