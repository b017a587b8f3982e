//! A product's role that wants to become more than it is: code of its own, names of its own, settings of its own.
