//! placeholder until the push room is wired
