//! What reading costs: memory, counted per thread by an allocator around the system's, and time, which is told and judges nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Instant,
};

thread_local! {
    /// Bytes held now, at most, and how often memory was asked for, by this thread.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count(change: isize) {
    // A thread that ends has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
    if change > 0 {
        let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
    }
}

fn size(layout: Layout) -> isize {
    isize::try_from(layout.size()).unwrap_or(isize::MAX)
}

// SAFETY: every call goes to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-size(layout));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What reading may hold at once beyond a fixed sum, for each byte of input: a JSON value is many times its text. The most is an object of one
/// member, seven bytes of text and a node of a tree that has room for eleven.
const BYTES_PER_BYTE: isize = 128;
/// Borsh reads a length of 4 GiB by the megabyte.
const FIXED_BYTES: isize = 1_280 * 1024;
/// How often memory may be asked for, for each byte of input.
const REQUESTS_PER_BYTE: usize = 2;
const FIXED_REQUESTS: usize = 4_096;

/// Runs `refuse` within the bounds for an input of `bytes`.
pub fn within<T>(name: &str, bytes: usize, refuse: impl FnOnce() -> T) -> T {
    within_of(name, bytes, bytes, refuse)
}

/// The same where `held` bytes are there at once: less than the input, or some of it twice.
pub fn within_of<T>(name: &str, held: usize, bytes: usize, refuse: impl FnOnce() -> T) -> T {
    let start = HELD.get();
    MOST.set(start);
    ASKED.set(0);
    let begun = Instant::now();
    let result = refuse();
    let (took, most, asked) = (begun.elapsed(), MOST.get() - start, ASKED.get());
    let each = |sum: f64| sum / bytes.max(1) as f64;
    println!(
        "{name}: {bytes} bytes in, {most} held ({:.1} for each), {asked} requests, {took:?} ({:.0} ns for each)",
        each(most as f64),
        each(took.as_nanos() as f64),
    );
    let length = isize::try_from(held).unwrap();
    assert!(most <= FIXED_BYTES + length * BYTES_PER_BYTE, "{name}: {most} bytes were held for {bytes}");
    assert!(asked <= FIXED_REQUESTS + bytes * REQUESTS_PER_BYTE, "{name}: memory was asked for {asked} times for {bytes} bytes");
    result
}
