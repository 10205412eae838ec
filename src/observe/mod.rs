//! What the process tells of itself: metrics and health over HTTP.
