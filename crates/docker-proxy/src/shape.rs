//! What of a JSON value is passed on.

use serde_json::Value;

use crate::labels::passes_label;

/// What is passed on. `null` always is; what looks otherwise is left out, and so are fields that
/// are not named.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A text, a number or a truth value.
    Plain,
    /// These fields of an object.
    Fields(&'static [(&'static str, Shape)]),
    /// A text, so many characters of it at most.
    Cut(usize),
    /// Every item of a list.
    List(&'static Shape),
    /// The last item of a list, as a list.
    Last(&'static Shape),
    /// Every value of an object, whatever its key.
    Map(&'static Shape),
    /// Of a list of `KEY=VALUE` those with one of these keys.
    Variables(&'static [&'static str]),
    /// Of an object of texts those whose keys are labels that pass.
    Labels,
}

impl Shape {
    /// What of a value is passed on; none if it looks otherwise.
    pub(crate) fn of(&self, value: Value) -> Option<Value> {
        match (self, value) {
            (_, Value::Null) => Some(Value::Null),
            (Shape::Plain, value) => (!value.is_object() && !value.is_array()).then_some(value),
            (Shape::Fields(fields), Value::Object(mut object)) => {
                let kept = fields.iter().filter_map(|(name, shape)| {
                    let value = shape.of(object.remove(*name)?)?;
                    Some(((*name).to_owned(), value))
                });
                Some(Value::Object(kept.collect()))
            }
            (Shape::List(shape), Value::Array(items)) => {
                let kept = items.into_iter().filter_map(|item| shape.of(item));
                Some(kept.collect())
            }
            (Shape::Cut(most), Value::String(mut text)) => {
                if let Some((end, _)) = text.char_indices().nth(*most) {
                    text.truncate(end);
                }
                Some(Value::String(text))
            }
            (Shape::Last(shape), Value::Array(mut items)) => {
                let last = items.pop().and_then(|item| shape.of(item));
                Some(last.into_iter().collect())
            }
            (Shape::Map(shape), Value::Object(object)) => {
                let kept = object.into_iter();
                let kept = kept.filter_map(|(key, value)| Some((key, shape.of(value)?)));
                Some(Value::Object(kept.collect()))
            }
            (Shape::Variables(keys), Value::Array(mut items)) => {
                items.retain(|item| {
                    let pair = item.as_str().and_then(|text| text.split_once('='));
                    pair.is_some_and(|(key, _)| keys.contains(&key))
                });
                Some(Value::Array(items))
            }
            (Shape::Labels, Value::Object(mut object)) => {
                object.retain(|key, value| value.is_string() && passes_label(key));
                Some(Value::Object(object))
            }
            _ => None,
        }
    }
}
