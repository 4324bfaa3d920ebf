//! What a check says.

use serde::Serialize;

use crate::Space;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is as it has to be.
    Ok,
    /// Nothing is wrong, and it is good to know.
    Note,
    /// It could not be told, for the reason that is given.
    Unknown,
    /// It works, but not in every case, or not as well as it could.
    Warning,
    /// It keeps packets from being forwarded or answered.
    Error,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that says so, by its name.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// Where: the container or namespace; nothing for the host itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What is there.
    pub what: String,
    /// What follows from it; empty where nothing does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What mends it, one command of a shell each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedy: Vec<String>,
}

impl Finding {
    fn new(level: Level, what: impl Into<String>) -> Self {
        Self {
            check: "",
            level,
            place: None,
            what: what.into(),
            why: String::new(),
            remedy: Vec::new(),
        }
    }

    /// All is well.
    pub(crate) fn ok(what: impl Into<String>) -> Self {
        Self::new(Level::Ok, what)
    }

    /// It is good to know.
    pub(crate) fn note(what: impl Into<String>) -> Self {
        Self::new(Level::Note, what)
    }

    /// It could not be told, because of this.
    pub(crate) fn unknown(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Level::Unknown, what).because(why)
    }

    /// It is not as good as it could be.
    pub(crate) fn warning(what: impl Into<String>) -> Self {
        Self::new(Level::Warning, what)
    }

    /// It does not work.
    pub(crate) fn error(what: impl Into<String>) -> Self {
        Self::new(Level::Error, what)
    }

    /// With what follows from it.
    pub(crate) fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// With one more command.
    pub(crate) fn mend(mut self, command: impl Into<String>) -> Self {
        self.remedy.push(command.into());
        self
    }

    /// With one more command, in the namespace of this space.
    pub(crate) fn mend_in(self, space: &Space, command: impl AsRef<str>) -> Self {
        let command = space.command(command.as_ref());
        self.mend(command)
    }

    /// In this space.
    pub(crate) fn at(mut self, space: &Space) -> Self {
        self.place = (!space.name.is_empty()).then(|| space.name.clone());
        self
    }
}
