//! Rows of numbers.

use std::ops::Index;

/// Rows of equal length, one behind the other in memory: logits `[rows, vocab_size]` or hidden states
/// `[rows, hidden_size]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    values: Vec<f32>,
    width: usize,
}

impl Rows {
    pub(crate) fn new((values, width): (Vec<f32>, usize)) -> Self {
        Rows { values, width }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How long each is.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One row, if it is there.
    pub fn get(&self, row: usize) -> Option<&[f32]> {
        (row < self.len()).then(|| &self[row])
    }

    /// The last row, if there is one.
    pub fn last(&self) -> Option<&[f32]> {
        self.get(self.len().checked_sub(1)?)
    }

    /// One after the other.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// All numbers, row by row.
    pub fn as_slice(&self) -> &[f32] {
        &self.values
    }

    /// All numbers, row by row.
    pub fn into_vec(self) -> Vec<f32> {
        self.values
    }
}

impl Index<usize> for Rows {
    type Output = [f32];

    fn index(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..][..self.width]
    }
}

impl<'a> IntoIterator for &'a Rows {
    type Item = &'a [f32];
    type IntoIter = std::slice::ChunksExact<'a, f32>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::Rows;

    #[test]
    fn rows_are_slices_of_one_array() {
        let rows = Rows::new((vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3));
        assert_eq!((rows.len(), rows.width(), rows.is_empty()), (2, 3, false));
        assert_eq!(&rows[1], [4.0, 5.0, 6.0]);
        assert_eq!(rows.last(), Some(&[4.0, 5.0, 6.0][..]));
        assert_eq!(rows.get(2), None);
        assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), [1.0, 4.0]);
        assert_eq!((&rows).into_iter().count(), 2);
        assert_eq!(rows.as_slice(), rows.clone().into_vec());
    }

    #[test]
    fn there_may_be_none() {
        let rows = Rows::default();
        assert_eq!((rows.len(), rows.is_empty(), rows.last(), rows.iter().count()), (0, true, None, 0));
    }
}
