//! All tests, in one binary.

mod studio;
