//! Texts that belong to services and backends, in pieces that fit into a map.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::layout::{NOTE, Note, NoteKey};
use crate::sys::Result;

use super::Maps;

/// Pieces of a text at most: 29 KiB.
const PIECES: u32 = 256;
/// A text is replaced by writing the new one beside it, so that one of them is whole whenever the process dies:
/// the pieces of the first draft have numbers from 0 on, those of the second from [`PIECES`] on.
const DRAFTS: [u32; 2] = [0, PIECES];

/// Whose text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Of the service with this number.
    Service(u32),
    /// Of the backend in this slot.
    Backend(u32),
}

impl Owner {
    fn key(self, piece: u32) -> NoteKey {
        let (kind, id) = match self {
            Owner::Service(id) => (0, id),
            Owner::Backend(id) => (1, id),
        };
        NoteKey { kind, id, piece }
    }
}

/// Tells texts from each other without having them: equal for equal texts, and for different ones almost never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Print(u64);

impl Print {
    /// Of a text, as it is when it is written.
    pub fn of(text: &str) -> Self {
        let mut print = Self::default();
        for (number, piece) in (0..).zip(pieces(text)) {
            print.add(number, piece);
        }
        print
    }

    /// Pieces may come in any order.
    fn add(&mut self, number: u32, piece: &[u8]) {
        let mut hasher = DefaultHasher::new();
        (number, piece).hash(&mut hasher);
        self.0 = self.0.wrapping_add(hasher.finish());
    }
}

/// The pieces of a text; the last is shorter than [`NOTE`].
fn pieces(text: &str) -> impl Iterator<Item = &[u8]> {
    let most = (PIECES as usize - 1) * NOTE;
    let text = text.as_bytes().get(..most).unwrap_or(text.as_bytes());
    let last = text.len().is_multiple_of(NOTE).then_some(&[][..]);
    text.chunks(NOTE).chain(last)
}

impl Maps {
    /// Writes a text in place of the one that was there: whoever reads meanwhile, or after this process has died
    /// over it, finds the one or the other. What is longer than 29 KiB is cut.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn put_note(&self, owner: Owner, text: &str) -> Result<()> {
        let [first, second] = DRAFTS;
        let (draft, before) = match self.draft(owner, first)? {
            Some(_) => (second, first),
            None => (first, second),
        };
        // What a process that died has left of this draft.
        self.remove_draft(owner, draft)?;
        for (number, piece) in (draft..).zip(pieces(text)) {
            let mut note = Note {
                len: u32::try_from(piece.len()).unwrap_or_default(),
                text: [0; NOTE],
            };
            for (to, from) in note.text.iter_mut().zip(piece) {
                *to = *from;
            }
            self.put("notes", &owner.key(number), &note)?;
        }
        self.remove_draft(owner, before)
    }

    /// The text; none if there is none, or it is not whole.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn note(&self, owner: Owner) -> Result<Option<String>> {
        for draft in DRAFTS {
            if let Some(text) = self.draft(owner, draft)? {
                return Ok(String::from_utf8(text).ok());
            }
        }
        Ok(None)
    }

    /// A draft that is whole.
    fn draft(&self, owner: Owner, draft: u32) -> Result<Option<Vec<u8>>> {
        let mut text = Vec::new();
        for piece in 0..PIECES {
            let Some(note) = self.get::<Note>("notes", &owner.key(draft + piece))? else {
                return Ok(None);
            };
            let len = (note.len as usize).min(NOTE);
            text.extend(note.text.iter().take(len));
            if len < NOTE {
                break;
            }
        }
        Ok(Some(text))
    }

    /// The prints of all texts, in the order of their owners. One that is not whole, or is there twice, has the
    /// print of no text.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn prints(&self) -> Result<Vec<(Owner, Print)>> {
        let mut pieces = Vec::new();
        self.each("notes", |key: NoteKey, note: Note| {
            let owner = match key.kind {
                0 => Owner::Service(key.id),
                _ => Owner::Backend(key.id),
            };
            let text = note.text.get(..note.len as usize).unwrap_or(&note.text);
            let mut print = Print::default();
            print.add(key.piece % PIECES, text);
            pieces.push((owner, print));
        })?;
        pieces.sort_unstable_by_key(|(owner, _)| *owner);
        pieces.dedup_by(|(owner, print), (before, all)| {
            let same = owner == before;
            if same {
                all.0 = all.0.wrapping_add(print.0);
            }
            same
        });
        Ok(pieces)
    }

    /// Removes the text.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_note(&self, owner: Owner) -> Result<()> {
        DRAFTS
            .into_iter()
            .try_for_each(|draft| self.remove_draft(owner, draft))
    }

    /// Removes whatever has numbers of pieces of this owner's text, gaps or not; that takes hundreds of calls.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn purge_note(&self, owner: Owner) -> Result<()> {
        for piece in 0..DRAFTS.len() as u32 * PIECES {
            self.remove("notes", &owner.key(piece))?;
        }
        Ok(())
    }

    /// The last piece first: what a process leaves that dies over it is not whole, and is found from its
    /// beginning on.
    fn remove_draft(&self, owner: Owner, draft: u32) -> Result<()> {
        let mut there = 0;
        while there < PIECES
            && self
                .get::<Note>("notes", &owner.key(draft + there))?
                .is_some()
        {
            there += 1;
        }
        for piece in (0..there).rev() {
            self.remove("notes", &owner.key(draft + piece))?;
        }
        Ok(())
    }
}
