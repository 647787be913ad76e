//! Studio, through its router.

mod chat;
