//! Building: a plan in, an image out.
