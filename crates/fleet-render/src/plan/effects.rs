//! What a plan does, as rules about signatures name it.

use fleet_model::{Kind, TrustEffect};

use super::{Change, Plan, Radius};

impl Plan {
    /// Its effects. `radius` is how far the change reaches with everything that goes along with it; the plan's own where
    /// nothing does.
    pub fn effects(&self, radius: &Radius) -> Vec<TrustEffect> {
        let touched = |kinds: &[Kind]| {
            self.objects.iter().any(|object| kinds.contains(&object.kind) && object.change != Change::Moved)
        };
        let devices = radius.devices_unmanaged > 0
            || !self.groups.is_empty()
            || !self.unmanaged.is_empty()
            || !self.reassigned.is_empty();
        let fleets = self.objects.iter().any(|object| object.kind == Kind::Fleet && object.change == Change::Removed);
        let all = [
            (TrustEffect::SyncPolicy, touched(&[Kind::SyncPolicy])),
            (TrustEffect::Sources, touched(&[Kind::Repository, Kind::ResourceSync])),
            (TrustEffect::Enrollment, touched(&[Kind::EnrollmentPolicy])),
            (TrustEffect::RemoveFleet, fleets || radius.fleets_removed > 0),
            (TrustEffect::OsImage, self.groups.iter().any(|group| group.os.is_some())),
            (TrustEffect::Applications, self.groups.iter().any(|group| !group.applications.is_empty())),
            (TrustEffect::AnyDevice, devices),
        ];
        all.into_iter().filter(|(_, has)| *has).map(|(effect, _)| effect).collect()
    }
}
