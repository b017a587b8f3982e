//! A product as a stack has it. Of several that are the same one of Ory's, each on a database of its own, each has the
//! name of its service; where there is one, it is Ory's own.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use crate::next::XTASK;
use crate::product::Product;

/// One product of a stack. The order is that of the migrations, then that of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    /// Which one of Ory's it is.
    pub kind: Product,
    name: &'static str,
}

impl Instance {
    /// The only one of its kind.
    pub fn only(kind: Product) -> Self {
        Self { kind, name: kind.name() }
    }

    /// One of several of its kind.
    pub fn named(kind: Product, name: &str) -> Self {
        // A stack has a handful of names: each is kept once, so that an instance can be copied like the kind that it is of.
        static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        if name == kind.name() {
            return Self::only(kind);
        }
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let name = names.get(name).copied().unwrap_or_else(|| {
            let name: &'static str = String::from(name).leak();
            names.insert(name);
            name
        });
        Self { kind, name }
    }

    /// The command line that applies its migrations.
    pub fn migrate_line(self) -> String {
        let line = format!("{XTASK} migrate-{}", self.kind);
        if self == Self::only(self.kind) { line } else { format!("{line} {self}") }
    }

    /// What it is called in this stack.
    pub fn name(self) -> &'static str {
        self.name
    }
}

impl From<Product> for Instance {
    fn from(kind: Product) -> Self {
        Self::only(kind)
    }
}

/// What is so of each product of Ory's, whatever the stack.
impl Deref for Instance {
    type Target = Product;

    fn deref(&self) -> &Product {
        &self.kind
    }
}

impl std::fmt::Display for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_makes_the_difference_within_a_kind() {
        let customers = Instance::named(Product::Kratos, "customers");
        assert_eq!(customers, Instance::named(Product::Kratos, "customers"));
        assert_ne!(customers, Instance::only(Product::Kratos));
        assert_ne!(customers, Instance::named(Product::Hydra, "customers"));
        assert_eq!(Instance::named(Product::Kratos, "kratos"), Product::Kratos.into());
        assert_eq!(format!("{customers} {}", customers.kind), "customers kratos");
        assert!(customers < Instance::only(Product::Hydra));
    }
}
