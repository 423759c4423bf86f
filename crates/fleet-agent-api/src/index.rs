//! The devices in memory: what each should have, and who waits for it to change.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use fleet_model::{DeviceName, OrgId};
use fleet_store::IndexedDevice;
use tokio::sync::{oneshot, watch};

/// What identifies a device.
pub(crate) type DeviceKey = (OrgId, DeviceName);

/// Why a parked poll goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Look again.
    Changed,
    /// The device polled anew: this one is no longer of use.
    Replaced,
}

/// A device, its waiting poll and its unwritten heartbeat.
pub(crate) struct Slot {
    pub(crate) key: DeviceKey,
    state: Mutex<State>,
    /// Microseconds since 1970 of a heartbeat that is not written yet; 0 without.
    beat: AtomicI64,
    /// A version that the device knows and that is above what it was ever given; 0 without.
    ahead: AtomicI64,
}

struct State {
    device: Arc<IndexedDevice>,
    waiter: Option<oneshot::Sender<Wake>>,
}

impl Slot {
    fn new(device: IndexedDevice) -> Self {
        Self {
            key: (device.org, device.name.clone()),
            state: Mutex::new(State { device: Arc::new(device), waiter: None }),
            beat: AtomicI64::new(0),
            ahead: AtomicI64::new(0),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if something did, the state is whole all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the device should have now.
    pub(crate) fn device(&self) -> Arc<IndexedDevice> {
        Arc::clone(&self.state().device)
    }

    /// Waits for the next change unless `seen` is no longer what is there. The older waiter is let go.
    pub(crate) fn wait_unless_changed(&self, seen: &Arc<IndexedDevice>) -> Option<oneshot::Receiver<Wake>> {
        let mut state = self.state();
        if !Arc::ptr_eq(&state.device, seen) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        if let Some(older) = state.waiter.replace(sender) {
            // Its poll may have ended already.
            let _ = older.send(Wake::Replaced);
        }
        Some(receiver)
    }

    /// Takes over a newer state of the device. `true` when an agent must hear of it.
    fn update(&self, device: IndexedDevice, force: bool) -> bool {
        let mut state = self.state();
        let old = &state.device;
        if device.change_seq < old.change_seq && !force || device == **old {
            return false;
        }
        let news = device.rendered_version != old.rendered_version
            || device.rendered_digest != old.rendered_digest
            || device.revoked != old.revoked;
        state.device = Arc::new(device);
        if news {
            wake(&mut state);
        }
        news
    }

    /// Notes that the device was heard of. `true` when the slot is to be put in line for writing.
    pub(crate) fn beat(&self, at_micros: i64, ahead: Option<i64>) -> bool {
        if let Some(version) = ahead {
            self.ahead.fetch_max(version, Ordering::Relaxed);
        }
        self.beat.swap(at_micros.max(1), Ordering::AcqRel) == 0
    }

    /// Takes the heartbeat, and the version the device is ahead with, to write them.
    pub(crate) fn take_beat(&self) -> (i64, Option<i64>) {
        let at = self.beat.swap(0, Ordering::AcqRel);
        let ahead = self.ahead.swap(0, Ordering::Relaxed);
        (at, (ahead > 0).then_some(ahead))
    }
}

fn wake(state: &mut State) {
    if let Some(waiter) = state.waiter.take() {
        // Its poll may have ended already.
        let _ = waiter.send(Wake::Changed);
    }
}

/// All devices.
pub(crate) struct Index {
    slots: RwLock<HashMap<DeviceKey, Arc<Slot>>>,
    /// The newest change that any device here was read with.
    newest: AtomicI64,
    loaded: watch::Sender<bool>,
}

impl Default for Index {
    fn default() -> Self {
        Self { slots: RwLock::default(), newest: AtomicI64::new(-1), loaded: watch::Sender::new(false) }
    }
}

impl Index {
    /// The slot of a device.
    pub(crate) fn find(&self, key: &DeviceKey) -> Option<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).get(key).map(Arc::clone)
    }

    /// Takes over a device's state unless a newer one is there; wakes its poll when the agent must hear of it.
    pub(crate) fn put(&self, device: IndexedDevice) -> Arc<Slot> {
        self.newest.fetch_max(device.change_seq, Ordering::AcqRel);
        self.put_inner(device, false)
    }

    /// The position of the newest change that was read; -1 without any. Polls read devices that are new to them, so that it
    /// may be ahead of what was followed.
    pub(crate) fn newest(&self) -> i64 {
        self.newest.load(Ordering::Acquire)
    }

    fn put_inner(&self, device: IndexedDevice, force: bool) -> Arc<Slot> {
        let key = (device.org, device.name.clone());
        if let Some(slot) = self.find(&key) {
            slot.update(device, force);
            return slot;
        }
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(key).or_insert_with(|| Arc::new(Slot::new(device.clone())));
        let slot = Arc::clone(slot);
        drop(slots);
        slot.update(device, force);
        slot
    }

    /// Takes over the state of all devices, also where it is older than what is there; devices that are not among
    /// them leave, and their polls look again.
    pub(crate) fn replace_all(&self, devices: Vec<IndexedDevice>) {
        let keys: std::collections::HashSet<DeviceKey> =
            devices.iter().map(|device| (device.org, device.name.clone())).collect();
        self.newest.store(devices.iter().map(|device| device.change_seq).max().unwrap_or(-1), Ordering::Release);
        for device in devices {
            self.put_inner(device, true);
        }
        self.slots.write().unwrap_or_else(PoisonError::into_inner).retain(|key, slot| {
            let stays = keys.contains(key);
            if !stays {
                wake(&mut slot.state());
            }
            stays
        });
        self.loaded.send_replace(true);
    }

    /// How many devices there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether all devices were read once.
    pub(crate) fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Waits until all devices were read once, at most `timeout`.
    pub(crate) async fn wait_loaded(&self, timeout: Duration) -> bool {
        let mut loaded = self.loaded.subscribe();
        // The sender lives as long as the index.
        tokio::time::timeout(timeout, loaded.wait_for(|loaded| *loaded)).await.is_ok_and(|waited| waited.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, version: i64, change_seq: i64) -> IndexedDevice {
        IndexedDevice {
            org: OrgId::DEFAULT,
            name: name.repeat(52).parse().unwrap(),
            labels: fleet_model::Labels::new(),
            owner_fleet: None,
            fleet_revision: None,
            source: None,
            commit: None,
            rendered_version: version,
            rendered_digest: None,
            render_error: None,
            generation: 1,
            revoked: Vec::new(),
            change_seq,
        }
    }

    #[test]
    fn a_change_wakes_the_waiting_poll_and_no_other() {
        let index = Index::default();
        let (a, b) = (index.put(device("a", 1, 1)), index.put(device("b", 1, 2)));
        let mut waits_a = a.wait_unless_changed(&a.device()).unwrap();
        let mut waits_b = b.wait_unless_changed(&b.device()).unwrap();
        index.put(device("b", 2, 3));
        assert!(waits_a.try_recv().is_err());
        assert_eq!(waits_b.try_recv(), Ok(Wake::Changed));
    }

    #[test]
    fn a_change_between_looking_and_waiting_is_not_lost() {
        let index = Index::default();
        let slot = index.put(device("a", 1, 1));
        let seen = slot.device();
        index.put(device("a", 2, 2));
        assert!(slot.wait_unless_changed(&seen).is_none());
    }

    #[test]
    fn a_newer_poll_replaces_the_older_and_labels_wake_nobody() {
        let index = Index::default();
        let slot = index.put(device("a", 1, 1));
        let mut first = slot.wait_unless_changed(&slot.device()).unwrap();
        let mut second = slot.wait_unless_changed(&slot.device()).unwrap();
        assert_eq!(first.try_recv(), Ok(Wake::Replaced));
        let labels = [("site".to_owned(), "berlin".to_owned())].into();
        index.put(IndexedDevice { labels, ..device("a", 1, 2) });
        assert!(second.try_recv().is_err());
        assert_eq!(slot.device().labels.len(), 1);
    }

    #[test]
    fn an_older_state_is_taken_only_when_everything_is_read_again() {
        let index = Index::default();
        let slot = index.put(device("a", 5, 9));
        index.put(device("b", 1, 10));
        index.put(device("a", 4, 3));
        assert_eq!(slot.device().rendered_version, 5);
        let mut waits = slot.wait_unless_changed(&slot.device()).unwrap();
        index.replace_all(vec![device("a", 4, 3)]);
        assert_eq!((slot.device().rendered_version, index.len()), (4, 1));
        assert_eq!(waits.try_recv(), Ok(Wake::Changed));
    }

    #[test]
    fn a_device_stands_in_line_once_however_often_it_is_heard_of() {
        let slot = Slot::new(device("a", 1, 1));
        assert!(slot.beat(10, None));
        assert!(!slot.beat(11, Some(7)));
        assert_eq!(slot.take_beat(), (11, Some(7)));
        assert!(slot.beat(12, None));
        assert_eq!(slot.take_beat(), (12, None));
    }
}
