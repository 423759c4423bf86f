//! The volumes of an application: names, what fills them, where they appear.

use std::collections::HashMap;

use fleet_model::{AppType, Application, ApplicationVolume};

use super::files::relative_path;
use super::{MAX_NAME, Rules, catalog_item, is_label};
use crate::apps::clip;
use crate::codes;
use crate::finding::Finding;

impl Rules<'_, '_, '_> {
    pub(super) fn volumes(&mut self, pointer: &str, application: &Application) {
        let is_container = application.app_type() == AppType::Container;
        let mut names: HashMap<&str, u32> = HashMap::new();
        for (at, volume) in application.volumes().iter().enumerate() {
            let below = format!("{pointer}/volumes/{at}");
            let name_pointer = format!("{below}/name");
            if !is_label(&volume.name, MAX_NAME) {
                let message = format!("the volume's name {:?} is not valid", clip(&volume.name));
                self.find(codes::BAD_VOLUME, name_pointer.as_str(), message).hint =
                    Some("lower-case letters, digits and `-`, with a letter or digit at both ends".to_owned());
            }
            let line = self.document.value_span(&name_pointer).line;
            if let Some(first) = names.insert(&volume.name, line) {
                let message =
                    format!("the volume {:?} is given twice; the first is on line {first}", clip(&volume.name));
                self.find(codes::BAD_VOLUME, name_pointer, message);
            }
            self.volume(&below, volume, is_container);
        }
    }

    fn volume(&mut self, pointer: &str, volume: &ApplicationVolume, is_container: bool) {
        match (&volume.image, &volume.mount) {
            (None, None) if !is_container => {
                self.find(codes::BAD_VOLUME, pointer, "the volume has no `image`");
            }
            (_, None) if is_container => {
                let message = "the volume of a container has no `mount`, so nothing says where it appears";
                self.find(codes::BAD_VOLUME, pointer, message).hint = Some("add `mount: {path: /…}`".to_owned());
            }
            (_, Some(_)) if !is_container => {
                let message =
                    "`mount` is for container applications; here the files of the application mount the volume";
                let at = self.document.key_span(&format!("{pointer}/mount"));
                let hint = "remove mount, and name the volume in a service or quadlet file";
                self.findings.push(
                    Finding::new(codes::BAD_VOLUME, at, message).at_pointer(format!("{pointer}/mount")).hint(hint),
                );
            }
            (_, _) => {}
        }
        if let Some(mount) = volume.mount.as_ref().filter(|_| is_container)
            && let Err(reason) = check_mount(&mount.path)
        {
            let message = format!("the mount path {:?} is not valid: {reason}", clip(&mount.path));
            self.find(codes::BAD_VOLUME, format!("{pointer}/mount/path"), message);
        }
        let Some(image) = &volume.image else { return };
        let pointer = format!("{pointer}/image");
        if image.reference.is_some() == image.catalog_item_ref.is_some() {
            self.find(codes::ONE_OF, pointer.as_str(), "give exactly one of `reference` and `catalogItemRef`");
        }
        if let Some(reference) = &image.reference {
            self.image(&format!("{pointer}/reference"), reference);
        }
        if let Some(item) = &image.catalog_item_ref {
            catalog_item(self.document, &format!("{pointer}/catalogItemRef"), item, self.findings);
        }
    }
}

/// `path[:options]`.
fn check_mount(mount: &str) -> Result<(), &'static str> {
    let (path, options) = mount.split_once(':').map_or((mount, None), |(path, options)| (path, Some(options)));
    let Some(below) = path.strip_prefix('/') else { return Err("it is not absolute") };
    if below.is_empty() {
        return Err("a volume cannot lie over the whole container");
    }
    relative_path(below)?;
    let is_option = |option: &str| {
        !option.is_empty() && option.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'-' | b'_'))
    };
    match options {
        Some(options) if !options.split(',').all(is_option) => {
            Err("behind the `:` stand mount options with commas between them, such as `ro,Z`")
        }
        Some(_) | None => Ok(()),
    }
}
