//! One MySQL cluster. (Interface; the machine follows.)
pub mod event;
pub mod view;
