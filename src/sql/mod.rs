//! Understanding statements, as far as the proxy needs to.
