//! Markdown tables of cases, and files that hold them between marks.

use std::fmt::Write;

use super::peers::{self, Peer};
use super::{Case, per_mac};
use crate::report::table::grouped;

/// Opens a block that holds [`summary`].
pub const SUMMARY: &str = "<!-- bench:summary -->";
/// Opens a block that holds [`cases`].
pub const CASES: &str = "<!-- bench:cases -->";
/// Closes either.
pub const END: &str = "<!-- bench:end -->";

/// A row per case.
#[must_use]
pub fn cases(cases: &[Case], peers: &[Peer]) -> String {
    let known = |engine: &&str| cases.iter().any(|case| peers::find(peers, engine, &case.model, &case.board).is_some());
    let engines: Vec<&str> = peers::engines(peers).into_iter().filter(known).collect();
    let is_bounded = cases.iter().any(|case| case.stack_bound_bytes.is_some());
    let (bound, bound_rule) = if is_bounded { (" stack bound B |", "---:|") } else { ("", "") };
    let mut head = format!("| model | board | instructions | per MAC | arena B | stack B |{bound} code B |");
    let mut rule = format!("|---|---|---:|---:|---:|---:|{bound_rule}---:|");
    let has_runtime = cases.iter().any(|case| case.runtime_code_bytes.is_some());
    if has_runtime {
        head += " runtime B |";
        rule += "---:|";
    }
    for engine in &engines {
        let _ = write!(head, " {engine} | per MAC | arena B | times ours |");
        rule += "---:|---:|---:|---:|";
    }
    let mut text = format!("{head}\n{rule}\n");
    for case in cases {
        let figures = [case.instructions, case.arena_bytes, case.stack_bytes, case.code_bytes].map(grouped);
        let [instructions, arena, stack, code] = figures;
        let ratio = case.instructions_per_mac;
        let bound = case.stack_bound_bytes.map_or(String::new(), grouped);
        let bound = if is_bounded { format!(" {bound} |") } else { String::new() };
        let _ = write!(
            text,
            "| {} | {} | {instructions} | {ratio:.3} | {arena} | {stack} |{bound} {code} |",
            case.model, case.board
        );
        if has_runtime {
            let _ = write!(text, " {} |", case.runtime_code_bytes.map_or(String::new(), grouped));
        }
        for engine in &engines {
            match peers::find(peers, engine, &case.model, &case.board) {
                None => text += " | | | |",
                Some(peer) => {
                    let arena = peer.arena_bytes.map_or(String::new(), grouped);
                    let times = peer.instructions as f64 / case.instructions.max(1) as f64;
                    let ratio = per_mac(peer.instructions, case.macs);
                    let _ = write!(text, " {} | {ratio:.3} | {arena} | {times:.2} |", grouped(peer.instructions));
                }
            }
        }
        text.push('\n');
    }
    text
}

/// A row per model with instructions per multiply-accumulate on every board; those of the first engine in `peers` in brackets.
#[must_use]
pub fn summary(cases: &[Case], peers: &[Peer]) -> String {
    let engine = peers::engines(peers).first().copied().unwrap_or("");
    let boards = distinct(cases, |case| &case.board);
    let mut text = "| model | MACs | arena B |".to_owned();
    for board in &boards {
        let _ = write!(text, " {} |", board.trim_start_matches("qemu-").to_uppercase().replace("-NODSP", ", no DSP"));
    }
    let _ = writeln!(text, "\n|---|---:|---:|{}", "---:|".repeat(boards.len()));
    for model in distinct(cases, |case| &case.model) {
        let of_model = || cases.iter().filter(|case| case.model == model);
        let (macs, arena) = of_model().fold((0, 0), |(_, arena), case| (case.macs, arena.max(case.arena_bytes)));
        let theirs = peers.iter().filter(|peer| peer.engine == engine && peer.model == model);
        let theirs = theirs.filter_map(|peer| peer.arena_bytes).min();
        let brackets = theirs.map_or(String::new(), |bytes| format!(" ({})", grouped(bytes)));
        let _ = write!(text, "| {model} | {} | {}{brackets} |", grouped(macs), grouped(arena));
        for board in &boards {
            let ours = of_model().find(|case| case.board == *board);
            let ours = ours.map_or(String::new(), |case| format!(" {:.2}", case.instructions_per_mac));
            let peer = peers::find(peers, engine, model, board);
            let peer = peer.map_or(String::new(), |peer| format!(" ({:.2})", per_mac(peer.instructions, macs)));
            let _ = write!(text, "{ours}{peer} |");
        }
        text.push('\n');
    }
    text
}

/// Values in the order in which the cases first have them.
fn distinct<'a>(cases: &'a [Case], value: impl Fn(&'a Case) -> &'a String) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for case in cases {
        let value = value(case).as_str();
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

/// A document with the blocks behind these marks filled anew; `None` if it has none of them, or one that is not closed.
#[must_use]
pub fn fill(document: &str, tables: &[(&str, String)]) -> Option<String> {
    let mut text = String::new();
    let mut rest = document;
    let mut blocks = 0;
    loop {
        let starts = tables.iter().filter_map(|(mark, table)| Some((rest.find(mark)?, mark, table)));
        let Some((at, mark, table)) = starts.min() else { break };
        let (before, after) = rest.split_at(at + mark.len());
        let (_, after) = after.split_once(END)?;
        let _ = write!(text, "{before}\n\n{table}\n{END}");
        rest = after;
        blocks += 1;
    }
    (blocks > 0).then(|| text + rest)
}

#[cfg(test)]
mod tests {
    use super::super::baseline::tests::case;
    use super::*;

    fn peer(engine: &str, instructions: u64) -> Peer {
        Peer {
            engine: engine.to_owned(),
            model: "a".to_owned(),
            board: "qemu-m4".to_owned(),
            instructions,
            arena_bytes: (engine == "TFLM").then_some(5000),
            code_bytes: None,
            stack_bytes: None,
        }
    }

    #[test]
    fn engines_without_a_figure_have_no_column_and_missing_figures_stay_empty() {
        let list = [case("a", "qemu-m4", 1_100_000), case("b", "qemu-m4", 700_000)];
        let mut other = peer("other", 1);
        other.board = "qemu-m0".to_owned();
        let text = cases(&list, &[peer("TFLM", 2_200_000), other]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("code B | TFLM | per MAC | arena B | times ours |"), "{text}");
        assert!(
            lines[2].contains("| 1,100,000 | 1.100 |") && lines[2].ends_with("| 2,200,000 | 2.200 | 5,000 | 2.00 |")
        );
        assert!(lines[3].ends_with("| 40,000 | | | | |"), "{text}");
    }

    #[test]
    fn bounds_have_a_column_where_any_case_has_one() {
        let mut list = [case("a", "qemu-m4", 1_100_000), case("b", "qemu-m4", 700_000)];
        list[0].stack_bound_bytes = Some(2_100);
        let text = cases(&list, &[]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("| stack B | stack bound B | code B |"), "{text}");
        assert!(lines[2].ends_with("| 2,000 | 2,100 | 40,000 |") && lines[3].ends_with("| 2,000 |  | 40,000 |"));
    }

    #[test]
    fn what_the_runtime_takes_has_a_column_where_it_is_known() {
        let mut list = [case("a", "qemu-m4", 1_100_000), case("b", "qemu-m4", 700_000)];
        assert!(!cases(&list, &[]).contains("runtime"));
        list[0].runtime_code_bytes = Some(19_876);
        let text = cases(&list, &[]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("| code B | runtime B |") && lines[2].ends_with("| 40,000 | 19,876 |"), "{text}");
        assert!(lines[3].ends_with("| 40,000 |  |"), "{text}");
    }

    #[test]
    fn the_summary_has_a_row_per_model_and_a_column_per_board() {
        let list = [case("a", "qemu-m4", 1_100_000), case("a", "qemu-m33-nodsp", 4_000_000)];
        let text = summary(&list, &[peer("TFLM", 2_200_000)]);
        let wanted = "| model | MACs | arena B | M4 | M33, no DSP |\n|---|---:|---:|---:|---:|\n\
                      | a | 1,000,000 | 1,000 (5,000) | 1.10 (2.20) | 4.00 |\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn marked_blocks_are_filled_and_the_rest_is_kept() {
        let list = [case("a", "qemu-m4", 1_100_000)];
        let document = format!("# Title\n{CASES}\nold\n{END}\ntext\n{SUMMARY}{END}\nend\n");
        let tables = [(SUMMARY, summary(&list, &[])), (CASES, cases(&list, &[]))];
        let filled = fill(&document, &tables).unwrap();
        assert!(filled.starts_with("# Title\n") && filled.ends_with("\nend\n") && !filled.contains("old"), "{filled}");
        assert!(tables.iter().all(|(_, table)| filled.contains(table)));
        assert_eq!(fill(&filled, &tables).as_ref(), Some(&filled));
        assert_eq!(fill("no marks", &tables), None);
        assert_eq!(fill(&format!("{CASES} never closed"), &tables), None);
    }
}
