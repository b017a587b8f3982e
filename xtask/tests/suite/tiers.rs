//! Which tests on a real engine run when: the first tier in `cargo xtask test`, all in `cargo xtask test --full`.
//!
//! A test of the second tier has its place in a module whose name ends in `_full`, so its name says it, and
//! `--skip _full::` leaves it out. Whoever adds a test puts its name into one of the lists below: into `full` if it
//! takes more than half a minute and doesn't prove what nothing else does.

/// Each scenario as two tests, one a Compose generation: if it matters how Compose is called, and how it answers.
///
/// `smoke`: both in the first tier. `first`: Compose v2 in the first tier, 1.29 in the second. `full`: both in the second.
macro_rules! scenarios {
    ($(smoke: [$($smoke:ident)*])? $(first: [$($first:ident)*])? $(full: [$($full:ident)*])?) => {
        crate::tiers::first! { compose_v2, [$($($smoke)*)? $($($first)*)?], (super::Compose::V2) }
        crate::tiers::first! { compose_v1, [$($($smoke)*)?], (super::Compose::V1) }
        crate::tiers::full! { compose_v2_full, [$($($full)*)?], (super::Compose::V2) }
        crate::tiers::full! { compose_v1_full, [$($($first)*)? $($($full)*)?], (super::Compose::V1) }
    };
}
pub(crate) use scenarios;

/// Each scenario as one test, under one Compose generation: what PostgreSQL and Ory are asked is the same under both.
macro_rules! scenarios_once {
    ($(first: [$($first:ident)*])? $(full: [$($full:ident)*])?) => {
        crate::tiers::first! { once, [$($($first)*)?], (super::Compose::chosen()) }
        crate::tiers::full! { once_full, [$($($full)*)?], (super::Compose::chosen()) }
    };
}
pub(crate) use scenarios_once;

/// Tests of the first tier: a module of them, each calling its scenario with these arguments.
macro_rules! first {
    ($module:ident, [$($name:ident)*], $arguments:tt) => {
        mod $module { $(
            #[test]
            #[ignore = "needs a Docker engine: cargo xtask test"]
            fn $name() { super::$name $arguments; }
        )* }
    };
}
pub(crate) use first;

/// Tests of the second tier, likewise.
macro_rules! full {
    ($module:ident, [$($name:ident)*], $arguments:tt) => {
        mod $module { $(
            #[test]
            #[ignore = "needs a Docker engine and time: cargo xtask test --full"]
            fn $name() { super::$name $arguments; }
        )* }
    };
}
pub(crate) use full;
