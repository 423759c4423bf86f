//! Documents that devices have before or after, told apart without rendering.

use std::collections::HashMap;
use std::rc::Rc;

use fleet_model::{Digest, Labels};

use super::Revision;
use super::faces::{Contents, Face};
use super::sides::{Holder, Side};
use crate::document::InputKey;
use crate::template::Subject;

/// A document: its revision and what the device brings to it.
pub(super) type DocumentId = usize;

/// Documents that were met, each with a device that has it. Nothing is rendered to tell them apart.
#[derive(Default)]
pub(super) struct Documents<'a> {
    /// Fleets and devices have other rules for `{{`.
    revisions: HashMap<(bool, Digest), usize>,
    ids: HashMap<(usize, InputKey), DocumentId>,
    list: Vec<Known<'a>>,
    contents: Vec<Contents>,
    /// What was made of them and is still needed.
    faces: HashMap<DocumentId, Rc<Result<Face<'a>, String>>>,
}

struct Known<'a> {
    revision: &'a Revision,
    revision_id: usize,
    name: String,
    labels: Labels,
    /// How many pairs it is in.
    uses: usize,
}

impl<'a> Documents<'a> {
    /// The document that a device has, by its revision and what the device brings to it.
    pub(super) fn id(&mut self, side: &Side<'a>, name: &str) -> Option<DocumentId> {
        let revision: &'a Revision = side.revision()?;
        let is_template = matches!(side.holder, Holder::Fleet(_));
        let next = self.revisions.len();
        let revision_id = *self.revisions.entry((is_template, revision.digest)).or_insert(next);
        if revision_id == next {
            self.contents.push(Contents::default());
        }
        let key = revision.prepared.input_key(&Subject { name, labels: &side.labels });
        let next = self.list.len();
        let id = *self.ids.entry((revision_id, key)).or_insert(next);
        if id == next {
            let labels = side.labels.clone();
            self.list.push(Known { revision, revision_id, name: name.to_owned(), labels, uses: 0 });
        }
        Some(id)
    }

    /// One more pair needs the document.
    pub(super) fn reserve(&mut self, id: DocumentId) {
        self.list[id].uses += 1;
    }

    /// What the document says. Forgotten when no pair needs it any more.
    pub(super) fn take(&mut self, id: DocumentId) -> Rc<Result<Face<'a>, String>> {
        let known = &mut self.list[id];
        let face = match self.faces.remove(&id) {
            Some(face) => face,
            None => {
                let subject = Subject { name: &known.name, labels: &known.labels };
                Rc::new(Face::new(known.revision, &subject, &mut self.contents[known.revision_id]))
            }
        };
        known.uses = known.uses.saturating_sub(1);
        if known.uses > 0 {
            self.faces.insert(id, Rc::clone(&face));
        }
        face
    }

    /// The digest of the written document.
    pub(super) fn rendered(&self, id: DocumentId) -> Option<Digest> {
        let known = &self.list[id];
        let subject = Subject { name: &known.name, labels: &known.labels };
        known.revision.prepared.render(&subject).ok().map(|rendered| rendered.digest)
    }
}
