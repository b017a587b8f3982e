//! How a product's database stands to its image: the decision, by what was asked already.

use ory_facts::image_migrations::State;

/// What is to be done about a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing was applied yet, whatever the image carries.
    New,
    /// It has all that the image carries.
    UpToDate,
    /// It lacks so many of the image's.
    Pending(usize),
    /// It has so many that the image doesn't know. Ory never complains about that; it fails later, when it serves.
    Ahead(usize),
    /// The same, and all of them are older than the newest of the image: it was another image's before.
    OtherHistory(usize),
    /// What the image carries isn't known.
    Unknown,
}

/// Decides. `is_shared`: the rows of another product are in the same table, so that one that isn't known tells nothing.
pub fn of(state: &State, is_shared: bool) -> Status {
    if state.applied.is_empty() {
        return Status::New;
    }
    match (state.ahead(), state.pending()) {
        (ahead, _) if ahead > 0 && !is_shared && state.is_of_other_history() => Status::OtherHistory(ahead),
        (ahead, _) if ahead > 0 && !is_shared => Status::Ahead(ahead),
        (_, Some(0)) => Status::UpToDate,
        (_, Some(pending)) => Status::Pending(pending),
        (_, None) => Status::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ory_facts::image_migrations::of_versions;

    use super::*;

    fn versions(text: &str) -> BTreeSet<String> {
        text.split_whitespace().map(String::from).collect()
    }

    /// `-`: an image that can't be asked.
    fn standing(applied: &str, carried: &str, is_shared: bool) -> Status {
        let carried = (carried != "-").then(|| of_versions(&versions(carried)));
        of(&State::new(versions(applied), carried), is_shared)
    }

    #[test]
    fn a_database_lacks_what_its_image_has_and_it_hasnt() {
        assert_eq!(standing("", "1 2", false), Status::New);
        assert_eq!(standing("", "-", false), Status::New);
        assert_eq!(standing("1", "1 2", false), Status::Pending(1));
        // A new one can be older than the newest that is applied.
        assert_eq!(standing("1 3", "1 2 3", false), Status::Pending(1));
        assert_eq!(standing("1 2", "1 2", false), Status::UpToDate);
        assert_eq!(standing("1 2", "-", false), Status::Unknown);
    }

    #[test]
    fn a_newer_database_is_ahead_whatever_else_it_lacks() {
        assert_eq!(standing("1 2 3", "1 2", false), Status::Ahead(1));
        assert_eq!(standing("1 3", "1 2", false), Status::Ahead(1));
        assert_eq!(standing("1 2", "3 4", false), Status::OtherHistory(2));
    }

    #[test]
    fn rows_of_another_product_are_no_sign() {
        assert_eq!(standing("1 2 3", "1 2", true), Status::UpToDate);
        assert_eq!(standing("1 9", "1 2", true), Status::Pending(1));
    }
}
