//! Text that may be printed: it says nothing to the terminal.

/// Text without what a terminal takes for a command, or that shows it in another order: names in a database, in a
/// backup or in a file are anybody's. Lines and tabs stay.
pub fn plain(text: &str) -> String {
    let is_command = |c: char| c.is_control() && !['\n', '\t'].contains(&c);
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let text = text.replace("\r\n", "\n");
    text.chars().map(|c| if is_command(c) || turns(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
