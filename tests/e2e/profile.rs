//! Measuring boards as a user meets it: reports, ssh, another program, and what happens when they are wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use stitchkit::board::{Board, Method};
use stitchkit_runtime::board::SystemClock;
use stitchkit_runtime::bundle::{AlignedBytes, Bundle};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::profile::{Measuring, PROBE_BYTES, Record, TickUnit, report};

use super::common::{failure, json, path, stitchkit};

/// What a board would say that ran the measuring bundle, which is written to `folder`.
fn board_says(folder: &Path) -> String {
    let shapes = folder.join("shapes.stk");
    assert!(stitchkit(&["profile", "--shapes", path(&shapes)]).status.success());
    let bytes = AlignedBytes::copy_of(&fs::read(shapes).unwrap());
    let bundle = Bundle::parse(bytes.as_slice()).unwrap();
    let mut arena = AlignedBytes::new(bundle.plans().map(|p| p.arena_bytes as usize).max().unwrap().max(PROBE_BYTES));
    let measuring = Measuring { board: "fake", unit: TickUnit::Time, isa: Isa::best(), repetitions: 1 };
    let mut said = String::new();
    let mut sink = |record: Record<'_>| said += &format!("{record}\n");
    let mut clock = SystemClock::default();
    report((bytes.as_slice(), &bundle), measuring, arena.as_mut_slice(), &mut clock, || (40_000, 300_000), &mut sink)
        .unwrap();
    said
}

/// Writes a program that other programs find first.
fn install(folder: &Path, name: &str, script: &str) {
    let file = folder.join(name);
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs the command with `folder` first in the search path.
fn with_programs(folder: &Path, arguments: &[&str]) -> Output {
    let search = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    Command::new(env!("CARGO_BIN_EXE_stitchkit")).args(arguments).env("PATH", search).output().unwrap()
}

#[test]
fn a_board_reached_over_ssh_is_sent_the_bundle_and_its_report_becomes_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("report"), board_says(folder)).unwrap();
    install(
        folder,
        "ssh",
        &format!("#!/bin/sh\ncd {0}\nprintf '%s\\n' \"$@\" > arguments\ncat >> sent\ncat report\n", folder.display()),
    );
    let toml = folder.join("pi.toml");
    let output = with_programs(folder, &["profile", "--ssh", "me@pi", "--out", path(&toml)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let arguments = fs::read_to_string(folder.join("arguments")).unwrap();
    assert_eq!(arguments, "--\nme@pi\n'stitchkit-device' 'profile' '-'\n");
    // Whoever runs the first bundle may be unable to run the larger one that follows.
    let (sent, shapes) = (fs::read(folder.join("sent")).unwrap(), fs::read(folder.join("shapes.stk")).unwrap());
    assert!(sent.len() > 2 * shapes.len() && sent.starts_with(&shapes));
    assert!(String::from_utf8_lossy(&output.stderr).contains("left out"));
    let board = Board::read(&toml).unwrap();
    assert_eq!((board.name.as_str(), board.clock_hz, board.origin.method), ("pi", None, Method::Timed));
    assert_eq!((board.profile.ram_bytes, board.profile.flash_bytes), (40_000, 300_000));
    assert!(board.origin.steps > 1000 && board.origin.held_out.is_some());

    install(folder, "ssh", "#!/bin/sh\ncat > /dev/null\nexit 127\n");
    let output = with_programs(folder, &["profile", "--ssh", "pi"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("on pi ended") && said.contains("--device-binary"), "{said}");
}

#[test]
fn another_programs_report_is_read_and_sources_exclude_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = folder.join("report");
    fs::write(&text, board_says(folder)).unwrap();
    install(folder, "runner", "#!/bin/sh\ncat > /dev/null\n[ \"$1 $3 $4\" = '-x profile -' ] && cat \"$2\"\n");
    let runner = format!("{} -x", folder.join("runner").display());
    let report = json(&["profile", "--device-binary", path(&text), "--runner", &runner]);
    assert_eq!((report["board"].as_str(), report["kernels"].as_str()), (Some("fake"), Some(Isa::best().name())));
    assert!(report["own_probe"]["plans"].as_array().is_some_and(|plans| plans.len() > 20));
    for others in [["--local", "--ssh=pi"], ["--board=qemu-m4", "--local"], ["--device-binary=x", "--serial=y"]] {
        failure(2, &[&["profile"], &others[..]].concat());
    }
    failure(2, &["profile", "--local", "--runner", "x"]);
}

#[test]
fn reports_that_are_cut_damaged_or_of_another_bundle_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = board_says(folder);
    let file = folder.join("report");
    let says = |text: &str| {
        fs::write(&file, text).unwrap();
        failure(1, &["profile", "--serial", path(&file)])
    };
    let cut = whole[..whole.len() / 2].rfind('\n').unwrap();
    assert!(says(&whole[..cut]).contains("@end"));
    assert!(says(&whole[..cut + 5]).contains("is damaged"));
    assert!(says("profile: no clock\n").contains("no clock"));
    let first_step = whole.lines().find(|line| line.starts_with("@step")).unwrap();
    let without = whole.replacen(&format!("{first_step}\n"), "", 1);
    assert!(says(&without).contains("steps of plan"), "a step that is missing");
    let bundle = whole.lines().find(|line| line.starts_with("@bundle")).unwrap();
    assert!(says(&whole.replace(bundle, "@bundle 7 7 1")).contains("no report belongs to a bundle"));
    let clock = "@clock 1000000000 time";
    assert!(says(&whole.replace(clock, "@clock 0 time")).contains("@clock 0"), "a clock without ticks");
}
