//! What tests read of JSON.

use serde_json::Value;

/// The items of a list in JSON; nothing else has any.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
