//! The outputs of `fleetctl render`.

use serde_json::Value;

use super::files::Target;
use super::{Document, RenderArgs, RenderFormat};
use crate::Io;
use crate::output::one_line;

/// Where documents go.
#[derive(Debug)]
pub(super) enum Output {
    /// `true` after the first.
    Yaml(bool),
    /// The bytes alone.
    Bytes,
    /// One object per line.
    Lines,
    Files(Target),
}

impl Output {
    /// Gets ready.
    ///
    /// # Errors
    /// A directory that may not be written into.
    pub(super) fn begin(args: &RenderArgs) -> anyhow::Result<Self> {
        Ok(match (args.output, &args.out, &args.devices[..]) {
            (RenderFormat::Files, Some(out), _) => Self::Files(Target::open(out, args.force)?),
            (RenderFormat::Files, None, _) => anyhow::bail!("-o files needs --out DIR"),
            (RenderFormat::Yaml | RenderFormat::Json, Some(_), _) => {
                anyhow::bail!("--out is for files: add -o files, or redirect the output")
            }
            (RenderFormat::Yaml, ..) => Self::Yaml(false),
            (RenderFormat::Json, _, [_]) => Self::Bytes,
            (RenderFormat::Json, ..) => Self::Lines,
        })
    }

    /// Shows one document.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn document(&mut self, document: &Document, io: &mut Io<'_>) -> anyhow::Result<()> {
        match self {
            Self::Yaml(more) => {
                if std::mem::replace(more, true) {
                    writeln!(io.out, "---")?;
                }
                yaml(document, io)
            }
            Self::Bytes => {
                io.out.write_all(&document.rendered.body)?;
                Ok(writeln!(io.out)?)
            }
            Self::Lines => lines(document, io),
            Self::Files(target) => target.write(document, io),
        }
    }

    /// Says what was done.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn end(self, io: &mut Io<'_>) -> anyhow::Result<()> {
        match self {
            Self::Files(target) => target.end(io),
            Self::Yaml(_) | Self::Bytes | Self::Lines => Ok(()),
        }
    }
}

fn yaml(document: &Document, io: &mut Io<'_>) -> anyhow::Result<()> {
    let value: Value = serde_json::from_slice(&document.rendered.body)?;
    let fleet = document.fleet.as_deref().unwrap_or("none: the device has a specification of its own");
    writeln!(io.out, "# device:   {}", one_line(&document.device))?;
    writeln!(io.out, "# fleet:    {}", one_line(fleet))?;
    writeln!(io.out, "# from:     {}", one_line(&document.place))?;
    writeln!(io.out, "# revision: {}", document.revision.name)?;
    writeln!(io.out, "# digest:   {}", document.rendered.digest.hex())?;
    Ok(io.out.write_all(serde_yaml::to_string(&value)?.as_bytes())?)
}

fn lines(document: &Document, io: &mut Io<'_>) -> anyhow::Result<()> {
    let device = Value::from(document.device.as_str());
    let fleet = document.fleet.as_deref().map_or(Value::Null, Value::from);
    let digest = document.rendered.digest.hex();
    write!(io.out, r#"{{"device":{device},"fleet":{fleet},"digest":"{digest}","spec":"#)?;
    io.out.write_all(&document.rendered.body)?;
    Ok(writeln!(io.out, "}}")?)
}
