//! Turns wanted values into few requests, and refused requests into smaller ones.
//!
//! Invariants: a value is never split over two requests (MB-10); unit ids, tables and poll groups never mix in one;
//! no request touches a range that must not be read; every wanted value is in exactly one block (MB-16).
//! All pure: made once when settings are read, [`bisect`] again when a device refuses a block (MB-17).

use crate::{Error, Read, Table};

/// A run of items in one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// First item, counted from 0.
    pub offset: u16,
    /// Number of items, at least 1.
    pub count: u16,
}

impl Span {
    /// First offset past the run; 65536 at most.
    pub fn end(self) -> u32 {
        u32::from(self.offset) + u32::from(self.count)
    }

    /// True if both runs share an item.
    pub fn overlaps(self, other: Self) -> bool {
        u32::from(self.offset) < other.end() && u32::from(other.offset) < self.end()
    }
}

/// A value somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Unit id.
    pub unit: u8,
    /// Table.
    pub table: Table,
    /// Poll group; only equal ones are read together.
    pub group: u16,
    /// Where the value lies.
    pub span: Span,
}

/// A range no request may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRead {
    /// Table.
    pub table: Table,
    /// The range.
    pub span: Span,
}

/// What a device can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Unwanted items that may be read along to save a request; 0 joins only touching or overlapping values.
    pub gap_max: u16,
    /// Most registers per request, 1..=125.
    pub registers_max: u16,
    /// Most bits per request, 1..=2000.
    pub bits_max: u16,
    /// Ranges to keep out of.
    pub no_read: Vec<NoRead>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { gap_max: 0, registers_max: 125, bits_max: 2000, no_read: Vec::new() }
    }
}

impl Limits {
    fn count_max(&self, table: Table) -> u16 {
        let own = if table.holds_bits() { self.bits_max } else { self.registers_max };
        own.min(table.count_max())
    }

    fn forbids(&self, table: Table, span: Span) -> bool {
        self.no_read.iter().any(|range| range.table == table && range.span.overlaps(span))
    }
}

/// One request and the values it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The request.
    pub read: Read,
    /// Poll group.
    pub group: u16,
    /// Indices into the list the plan was made from, in the order of their offsets.
    pub wants: Vec<usize>,
}

/// Why a value cannot be planned; `want` is its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Larger than one request may be: reading it in two would tear it.
    #[error("value of {count} items exceeds the {max} one request may read")]
    TooLarge {
        /// Index of the value.
        want: usize,
        /// Its size.
        count: u16,
        /// The limit.
        max: u16,
    },
    /// It lies in a range that must not be read.
    #[error("value lies in a range that must not be read")]
    Forbidden {
        /// Index of the value.
        want: usize,
    },
    /// Empty or past the end of the table.
    #[error("value has no place in the table")]
    Span {
        /// Index of the value.
        want: usize,
        /// What is wrong.
        source: Error,
    },
}

/// Groups wanted values into requests. Reports every value that cannot be read, not only the first.
pub fn plan(wants: &[Want], limits: &Limits) -> Result<Vec<Block>, Vec<PlanError>> {
    let errors: Vec<PlanError> =
        wants.iter().enumerate().filter_map(|(index, want)| check(index, *want, limits).err()).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut order: Vec<usize> = (0..wants.len()).collect();
    order.sort_by_key(|&index| {
        let want = &wants[index];
        (want.group, want.unit, want.table, want.span.offset, want.span.end(), index)
    });
    Ok(gather(&order, wants, limits))
}

/// Cuts a block into as few as possible of at most that many registers or bits each (MB-18). A value that is longer
/// stays whole and alone.
pub fn recut(block: &Block, wants: &[Want], limits: &Limits) -> Vec<Block> {
    gather(&block.wants, wants, limits)
}

/// Fewest requests for values in the order of their offsets: each takes in what it may before the next begins.
fn gather(order: &[usize], wants: &[Want], limits: &Limits) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for &index in order {
        let want = wants[index];
        if let Some(block) = blocks.last_mut()
            && let Some(read) = joined(block, want, limits)
        {
            block.read = read;
            block.wants.push(index);
            continue;
        }
        if let Ok(read) = Read::new(want.unit, want.table, want.span.offset, want.span.count) {
            blocks.push(Block { read, group: want.group, wants: vec![index] });
        }
    }
    blocks
}

/// Splits a block in two on the border of a value, near the middle, each half cut to what it serves.
///
/// `None` if all its values lie in the same place: then that place itself is what the device refuses.
pub fn bisect(block: &Block, wants: &[Want]) -> Option<(Block, Block)> {
    let span = |index: usize| wants[index].span;
    let borders: Vec<usize> =
        (1..block.wants.len()).filter(|&at| span(block.wants[at]) != span(block.wants[at - 1])).collect();
    let middle = u32::from(block.read.offset()) * 2 + u32::from(block.read.count());
    let at = *borders.iter().min_by_key(|&&at| (u32::from(span(block.wants[at]).offset) * 2).abs_diff(middle))?;
    let (low, high) = block.wants.split_at(at);
    Some((part(block, low, wants)?, part(block, high, wants)?))
}

fn part(block: &Block, members: &[usize], wants: &[Want]) -> Option<Block> {
    let offset = members.iter().map(|&index| wants[index].span.offset).min()?;
    let end = members.iter().map(|&index| wants[index].span.end()).max()?;
    let count = u16::try_from(end - u32::from(offset)).ok()?;
    let read = Read::new(block.read.unit(), block.read.table(), offset, count).ok()?;
    Some(Block { read, group: block.group, wants: members.to_vec() })
}

fn check(index: usize, want: Want, limits: &Limits) -> Result<(), PlanError> {
    let max = limits.count_max(want.table);
    if want.span.count > max {
        return Err(PlanError::TooLarge { want: index, count: want.span.count, max });
    }
    if limits.forbids(want.table, want.span) {
        return Err(PlanError::Forbidden { want: index });
    }
    match Read::new(want.unit, want.table, want.span.offset, want.span.count) {
        Ok(_) => Ok(()),
        Err(source) => Err(PlanError::Span { want: index, source }),
    }
}

/// The block's request grown to serve one more value, if the rules allow it.
fn joined(block: &Block, want: Want, limits: &Limits) -> Option<Read> {
    let read = &block.read;
    if block.group != want.group || read.unit() != want.unit || read.table() != want.table {
        return None;
    }
    let end = u32::from(read.offset()) + u32::from(read.count());
    let gap = u32::from(want.span.offset).saturating_sub(end);
    if gap > u32::from(limits.gap_max) {
        return None;
    }
    let count = u16::try_from(end.max(want.span.end()) - u32::from(read.offset())).ok()?;
    if count > limits.count_max(read.table()) {
        return None;
    }
    if gap > 0 && limits.forbids(read.table(), Span { offset: read.offset(), count }) {
        return None;
    }
    Read::new(read.unit(), read.table(), read.offset(), count).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn want(offset: u16, count: u16) -> Want {
        Want { unit: 1, table: Table::HoldingRegister, group: 0, span: Span { offset, count } }
    }

    fn shape(blocks: &[Block]) -> Vec<(u16, u16)> {
        blocks.iter().map(|block| (block.read.offset(), block.read.count())).collect()
    }

    // AC-012
    #[test]
    fn contiguous_values_fill_requests() {
        let singles: Vec<Want> = (0..300).map(|offset| want(offset, 1)).collect();
        assert_eq!(shape(&plan(&singles, &Limits::default()).unwrap()), [(0, 125), (125, 125), (250, 50)]);
        let doubles: Vec<Want> = (0..150).map(|n| want(n * 2, 2)).collect();
        assert_eq!(shape(&plan(&doubles, &Limits::default()).unwrap()), [(0, 124), (124, 124), (248, 52)]);
    }

    // MB-16
    #[test]
    fn gaps_join_only_when_allowed() {
        let wants = [want(0, 2), want(5, 1), want(1, 2)];
        assert_eq!(shape(&plan(&wants, &Limits::default()).unwrap()), [(0, 3), (5, 1)]);
        let wide = Limits { gap_max: 10, ..Limits::default() };
        assert_eq!(shape(&plan(&wants, &wide).unwrap()), [(0, 6)]);
        let hole = NoRead { table: Table::HoldingRegister, span: Span { offset: 4, count: 1 } };
        let fenced = Limits { no_read: vec![hole], ..wide };
        assert_eq!(shape(&plan(&wants, &fenced).unwrap()), [(0, 3), (5, 1)]);
    }

    // MB-16
    #[test]
    fn units_tables_and_groups_stay_apart() {
        let base = want(0, 1);
        let wants = [
            base,
            Want { unit: 2, ..want(1, 1) },
            Want { table: Table::InputRegister, ..want(1, 1) },
            Want { group: 1, ..want(1, 1) },
        ];
        assert_eq!(plan(&wants, &Limits::default()).unwrap().len(), 4);
    }

    #[test]
    fn what_cannot_be_read_is_reported_together() {
        let limits = Limits {
            registers_max: 8,
            no_read: vec![NoRead { table: Table::HoldingRegister, span: Span { offset: 100, count: 2 } }],
            ..Limits::default()
        };
        let errors = plan(&[want(0, 9), want(101, 1), want(65535, 2), want(5, 0)], &limits).unwrap_err();
        assert!(matches!(errors[0], PlanError::TooLarge { want: 0, count: 9, max: 8 }));
        assert!(matches!(errors[1], PlanError::Forbidden { want: 1 }));
        assert!(matches!(errors[2], PlanError::Span { want: 2, .. }));
        assert!(matches!(errors[3], PlanError::Span { want: 3, .. }));
    }

    // MB-17
    #[test]
    fn bisection_cuts_on_borders_and_ends_at_one_place() {
        let wants: Vec<Want> = (0..50).map(|n| want(n * 2, 2)).collect();
        let block = plan(&wants, &Limits::default()).unwrap().remove(0);
        let (low, high) = bisect(&block, &wants).unwrap();
        assert_eq!((low.read.offset(), low.read.count()), (0, 50));
        assert_eq!((high.read.offset(), high.read.count()), (50, 50));
        let same = [want(7, 1), want(7, 1)];
        let block = plan(&same, &Limits::default()).unwrap().remove(0);
        assert_eq!(bisect(&block, &same), None);
    }

    // MB-18
    #[test]
    fn a_block_is_cut_to_what_the_device_answers() {
        let wants: Vec<Want> = (0..50).map(|n| want(n * 2, 2)).chain([want(100, 20)]).collect();
        let block = plan(&wants, &Limits::default()).unwrap().remove(0);
        let small = Limits { registers_max: 15, ..Limits::default() };
        let cut = recut(&block, &wants, &small);
        assert_eq!(shape(&cut)[..3], [(0, 14), (14, 14), (28, 14)]);
        assert_eq!(shape(&cut).last(), Some(&(100, 20)), "longer than the limit, but one value");
        assert_eq!(cut.iter().map(|block| block.wants.len()).sum::<usize>(), 51);
    }

    /// True if one request may serve all these values and nothing but gaps that are allowed.
    fn is_legal(set: &[Want], limits: &Limits) -> bool {
        let (Some(first), Some(end)) =
            (set.iter().map(|want| want.span.offset).min(), set.iter().map(|want| want.span.end()).max())
        else {
            return true;
        };
        if end - u32::from(first) > u32::from(limits.registers_max) {
            return false;
        }
        let wanted = |offset: u32| set.iter().any(|w| (u32::from(w.span.offset)..w.span.end()).contains(&offset));
        let mut gap = 0;
        for offset in u32::from(first)..end {
            gap = if wanted(offset) { 0 } else { gap + 1 };
            let place = Span { offset: u16::try_from(offset).unwrap(), count: 1 };
            if gap > u32::from(limits.gap_max) || (gap > 0 && limits.forbids(Table::HoldingRegister, place)) {
                return false;
            }
        }
        true
    }

    /// The fewest legal sets these values can be shared out among: every way is tried.
    fn fewest(wants: &[Want], sets: &mut Vec<Vec<Want>>, limits: &Limits, best: &mut usize) {
        if sets.len() >= *best {
            return;
        }
        let Some((next, rest)) = wants.split_first() else {
            // Only whole sets count: a gap may be closed by a value that joined later.
            if sets.iter().all(|set| is_legal(set, limits)) {
                *best = sets.len();
            }
            return;
        };
        for index in 0..sets.len() {
            sets[index].push(*next);
            fewest(rest, sets, limits, best);
            sets[index].pop();
        }
        sets.push(vec![*next]);
        fewest(rest, sets, limits, best);
        sets.pop();
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        // MB-16, B14: no way of sharing out the values needs fewer requests.
        #[test]
        fn no_plan_has_fewer_requests(
            spans in prop::collection::vec((0u16..40, 1u16..=6), 1..=7),
            gap_max in 0u16..6,
            registers_max in 8u16..=16,
            hole in prop::option::of((0u16..40, 1u16..3)),
        ) {
            let table = Table::HoldingRegister;
            let no_read: Vec<NoRead> =
                hole.into_iter().map(|(offset, count)| NoRead { table, span: Span { offset, count } }).collect();
            let limits = Limits { gap_max, registers_max, no_read, ..Limits::default() };
            let wants: Vec<Want> = spans
                .into_iter()
                .map(|(offset, count)| want(offset, count))
                .filter(|want| !limits.forbids(table, want.span))
                .collect();
            let blocks = plan(&wants, &limits).unwrap();
            let mut best = blocks.len() + 1;
            fewest(&wants, &mut Vec::new(), &limits, &mut best);
            prop_assert_eq!(blocks.len(), best, "{:?}", blocks);
        }
    }

    proptest! {
        #[test]
        fn every_value_is_whole_in_exactly_one_block(
            spans in prop::collection::vec((0u16..2000, 1u16..=4, 0u16..2, any::<bool>()), 0..200),
            gap_max in 0u16..20,
            registers_max in 8u16..=125,
        ) {
            let wants: Vec<Want> = spans
                .into_iter()
                .map(|(offset, count, group, bits)| Want {
                    group,
                    table: if bits { Table::Coil } else { Table::HoldingRegister },
                    ..want(offset, count)
                })
                .collect();
            let limits = Limits { gap_max, registers_max, ..Limits::default() };
            let mut seen = vec![0; wants.len()];
            let mut stack = plan(&wants, &limits).unwrap();
            while let Some(block) = stack.pop() {
                prop_assert!(block.read.count() <= limits.count_max(block.read.table()));
                for &index in &block.wants {
                    let want = &wants[index];
                    prop_assert!(want.span.offset >= block.read.offset());
                    let end = u32::from(block.read.offset()) + u32::from(block.read.count());
                    prop_assert!(want.span.end() <= end);
                    prop_assert_eq!((want.table, want.group), (block.read.table(), block.group));
                }
                match bisect(&block, &wants) {
                    Some((low, high)) => {
                        prop_assert!(!low.wants.is_empty() && !high.wants.is_empty());
                        stack.extend([low, high]);
                    }
                    None => block.wants.iter().for_each(|&index| seen[index] += 1),
                }
            }
            prop_assert!(seen.iter().all(|count| *count == 1));
        }
    }
}
