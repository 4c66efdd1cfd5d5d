//! What people write on command lines and in forms, read once into typed values.

pub mod data_size;
pub mod duration;
pub mod member_size;
pub mod scheduler;
