//! What a failure's text tells: its cause, and the next command.

/// What a line says about a database that no further try changes. Ory retries each of them for five minutes.
/// Not among them: `no such host` and `connection refused`, which pass when the server comes up.
const PERMANENT: [&str; 17] = [
    "SQLSTATE 28P01",
    "SQLSTATE 28000",
    "SQLSTATE 3D000",
    "SQLSTATE 55P02",
    "permission denied for database",
    "unrecognized configuration parameter",
    "cannot parse `",
    "failed to parse as URL",
    "invalid URL escape",
    "invalid userinfo",
    "unsupported dialect",
    "unsupported DSN type",
    "no dialect provided",
    "server refused TLS connection",
    "SSL is not enabled on the server",
    "x509: ",
    "sslmode is invalid",
];

/// Whether a line that a server prints while it tries to connect names a cause that stays.
pub fn is_permanent(line: &str) -> bool {
    PERMANENT.iter().any(|text| line.contains(text))
}

/// Whether a line says that a server tries once more to connect.
pub fn is_retry(line: &str) -> bool {
    line.contains(", retrying") || line.contains("Retrying in ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_that_can_not_end_well_is_told_from_one_that_can() {
        for (line, permanent) in [
            (
                "level=warning msg=Unable to ping database, retrying. error=map[message:failed to connect to \
              `user=kratos database=kratos`: 172.18.0.2:5432 (db): failed SASL auth: FATAL: password \
              authentication failed for user \"kratos\" (SQLSTATE 28P01)]",
                true,
            ),
            (
                "level=info msg=Retrying in 5.000000 seconds... error=map[message:server error: FATAL: database \
              \"nodb\" does not exist (SQLSTATE 3D000)]",
                true,
            ),
            (
                "level=error msg=Unable to connect to database, retrying. error=map[message:cannot parse \
              `postgres://ory:xxxxxx@db`: failed to parse as URL]",
                true,
            ),
            (
                "level=error msg=Unable to connect to database, retrying. error=map[message:unsupported \
              dialect '']",
                true,
            ),
            (
                "level=warning msg=Unable to ping database, retrying. error=map[message:hostname resolving \
              error: lookup db on 127.0.0.11:53: no such host]",
                false,
            ),
            (
                "level=warning msg=Unable to ping database, retrying. error=map[message:dial error: dial tcp \
              172.18.0.2:5432: connect: connection refused]",
                false,
            ),
            ("FATAL: the database system is starting up (SQLSTATE 57P03)", false),
            ("level=info msg=Migration has not yet been applied, running migration.", false),
        ] {
            assert_eq!(is_permanent(line), permanent, "{line}");
        }
    }
}
