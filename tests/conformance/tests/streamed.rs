//! Bundles that are not mapped into memory: the same bytes as in place, whatever the window; only the plan's own bytes
//! are read; every failure is reported and can be retried.

use std::sync::LazyLock;

use embedded_hal::spi::ErrorKind;
use embedded_hal_mock::eh1::delay::NoopDelay;
use proptest::prelude::*;
use stitchkit_conformance::nor::{NorControl, SimulatedNor};
use stitchkit_runtime::bundle::{AlignedBytes, Bundle, BundleError, OpenError, StreamedBundle};
use stitchkit_runtime::exec::{ExecError, Executor, StreamError, StreamExecutor, StreamMemory};
use stitchkit_runtime::kernels::Isa;
use stitchkit_runtime::storage::{FromNorFlash, FromStorage, NorTiming, ReadMode, Source, SpiNor, StorageError};
use stitchkit_tests::builder::infer;
use stitchkit_tests::streaming::{Recorder, infer_streamed, section_offset, stream_all_plans};
use stitchkit_tests::{Rng, every_op, random_graph, resnet8};

static EVERY_OP: LazyLock<Vec<u8>> = LazyLock::new(|| every_op::bundle().expect("the fixture is valid"));
static RESNET8: LazyLock<Vec<u8>> = LazyLock::new(|| resnet8::bundle().expect("the fixture is valid"));

/// Opens `file` in a buffer of exactly the bytes it asks for.
fn open(file: &[u8]) -> StreamedBundle<'static> {
    let mut source = Recorder::<false>::new(file);
    let need = StreamedBundle::record_bytes(&mut source, 0).expect("a sound bundle") as usize;
    StreamedBundle::open(&mut source, 0, vec![0; need].leak()).expect("a sound bundle")
}

/// Both kinds of source, in a window between the smallest and the largest that is of use.
fn check_all_plans(file: &[u8], share: f64, seed: u32) {
    let runs = stream_all_plans::<false>(file, share, seed).expect("streams as in place");
    stream_all_plans::<true>(file, share, seed).expect("streams as in place");
    let streamed = open(file);
    let input = vec![0; streamed.bundle().meta().input.len()];
    for (plan, run) in (0..).zip(runs) {
        let need_bytes = run.needs.least_window_bytes;
        let have_bytes = need_bytes - 1;
        let source = Recorder::<false>::new(file);
        let refused = infer_streamed(&streamed, source, (plan, Isa::Reference), have_bytes as usize, &input);
        assert_eq!(refused, Err(StreamError::WindowTooSmall { need_bytes, have_bytes }));
    }
}

#[test]
fn streamed_plans_give_the_bytes_of_plans_in_place_and_read_their_own_bytes_once() {
    for share in [0.0, 0.01, 0.3, 1.0] {
        check_all_plans(&EVERY_OP, share, 5);
    }
    check_all_plans(&RESNET8, 0.05, 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn random_graphs_stream_in_any_window(seed in any::<u32>(), share in prop_oneof![Just(0.0), 0.0..1.0f64]) {
        let file = random_graph::bundle(seed).expect("the generator makes valid bundles");
        check_all_plans(&file, share, seed);
    }
}

#[test]
fn records_in_memory_are_small_and_a_smaller_buffer_is_refused_with_numbers() {
    let mut source = Recorder::<false>::new(&RESNET8);
    let need_bytes = StreamedBundle::record_bytes(&mut source, 0).expect("a sound bundle");
    assert!(u64::from(need_bytes) * 10 < RESNET8.len() as u64, "{need_bytes} of {} bytes", RESNET8.len());
    for have_bytes in [0, 100, need_bytes - 1] {
        let error = StreamedBundle::open(&mut source, 0, &mut vec![0; have_bytes as usize]).err();
        assert_eq!(error, Some(OpenError::BufferTooSmall { need_bytes, have_bytes }));
    }
}

#[test]
fn opening_reads_neither_weights_nor_tables_and_verifying_reads_each_byte_once() {
    let mut source = Recorder::<false>::new(&EVERY_OP);
    let mut buffer = [0; 2048];
    let streamed = StreamedBundle::open(&mut source, 0, &mut buffer).expect("a sound bundle");
    let constants = section_offset(&EVERY_OP, *b"WGHT")..section_offset(&EVERY_OP, *b"ILUT");
    assert!(source.counts[constants.clone()].iter().all(|&count| count == 0));
    for window in [1, 13, 4096] {
        source.reset();
        assert_eq!(streamed.verify(&mut source, &mut vec![0; window]), Ok(()));
        let padding = EVERY_OP[constants.clone()].len()
            - source.counts[constants.clone()].iter().map(|&c| usize::from(c)).sum::<usize>();
        assert!(padding < 3 * 16, "only padding between sections is left out");
        assert!(source.counts.iter().all(|&count| count <= 1));
    }
}

/// A bundle with one byte inverted.
fn damaged(at: usize) -> Vec<u8> {
    let mut file = EVERY_OP.clone();
    file[at] ^= 0x10;
    file
}

#[test]
fn damage_is_found_when_opening_or_verifying_as_parsing_finds_it() {
    for at in 0..EVERY_OP.len() {
        let file = damaged(at);
        let parsed = Bundle::parse(AlignedBytes::copy_of(&file).as_slice()).err();
        let mut source = Recorder::<false>::new(&file);
        let opened = StreamedBundle::open(&mut source, 0, vec![0; 2048].leak());
        let verified = opened.and_then(|streamed| streamed.verify(&mut source, &mut [0; 64]));
        assert_eq!(verified.err(), parsed.map(OpenError::Bundle), "byte {at}");
    }
}

#[test]
fn unverified_damage_to_multipliers_is_reported_by_the_step_that_loads_them() {
    let streamed = open(&EVERY_OP);
    let bundle = Bundle::parse(AlignedBytes::copy_of(&EVERY_OP).as_slice()).map(|_| ());
    assert_eq!(bundle, Ok(()));
    let shifts = section_offset(&EVERY_OP, *b"SHFT");
    let mut file = EVERY_OP.clone();
    file[shifts] = 200;
    let input = vec![0; streamed.bundle().meta().input.len()];
    let run = |file: &[u8]| infer_streamed(&streamed, Recorder::<false>::new(file), (0, Isa::best()), 4096, &input);
    assert_eq!(run(&file), Err(StreamError::Constants { step: 0 }));
    assert!(run(&EVERY_OP).is_ok());
}

#[test]
fn every_failing_read_is_reported_and_the_executor_runs_again() {
    fn check<const OVERLAPS: bool>() {
        let streamed = open(&EVERY_OP);
        let bytes = AlignedBytes::copy_of(&EVERY_OP);
        let bundle = Bundle::parse(bytes.as_slice()).expect("a sound bundle");
        let input = Rng::new(1).vector(bundle.meta().input.len());
        let want = infer(&bundle, 1, Isa::Reference, &input);
        let (mut arena, mut window) = (AlignedBytes::new(4096), AlignedBytes::new(2048));
        let memory = StreamMemory { arena: arena.as_mut_slice(), window: window.as_mut_slice() };
        let source = Recorder::<OVERLAPS>::new(&EVERY_OP);
        let mut executor = StreamExecutor::new(&streamed, source, 1, memory).expect("enough memory");
        executor.input().expect("intact").copy_from_slice(&input);
        assert_eq!(executor.run(), Ok(&want[..]));
        let reads = executor.source().reads;
        assert!(reads > 10);
        for failing in 1..=reads {
            executor.source().fail_in = Some(failing);
            executor.input().expect("intact").copy_from_slice(&input);
            let failed = executor.run().map(<[i8]>::to_vec);
            let is_reported =
                matches!(failed, Err(StreamError::Storage { error: StorageError::Device { code: 7, .. }, .. }));
            assert!(is_reported, "read {failing}: {failed:?}");
            executor.input().expect("intact").copy_from_slice(&input);
            assert_eq!(executor.run(), Ok(&want[..]), "after read {failing} failed");
        }
    }
    check::<false>();
    check::<true>();
}

#[test]
fn golden_vectors_past_the_last_and_short_buffers_are_refused() {
    let mut source = Recorder::<false>::new(&EVERY_OP);
    let streamed = open(&EVERY_OP);
    let past = OpenError::NoSuchVector { vectors: 2 };
    assert_eq!(streamed.read_golden_output(&mut source, 1, 2, &mut [0; 64]), Err(past));
    assert_eq!(streamed.read_golden_output(&mut source, 3, 0, &mut [0; 64]), Err(past));
    assert_eq!(streamed.read_golden_input(&mut source, 2, &mut [0; 128]), Err(past));
    let short = OpenError::BufferTooSmall { need_bytes: 72, have_bytes: 71 };
    assert_eq!(streamed.read_golden_input(&mut source, 0, &mut [0; 71]), Err(short));
}

#[test]
fn switching_plans_and_refusals_leave_the_executor_usable() {
    let streamed = open(&EVERY_OP);
    let (mut arena, mut window) = (AlignedBytes::new(4096), AlignedBytes::new(2048));
    let memory = StreamMemory { arena: arena.as_mut_slice(), window: window.as_mut_slice() };
    let mut executor = StreamExecutor::new(&streamed, Recorder::<false>::new(&EVERY_OP), 0, memory).expect("fits");
    let none = StreamError::Exec(ExecError::NoSuchPlan { plan: 3, plans: 3 });
    assert_eq!(executor.switch(3), Err(none));
    assert_eq!((executor.switch(1), executor.plan_index()), (Ok(()), 1));
    executor.input().expect("intact").fill(1);
    let mut steps = 0;
    executor.run_observed(&mut |_: stitchkit_runtime::exec::StepReport<'_>| steps += 1).expect("runs");
    assert_eq!(steps, executor.plan().layout.len() / 8);

    // Records without constants are refused by the executor in place.
    let in_place = Executor::new(streamed.bundle(), 0, arena.as_mut_slice()).err();
    assert_eq!(in_place, Some(ExecError::NotInPlace));
    let memory = StreamMemory { arena: arena.as_mut_slice(), window: &mut window.as_mut_slice()[1..] };
    let misaligned = StreamExecutor::new(&streamed, Recorder::<false>::new(&EVERY_OP), 0, memory).err();
    assert_eq!(misaligned, Some(StreamError::WindowMisaligned));
}

/// Opens, verifies and runs plan 1 with its golden vectors.
fn golden_run(mut source: impl Source, base: u32) -> Result<(), Box<dyn std::error::Error>> {
    let mut buffer = [0; 2048];
    let streamed = StreamedBundle::open(&mut source, base, &mut buffer)?;
    streamed.verify(&mut source, &mut [0; 64])?;
    let vectors = streamed.golden_count(&mut source)?;
    assert_eq!(vectors, 2);
    for vector in 0..vectors {
        let mut input = vec![0; streamed.bundle().meta().input.len()];
        let mut want = vec![0; streamed.bundle().meta().output.len()];
        streamed.read_golden_input(&mut source, vector, &mut input)?;
        streamed.read_golden_output(&mut source, 1, vector, &mut want)?;
        assert_eq!(infer_streamed(&streamed, &mut source, (1, Isa::best()), 2048, &input)?, want);
    }
    Ok(())
}

#[test]
fn a_bundle_anywhere_in_spi_nor_runs_through_every_kind_of_source() {
    for (capacity_code, base) in [(0x14, 0), (0x14, 0x8123), (0x19, 0x0123_4567)] {
        for mode in [ReadMode::Plain, ReadMode::Fast] {
            let control = NorControl::default();
            control.is_asleep.set(true);
            control.busy_looks.set(3);
            let flash = || SimulatedNor { content: &EVERY_OP, base, capacity_code, control: &control };
            let driver = || SpiNor::new(flash(), NoopDelay::new(), mode, NorTiming::default()).expect("it answers");
            golden_run(driver(), base).expect("all well");
            golden_run(FromNorFlash(driver()), base).expect("all well");
            golden_run(FromStorage(driver()), base).expect("all well");
        }
    }
}

#[test]
fn every_failing_transaction_surfaces_with_its_kind_and_leaves_the_flash_readable() {
    let control = NorControl::default();
    let flash = SimulatedNor { content: &EVERY_OP, base: 0, capacity_code: 0x14, control: &control };
    let mut nor = SpiNor::new(flash, NoopDelay::new(), ReadMode::Fast, NorTiming::default()).expect("it answers");
    control.reset();
    golden_run(&mut nor, 0).expect("all well");
    let transactions = control.transactions.get();
    for failing in 1..=transactions {
        control.fail_in.set(failing);
        let error = golden_run(&mut nor, 0).expect_err("a transaction failed");
        let storage = match (error.downcast_ref::<OpenError>(), error.downcast_ref::<StreamError>()) {
            (Some(OpenError::Storage(error)), _) | (_, Some(StreamError::Storage { error, .. })) => *error,
            _ => panic!("transaction {failing}: {error}"),
        };
        assert!(matches!(storage, StorageError::Spi { kind: ErrorKind::ChipSelectFault, .. }), "{storage}");
        golden_run(&mut nor, 0).expect("the next attempt is not affected");
    }
}

#[test]
fn a_bit_that_flips_in_flash_is_found_by_verifying() {
    let control = NorControl::default();
    let at = section_offset(&EVERY_OP, *b"WGHT") as u32;
    let flash = SimulatedNor { content: &EVERY_OP, base: 0x100, capacity_code: 0x14, control: &control };
    let mut nor = SpiNor::new(flash, NoopDelay::new(), ReadMode::Plain, NorTiming::default()).expect("it answers");
    let mut buffer = [0; 2048];
    control.damaged.set(Some(0x100 + at + 5));
    let streamed = StreamedBundle::open(&mut nor, 0x100, &mut buffer).expect("the records are sound");
    let damage = OpenError::Bundle(BundleError::Checksum { offset: at });
    assert_eq!(streamed.verify(&mut nor, &mut [0; 128]), Err(damage));
    control.damaged.set(None);
    assert_eq!(streamed.verify(&mut nor, &mut [0; 128]), Ok(()));
}
