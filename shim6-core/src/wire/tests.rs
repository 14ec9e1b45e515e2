//! Properties of the whole format.
