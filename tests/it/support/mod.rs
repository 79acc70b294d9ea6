//! What the tests share: registries, bases, temporary stores.

pub mod bases;
pub mod faulty;
pub mod registry;
pub mod standin;
pub mod throttle;
pub mod token;
pub mod web;

/// Makes a test of each of these functions for each tier in which the supervisor stands between.
macro_rules! in_each_tier {
    ($($name:ident),* $(,)?) => {
        mod chroot {
            $(#[test] fn $name() { super::$name(dockless::sandbox::Tier::Chroot); })*
        }
        mod emulated {
            $(#[test] fn $name() { super::$name(dockless::sandbox::Tier::Emulated); })*
        }
    };
}
