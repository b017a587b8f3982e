//! Secrets that somebody else reads, and files of secrets that are not what they seem.
