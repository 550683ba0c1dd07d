//! The walls of the house: which room may name which, and how each file opens.
