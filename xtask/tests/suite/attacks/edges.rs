//! Inputs at the edges: names, arguments, signals, and what other users of the machine have put in the way.
