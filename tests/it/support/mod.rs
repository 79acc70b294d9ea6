//! What the tests share: registries, bases, temporary stores.

pub mod bases;
pub mod faulty;
pub mod registry;
pub mod standin;
pub mod throttle;
pub mod token;
pub mod web;
