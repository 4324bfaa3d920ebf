//! Files that a configuration names. The caller reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What the files say that a text names, by the names that it has for them; or nothing of them at
/// all, which leaves out what they would say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(Option<Arc<Read>>);

/// The text of each file, or why there is none, with its whole path.
type Read = BTreeMap<String, Result<Arc<str>, String>>;

impl Files {
    /// The most files that one text names.
    pub const MAX: usize = 256;

    /// Reads each of these files by means of `read`, which gives the text of one, or says why not.
    pub fn read(
        names: impl IntoIterator<Item = String>,
        read: impl Fn(&str) -> Result<String, String>,
    ) -> Self {
        let with_text = |name: String| {
            let text = read(&name).map(Into::into);
            (name, text)
        };
        Self(Some(Arc::new(names.into_iter().map(with_text).collect())))
    }

    /// The names of those that could be read, with their texts.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.0.iter().flat_map(|files| files.iter());
        files.filter_map(|(name, text)| Some((&**name, &**text.as_ref().ok()?)))
    }

    /// The text of a file; none if no files were read.
    pub(crate) fn get(&self, name: &str) -> Option<Result<Arc<str>, String>> {
        let files = self.0.as_ref()?;
        let unread = || Err(format!("{name}: was not read"));
        Some(files.get(name).cloned().unwrap_or_else(unread))
    }
}
