//! How a product's database stands to its image: the decision, by what was asked already.

use ory_facts::carried::State;

/// What is to be done about a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
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
    /// The image is too old to be asked what it carries.
    Unknown,
}

/// Decides. `is_shared`: the rows of another product are in the same table, so that one that isn't known tells nothing.
pub fn of(state: &State, is_shared: bool) -> Standing {
    if state.applied.is_empty() {
        return Standing::New;
    }
    match (state.ahead(), state.pending()) {
        (ahead, _) if ahead > 0 && !is_shared && state.is_of_other_history() => Standing::OtherHistory(ahead),
        (ahead, _) if ahead > 0 && !is_shared => Standing::Ahead(ahead),
        (_, Some(0)) => Standing::UpToDate,
        (_, Some(pending)) => Standing::Pending(pending),
        (_, None) => Standing::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ory_facts::carried::of_versions;

    use super::*;

    fn versions(text: &str) -> BTreeSet<String> {
        text.split_whitespace().map(String::from).collect()
    }

    /// `-`: an image that can't be asked.
    fn standing(applied: &str, carried: &str, is_shared: bool) -> Standing {
        let carried = (carried != "-").then(|| of_versions(&versions(carried)));
        of(&State::new(versions(applied), carried), is_shared)
    }

    #[test]
    fn a_database_lacks_what_its_image_has_and_it_hasnt() {
        assert_eq!(standing("", "1 2", false), Standing::New);
        assert_eq!(standing("", "-", false), Standing::New);
        assert_eq!(standing("1", "1 2", false), Standing::Pending(1));
        // A new one can be older than the newest that is applied.
        assert_eq!(standing("1 3", "1 2 3", false), Standing::Pending(1));
        assert_eq!(standing("1 2", "1 2", false), Standing::UpToDate);
        assert_eq!(standing("1 2", "-", false), Standing::Unknown);
    }

    #[test]
    fn a_newer_database_is_ahead_whatever_else_it_lacks() {
        assert_eq!(standing("1 2 3", "1 2", false), Standing::Ahead(1));
        assert_eq!(standing("1 3", "1 2", false), Standing::Ahead(1));
        assert_eq!(standing("1 2", "3 4", false), Standing::OtherHistory(2));
    }

    #[test]
    fn rows_of_another_product_are_no_sign() {
        assert_eq!(standing("1 2 3", "1 2", true), Standing::UpToDate);
        assert_eq!(standing("1 9", "1 2", true), Standing::Pending(1));
    }
}
