//! Failures of what is configured: DSNs, files, secrets.

use super::row::{ROW, Row};

/// DSNs that can't be used.
pub const DSN: &[Row] = &[
    Row {
        id: "dsn-missing",
        any: &["dsn must be set", "missing properties: \"dsn\"", "unsupported dialect ''"],
        stays: true,
        message: "{product} has no DSN",
        hint: "set DSN in the environment of the service `{service}`",
        ..ROW
    },
    Row {
        id: "dsn-malformed",
        any: &["failed to parse as URL", "invalid URL escape", "net/url: invalid userinfo"],
        stays: true,
        message: "{product}'s DSN can't be parsed",
        hint: "percent-encode what is special in its password: %2F for /, %23 for #, %3F for ?, %25 for %",
        ..ROW
    },
    Row {
        id: "dsn-scheme",
        any: &["unsupported DSN type", "no dialect provided", "unsupported dialect '*'"],
        stays: true,
        message: "{product}'s DSN doesn't start with postgres://",
        hint: "mend the DSN: postgres://user:password@host:5432/database",
        ..ROW
    },
    Row {
        id: "certificate-file",
        any: &[
            "failed to configure TLS (unable to *",
            "root certificate file \"*\" does not exist",
            "could not read root certificate file",
        ],
        stays: true,
        message: "sslrootcert in {product}'s DSN names no authority's certificate that can be read there",
        hint: "name its file in the DSN, sslrootcert=FILE, and mount it in `{service}`, readable for its user",
        ..ROW
    },
];

/// Files and secrets. A path is only taken for a file of the configuration where the line says so: the last
/// lines repeat it without.
pub const FILES: &[Row] = &[
    Row {
        id: "file-missing",
        any: &[
            "Unable to instantiate configuration.*message:open *: no such file or directory",
            "unable to initialize config provider:*open *: no such file or directory",
        ],
        message: "{product} reads {2}, which isn't there",
        hint: "put it back: git checkout -- {file}",
        ..ROW
    },
    Row {
        id: "folder-missing",
        any: &[
            "Unable to instantiate configuration.*message:no such file or directory",
            "unable to initialize config provider: no such file or directory",
        ],
        message: "the folder of {product}'s configuration file isn't in the container",
        hint: "mount it in the service `{service}`, where its command looks for it",
        ..ROW
    },
    Row {
        id: "file-unreadable",
        any: &[
            "Unable to instantiate configuration.*message:open *: permission denied",
            "unable to initialize config provider:*open *: permission denied",
        ],
        message: "{product} may not read {2}: the user of its image isn't yours",
        hint: "chmod a+r {file}",
        ..ROW
    },
    Row {
        id: "file-is-a-folder",
        any: &[
            "Unable to instantiate configuration.*message:read *: is a directory",
            "unable to initialize config provider:*read *: is a directory",
        ],
        message: "{2} is a folder, where {product} reads a file: Docker makes one of a file that is missing",
        hint: "remove the folder and put the file back: {file}",
        ..ROW
    },
    Row {
        id: "file-malformed",
        any: &[
            "Unable to instantiate configuration.*message:yaml: *] service_name",
            "unable to initialize config provider:*yaml: *",
            "Unable to instantiate configuration.*message:invalid character *] service_name",
        ],
        message: "a file that {product} reads is malformed: {2}",
        hint: "mend the line that it names: {config}",
        ..ROW
    },
    Row {
        id: "file-malformed",
        any: &["Unable to instantiate configuration.*message:unexpected EOF] service_name"],
        message: "a file that {product} reads ends too early: its identity schema, or another one in JSON",
        hint: "mend the files that it names: {config}",
        ..ROW
    },
    Row {
        id: "secret-length",
        any: &[
            "I[#/secrets/*] *length must be * 16, but got *",
            "I[#/secrets/*] *length must be * 32, but got *",
        ],
        message: "the secret secrets.{1} of {product} has {4} characters, which is the wrong length",
        hint: "set it to what this prints, which has 32: openssl rand -hex 16",
        ..ROW
    },
    Row {
        id: "secret-number",
        any: &[
            "I[#/secrets/*] *expected array, but got null",
            "I[#/secrets/*] *expected string, but got number",
        ],
        message: "the secret secrets.{1} of {product} has digits only, and is taken for a number",
        hint: "set it to one with letters, as this prints: openssl rand -hex 16",
        ..ROW
    },
    Row {
        id: "secret-changed",
        any: &["cipher: message authentication failed"],
        message: "{product}'s secret isn't the one its data was encrypted with",
        hint: "put the old one back, behind a new one if there is one: SECRETS_SYSTEM=new,old",
        ..ROW
    },
    Row {
        id: "namespaces-missing",
        any: &["Error: stat *: no such file or directory", "could not read namespace file*"],
        message: "keto's namespaces aren't at {1}",
        hint: "name them in its configuration, as in our stack: namespaces: {location: file:///etc/config/keto/namespaces.keto.ts}",
        ..ROW
    },
    Row {
        id: "setting-unknown",
        any: &["^-- additionalProperties * not allowed", "additionalProperties * not allowed"],
        message: "{product}'s configuration has the setting {1}, which it doesn't know",
        hint: "remove it, or mend its name: {config}",
        ..ROW
    },
];

/// What is wrong with a configuration where no line says more.
pub const LAST: &[Row] = &[
    Row {
        id: "setting-missing",
        any: &["Error: I[*] S[*missing properties: *", "config provider: I[*] S[*missing properties: *"],
        message: "{product}'s configuration lacks {3}, in {1}",
        hint: "add it: {config}",
        ..ROW
    },
    Row {
        id: "configuration-invalid",
        any: &[
            "Unable to instantiate configuration.*",
            "unable to initialize config provider: *",
            "The configuration contains values or keys which are invalid",
        ],
        message: "{product}'s configuration is invalid",
        hint: "mend what its last lines name: {config}",
        ..ROW
    },
];
