//! The native configuration file: text in, model or spanned errors out.
