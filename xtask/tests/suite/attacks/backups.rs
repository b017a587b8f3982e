//! Backups that somebody else made, hid, named or cut off.
