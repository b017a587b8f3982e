//! What things of ours are called in PostgreSQL, which cuts every name at 63 bytes: no two of them the same.
//!
//! Source: <https://www.postgresql.org/docs/17/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS>.

use crate::digest;

/// How long a name can be, in bytes.
const LONGEST: usize = 63;

/// What something is called, for what it is of: whole, or where that is too long or could mean another one, cut, with a sum
/// over all of it.
pub fn object(purpose: &str, of: &[&str]) -> String {
    let plain = format!("xtask_{purpose}_{}", of.join("_"));
    if of.len() == 1 && plain.len() <= LONGEST { plain } else { cut(&plain, &of.join("\0")) }
}

/// The name of a session, which is also that of a container: in letters that both take.
pub fn session(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if name.len() <= LONGEST && name.chars().all(is_plain) {
        return name.into();
    }
    cut(&name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect::<String>(), name)
}

/// The database in which a product's image is tried, or its data is copied to, beside its own.
pub fn scratch(product: &str, database: &str) -> String {
    session(&format!("{SCRATCH}{product}_{database}"))
}

/// How the name of each such database begins.
pub const SCRATCH: &str = "xtask_scratch_";

fn cut(name: &str, of: &str) -> String {
    let sum = &digest::of(of)[..16];
    let longest = name.len().min(LONGEST - 1 - sum.len());
    let end = (0..=longest).rfind(|end| name.is_char_boundary(*end)).unwrap_or(0);
    format!("{}_{sum}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_cut_differ_where_what_they_are_of_differs() {
        assert_eq!(object("new", &["kratos"]), "xtask_new_kratos");
        let long = "a".repeat(60);
        let [one, other] = ["1", "2"].map(|end| object("new", &[&format!("{long}{end}")]));
        assert!(one.len() == LONGEST && one != other, "{one} {other}");
        assert!(object("new", &[&"é".repeat(40)]).len() <= LONGEST);
        assert_ne!(object("new", &["a_b", "c"]), object("new", &["a", "b_c"]));
        assert_eq!(session("xtask-ory-migrate-keto"), "xtask-ory-migrate-keto");
        let [kratos, hydra] = ["kratos", "hydra"].map(|product| session(&format!("{long}-{product}")));
        assert!(kratos != hydra && kratos.len() <= LONGEST);
        assert_ne!(session("xtask_swap_é"), session("xtask_swap_è"));
    }
}
