//! What changes for who operates a product, from one release to another, that no image tells.
//!
//! Source: the changelogs and the sources of the releases, at <https://github.com/ory>. Ory's own `UPGRADE.md`s end at Hydra
//! v1.5 and Keto v0.4.

use crate::product::{Product, Release};

/// A change that a release brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    pub product: Product,
    pub since: Release,
    /// What changes, and what can be done about it.
    pub text: &'static str,
    /// It only matters where the configuration has one of these words; none: always.
    pub keys: &'static [&'static str],
}

const fn note(product: Product, since: Release, text: &'static str, keys: &'static [&'static str]) -> Note {
    Note { product, since, text, keys }
}

use Product::{Hydra, Keto, Kratos};

const NOTES: &[Note] = &[
    note(
        Kratos,
        (1, 2, 0),
        "registration has two steps; `selfservice.flows.registration.enable_legacy_one_step: true` keeps one (from v25.4.0 \
         `registration.style: unified`)",
        &["registration"],
    ),
    note(
        Kratos,
        (1, 3, 0),
        "`code.passwordless_login_fallback_enabled` is ignored without a word: who logs in by code may be locked out; \
         `code.config.missing_credential_fallback_enabled` takes its place",
        &["passwordless_login_fallback_enabled"],
    ),
    note(
        Kratos,
        (25, 4, 0),
        "`courier.sms` is refused when the server starts: write a channel with the id `sms` in `courier.channels`",
        &["sms"],
    ),
    note(
        Kratos,
        (25, 4, 0),
        "flows behave otherwise; the old ways are `feature_flags.legacy_continue_with_verification_ui`, \
         `legacy_require_verified_login_error` and `legacy_oidc_registration_node_group`",
        &["verification", "oidc"],
    ),
    note(
        Kratos,
        (26, 2, 0),
        "clients' page tokens of before are refused; the message 4000001 is 4000040 or 4000041; return URLs are http or https \
         only",
        &[],
    ),
    note(
        Hydra,
        (2, 0, 0),
        "the migration deletes consents that have no login challenge: the rehearsal tells how many",
        &[],
    ),
    note(
        Hydra,
        (2, 2, 0),
        "login and consent challenges have about 1 kB, in the URL and in a cookie: a proxy's limits may be too low",
        &[],
    ),
    note(
        Hydra,
        (2, 2, 0),
        "the tracing providers datadog, elastic-apm and instana are refused",
        &["tracing"],
    ),
    note(Hydra, (2, 3, 0), "clients must send `redirect_uri` with the scope openid", &[]),
    note(
        Hydra,
        (2, 3, 0),
        "the image runs as user 65532: a configuration file that only another user can read can't be read by it",
        &[],
    ),
    note(
        Hydra,
        (25, 4, 0),
        "`ttl.authentication_session` is 720h, and 180 days at most: `remember_for: 0` isn't for ever, and users log in again",
        &[],
    ),
    note(
        Hydra,
        (25, 4, 0),
        "`tls.key` and `tls.cert` take a path or base64, and not both: the server refuses to start with both",
        &["tls"],
    ),
    note(
        Hydra,
        (26, 2, 0),
        "clients' page tokens of before are refused; policy, terms, client and logo URIs are http or https only, so that a PUT \
         of an old client may be refused",
        &[],
    ),
    note(Keto, (0, 12, 0), "`limit.max_read_width` is 100: checks of wider subject sets change", &[]),
    note(
        Keto,
        (0, 14, 0),
        "`/health/ready` is 503 while migrations are pending; a batch check has at most 10 relations",
        &[],
    ),
    note(Keto, (26, 2, 0), "clients' page tokens of before are refused, and lists have another order", &[]),
    note(Keto, (26, 2, 0), "namespaces at a `ws://` address are gone", &["ws://"]),
    note(
        Keto,
        (26, 2, 0),
        "on the command line, `relation-tuple create FILE` needs `-f`, and `check` is `check NAMESPACE:SUBJECT RELATION \
         NAMESPACE:OBJECT`: scripts that seed relations fail",
        &[],
    ),
];

/// What changes for a product after a release, up to another one. `configuration`: its text, as far as it is known.
pub fn between(product: Product, from: Release, to: Release, configuration: &str) -> Vec<&'static Note> {
    let applies =
        |note: &&Note| note.keys.is_empty() || note.keys.iter().any(|key| configuration.contains(key));
    let is_between = |note: &&Note| note.product == product && from < note.since && note.since <= to;
    NOTES.iter().filter(is_between).filter(applies).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_between_two_releases_and_matters_here_is_told() {
        let texts = |from, to, configuration| {
            let notes = between(Kratos, from, to, configuration);
            notes.iter().map(|note| note.since).collect::<Vec<_>>()
        };
        assert_eq!(texts((25, 4, 0), (26, 2, 0), ""), [(26, 2, 0)]);
        assert_eq!(texts((1, 3, 1), (25, 4, 0), ""), []);
        assert_eq!(texts((1, 3, 1), (25, 4, 0), "courier: {sms: {}}"), [(25, 4, 0)]);
        assert_eq!(texts((26, 2, 0), (25, 4, 0), ""), [], "a way back is no upgrade");
    }
}
