//! Rows that lie densely in memory, found by a hash table of their places.

use hashbrown::HashTable;

/// A row that is told from others by a part of it.
pub(super) trait Row {
    /// Whether both have the same key.
    fn is_same(&self, other: &Self) -> bool;
    fn is_marked(&self, mark: u32) -> bool;
    fn hash(&self, hasher: &ahash::RandomState) -> u64;
}

/// The rows of one shard.
pub(super) struct Shelf<R> {
    rows: Vec<R>,
    places: HashTable<u32>,
}

impl<R> Default for Shelf<R> {
    fn default() -> Self {
        Self { rows: Vec::new(), places: HashTable::new() }
    }
}

impl<R: Row> Shelf<R> {
    pub(super) fn rows(&self) -> &[R] {
        &self.rows
    }

    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&R) -> bool) -> Option<&R> {
        let place = self.places.find(hash, |place| row(&self.rows, *place).is_some_and(&is_it))?;
        row(&self.rows, *place)
    }

    /// Puts a row in the place of the one with the same key, which is given back, or in a new one.
    pub(super) fn put(&mut self, hash: u64, new: R, hasher: &ahash::RandomState) -> Option<R> {
        let known = self
            .places
            .find(hash, |place| row(&self.rows, *place).is_some_and(|row| row.is_same(&new)));
        if let Some(old) = known.and_then(|place| self.rows.get_mut(index(*place))) {
            return Some(std::mem::replace(old, new));
        }
        let place = u32::try_from(self.rows.len()).ok()?;
        if self.rows.len() == self.rows.capacity() {
            // Small steps: a shard is copied in no time, and a million rows are to waste little.
            self.rows.reserve_exact(self.rows.len() / 8 + 16);
        }
        self.rows.push(new);
        let rows = &self.rows;
        self.places.insert_unique(hash, place, |place| {
            row(rows, *place).map_or(0, |row| row.hash(hasher))
        });
        None
    }

    /// Removes a row; the last one moves into its place.
    pub(super) fn remove(
        &mut self,
        hash: u64,
        hasher: &ahash::RandomState,
        is_it: impl Fn(&R) -> bool,
    ) -> Option<R> {
        let found =
            self.places.find_entry(hash, |place| row(&self.rows, *place).is_some_and(&is_it));
        let (place, _) = found.ok()?.remove();
        let last = u32::try_from(self.rows.len() - 1).ok()?;
        if place != last {
            let moved = row(&self.rows, last)?.hash(hasher);
            if let Some(known) = self.places.find_mut(moved, |known| *known == last) {
                *known = place;
            }
        }
        Some(self.rows.swap_remove(index(place)))
    }

    /// Removes the rows with another mark.
    pub(super) fn keep_marked(&mut self, mark: u32, hasher: &ahash::RandomState) {
        let before = self.rows.len();
        self.rows.retain(|row| row.is_marked(mark));
        if self.rows.len() == before {
            return;
        }
        self.rows.shrink_to_fit();
        let rows = &self.rows;
        let hash = |place: &u32| row(rows, *place).map_or(0, |row| row.hash(hasher));
        self.places = HashTable::with_capacity(rows.len());
        for place in (0..).take(rows.len()) {
            self.places.insert_unique(hash(&place), place, hash);
        }
    }
}

fn index(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

fn row<R>(rows: &[R], place: u32) -> Option<&R> {
    rows.get(index(place))
}
