//! From a module's `.eh_frame` section to rows.
//!
//! A function of the usual shape pushes the frame pointer first and restores it last. Between, the frame pointer leads
//! to the caller; at its first and last instructions, the instruction itself tells ([`crate::signal::context`]). It gets
//! the rule [`Rule::FramePointer`], one row for any number of such functions in a row. All others get the rows that
//! their section has.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, NativeEndian, Register, RegisterRule, UnwindContext,
    UnwindSection, UnwindTableRow, X86_64,
};

use super::rule::{Row, Rule};

/// What linkers say of the linkage table: the stack pointer plus 8, plus 8 in the last five bytes of each entry of 16.
const LINKAGE_TABLE: &[u8] = &[0x77, 0x08, 0x80, 0x00, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];

type Bytes<'a> = EndianSlice<'a, NativeEndian>;

/// A copy of the sections that say where callers are, and where they were.
#[derive(Debug, Default)]
pub(super) struct Sections {
    /// Where the module was loaded; rows are relative to it.
    pub(super) base: u64,
    pub(super) header: Vec<u8>,
    pub(super) header_address: u64,
    /// From the start of `.eh_frame` on; it may go beyond its end.
    pub(super) frames: Vec<u8>,
    pub(super) frames_address: u64,
}

/// Where `.eh_frame` is, which the header tells.
pub(super) fn frames_address(header: &[u8], address: u64) -> Option<u64> {
    let bases = BaseAddresses::default().set_eh_frame_hdr(address);
    let parsed = EhFrameHdr::new(header, NativeEndian).parse(&bases, size_of::<usize>() as u8).ok()?;
    parsed.eh_frame_ptr().direct().ok()
}

/// The rows of a module. What cannot be read is left out, and walked by frame pointers.
pub(super) fn rows(sections: &Sections) -> Vec<Row> {
    let mut rows = Rows { base: sections.base, rows: Vec::new() };
    // The rules are about registers of x86_64. On aarch64 frame pointers are part of the calling convention.
    if cfg!(target_arch = "x86_64") {
        // The header lists the functions in the order of their addresses.
        let _ = functions(sections, |function| rows.add(function));
    }
    rows.rows
}

/// One function: its ranges of instructions, with the rule for each.
struct Function {
    ranges: Vec<(u64, u64, Rule)>,
}

fn functions(sections: &Sections, mut each: impl FnMut(&Function)) -> gimli::Result<()> {
    let bases =
        BaseAddresses::default().set_eh_frame_hdr(sections.header_address).set_eh_frame(sections.frames_address);
    let header = EhFrameHdr::new(&sections.header, NativeEndian).parse(&bases, size_of::<usize>() as u8)?;
    let frames = EhFrame::new(&sections.frames, NativeEndian);
    let Some(table) = header.table() else { return Ok(()) };
    let mut entries = table.iter(&bases);
    let mut context = UnwindContext::new();
    while let Some((_, entry)) = entries.next()? {
        let offset = table.pointer_to_offset(entry)?;
        let Ok(entry) = frames.fde_from_offset(&bases, offset, EhFrame::cie_from_offset) else { continue };
        let mut function = Function { ranges: Vec::new() };
        let Ok(mut table) = entry.rows(&frames, &bases, &mut context) else { continue };
        while let Ok(Some(row)) = table.next_row() {
            function.ranges.push((row.start_address(), row.end_address(), rule(row, &frames)));
        }
        each(&function);
    }
    Ok(())
}

fn rule(row: &UnwindTableRow<usize>, frames: &EhFrame<Bytes<'_>>) -> Rule {
    match row.register(X86_64::RA) {
        Some(RegisterRule::Undefined) => return Rule::Root,
        Some(RegisterRule::Offset(-8)) => {}
        _ => return Rule::FramePointer,
    }
    let words = |bytes: i64| (bytes % 8 == 0).then(|| u16::try_from(bytes / 8).ok()).flatten();
    let (register, offset) = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => (*register, *offset),
        // Others are in functions that align their stack, and keep a frame pointer for it.
        CfaRule::Expression(expression) => {
            let is_table = expression.get(frames).is_ok_and(|code| code.0.slice() == LINKAGE_TABLE);
            return if is_table { Rule::LinkageTable } else { Rule::FramePointer };
        }
    };
    let saved = match row.register(X86_64::RBP) {
        None | Some(RegisterRule::SameValue) => Some(0),
        Some(RegisterRule::Offset(offset)) => words(-offset).filter(|saved| *saved > 0),
        Some(_) => None,
    };
    let frame = words(offset);
    let (Some(frame), Some(saved)) = (frame, saved) else { return Rule::FramePointer };
    const SP: Register = X86_64::RSP;
    const FP: Register = X86_64::RBP;
    match register {
        SP => Rule::from_register(true, frame, saved),
        FP => Rule::from_register(false, frame, saved),
        _ => None,
    }
    .unwrap_or(Rule::FramePointer)
}

impl Function {
    /// Whether frame pointers, and a look at the interrupted instruction, find the caller everywhere.
    fn keeps_frame_pointer(&self) -> bool {
        const ENTERED: Rule = Rule::FromStackPointer { frame: 1, saved: 0 };
        const PUSHED: Rule = Rule::FromStackPointer { frame: 2, saved: 2 };
        const POINTED: Rule = Rule::FromFramePointer { frame: 2, saved: 2 };
        /// `endbr64; push rbp`, of which the first may be missing.
        const ENTRY: u64 = 5;
        /// `mov rbp, rsp`.
        const SET: u64 = 3;
        /// `ret`.
        const RETURN: u64 = 1;
        let [(start, pushed, ENTERED), (_, set, PUSHED), body @ ..] = self.ranges.as_slice() else { return false };
        let usual = |(start, end, rule): &(u64, u64, Rule)| {
            *rule == POINTED || (end - start == RETURN && matches!(rule, Rule::FromStackPointer { frame: 1, .. }))
        };
        [1, ENTRY].contains(&(pushed - start)) && set - pushed == SET && body.iter().all(usual)
    }
}

/// Rows being made, in the order of their addresses.
struct Rows {
    base: u64,
    rows: Vec<Row>,
}

impl Rows {
    fn add(&mut self, function: &Function) {
        let (Some(first), Some(last)) = (function.ranges.first(), function.ranges.last()) else { return };
        if function.keeps_frame_pointer() {
            self.push(first.0, Rule::FramePointer);
        } else {
            function.ranges.iter().for_each(|(start, _, rule)| self.push(*start, *rule));
        }
        // Nothing is known of what lies between functions.
        self.push(last.1, Rule::FramePointer);
    }

    fn push(&mut self, address: u64, rule: Rule) {
        let Some(Ok(start)) = address.checked_sub(self.base).map(u32::try_from) else { return };
        match self.rows.last() {
            Some(last) if last.start > start => return,
            Some(last) if last.start == start => {
                self.rows.pop();
            }
            _ => {}
        }
        if self.rows.last().map_or(Rule::FramePointer, |row| row.rule()) != rule {
            self.rows.push(Row::new(start, rule));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTERED: Rule = Rule::FromStackPointer { frame: 1, saved: 0 };
    const PUSHED: Rule = Rule::FromStackPointer { frame: 2, saved: 2 };
    const POINTED: Rule = Rule::FromFramePointer { frame: 2, saved: 2 };

    fn function(lengths: &[(u64, Rule)], mut start: u64) -> Function {
        let mut range = |(length, rule): &(u64, Rule)| {
            let range = (start, start + length, *rule);
            start += length;
            range
        };
        Function { ranges: lengths.iter().map(&mut range).collect() }
    }

    #[test]
    fn the_usual_shape_is_known() {
        let usual: [&[_]; 3] = [
            &[(1, ENTERED), (3, PUSHED), (50, POINTED), (1, ENTERED), (20, POINTED), (1, ENTERED)],
            &[(5, ENTERED), (3, PUSHED), (50, POINTED)],
            &[(1, ENTERED), (3, PUSHED), (8, POINTED), (1, Rule::FromStackPointer { frame: 1, saved: 2 })],
        ];
        for shape in usual {
            assert!(function(shape, 100).keeps_frame_pointer(), "{shape:?}");
        }
        let others: [&[_]; 5] = [
            &[(40, ENTERED)],
            &[(9, ENTERED), (3, PUSHED), (50, POINTED)], // works before it makes its frame
            &[(1, ENTERED), (3, PUSHED), (50, POINTED), (5, ENTERED)], // a jump at the end
            &[(1, ENTERED), (7, PUSHED), (50, POINTED)],
            &[(1, ENTERED), (3, PUSHED), (50, Rule::FromStackPointer { frame: 9, saved: 2 })],
        ];
        for shape in others {
            assert!(!function(shape, 100).keeps_frame_pointer(), "{shape:?}");
        }
    }

    #[test]
    fn usual_functions_need_no_rows_and_neighbours_share_them() {
        let mut rows = Rows { base: 0x1000, rows: Vec::new() };
        let usual: &[_] = &[(1, ENTERED), (3, PUSHED), (50, POINTED)];
        rows.add(&function(usual, 0x1000));
        rows.add(&function(usual, 0x1040));
        assert_eq!(rows.rows, []);
        rows.add(&function(&[(10, ENTERED), (10, PUSHED)], 0x1080));
        rows.add(&function(&[(5, ENTERED)], 0x1094)); // begins where the other ends
        rows.add(&function(usual, 0x10a0));
        rows.add(&function(&[(5, ENTERED)], 0x1080)); // out of order
        let expected = [(0x80, ENTERED), (0x8a, PUSHED), (0x94, ENTERED), (0x99, Rule::FramePointer)];
        assert_eq!(rows.rows, expected.map(|(start, rule)| Row::new(start, rule)));
    }
}
