//! Log lines on stderr, as Ory writes them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::product::Program;

impl Program {
    pub fn info(&self, message: &str) {
        self.log("info", message, &[]);
    }

    /// A line about an error.
    pub fn log_error(&self, level: &str, message: &str, error: &str) {
        self.log(level, message, &[("error", &format!("map[message:{error}]"))]);
    }

    /// `fields` are sorted by name among those that every line has.
    pub fn log(&self, level: &str, message: &str, fields: &[(&str, &str)]) {
        let mut fields = fields.to_vec();
        fields.extend([
            ("audience", "application"),
            ("service_name", self.product.title()),
            ("service_version", &self.version),
        ]);
        fields.sort_unstable();
        let fields: String = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        eprintln!("time={} level={level} msg={message}{fields}", now());
    }
}

/// The time as `2026-03-20T11:01:06Z`.
fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    // Counted from 1 March 0000, so that the leap day ends a year of a 400 year cycle.
    let days = seconds / 86400 + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = cycle * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
