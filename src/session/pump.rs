//! One direction's bytes: read into one buffer, looked at by header, written from where they lie. Bytes are copied
//! only where a message in between is replaced, added or left out.
//!
//! The order of what is still to be written: `out`, then `rd[start..scan]`; `rd[scan..end]` has not been looked at.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::shared::Totals;
use crate::core::error::Error;
use crate::core::limits::MIN_HIGH_WATER;
use crate::wire::frame;
use crate::wire::stream::Stream;

/// See the module.
#[derive(Debug)]
pub struct Pump {
    rd: Vec<u8>,
    start: usize,
    scan: usize,
    end: usize,
    out: Vec<u8>,
    written: usize,
    /// Bytes still to come of a frame whose head has been passed on.
    streaming: usize,
    /// Whether they are thrown away instead.
    discarding: bool,
    high_water: usize,
    unflushed: bool,
    /// Bytes written since it was made, or made as good as new.
    sent: u64,
    totals: Arc<Totals>,
}

/// Bytes that are rather copied than written from two places: the system takes longer over a list of places.
const FEW: usize = 512;
/// Size of a fresh buffer; it grows to the high-water mark under bulk traffic.
const INITIAL: usize = MIN_HIGH_WATER;
/// Bytes in buffers beyond which those that wait for a server keep none that they have no use for: more than is at hand in
/// a processor's caches.
const PLENTY: u64 = 2 << 20;
/// Buffers that nobody has a use for, kept per worker.
const SPARE_BUFFERS: usize = 64;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Pump {
    /// A pump with a small buffer that may grow to `high_water` bytes.
    pub fn new(high_water: usize, totals: Arc<Totals>) -> Pump {
        let size = INITIAL.min(high_water);
        totals.buffered.add(size as u64);
        Pump {
            rd: vec![0; size],
            start: 0,
            scan: 0,
            end: 0,
            out: Vec::new(),
            written: 0,
            streaming: 0,
            discarding: false,
            high_water,
            unflushed: false,
            sent: 0,
            totals,
        }
    }

    /// Makes it as good as new; the buffer stays if it is a small one.
    pub fn clear(&mut self) {
        (self.start, self.scan, self.end, self.written) = (0, 0, 0, 0);
        (self.streaming, self.discarding, self.unflushed, self.sent) = (0, false, false, 0);
        self.out.clear();
        if self.out.capacity() > INITIAL {
            self.out.shrink_to(INITIAL);
        }
        if self.rd.len() > INITIAL {
            self.totals.buffered.sub((self.rd.len() - INITIAL) as u64);
            self.rd.truncate(INITIAL);
            self.rd.shrink_to_fit();
        }
    }

    /// Bytes that have been read and not been looked at.
    #[inline]
    pub fn window(&self) -> &[u8] {
        &self.rd[self.scan..self.end]
    }

    /// Whether more of a frame of `len` bytes that is not whole yet will be in the window, if it is waited for. What is
    /// still to be written makes room by being written: a frame too large to be held is only taken apart with as much of
    /// it here as there can be.
    #[inline]
    pub fn comes(&self, len: usize) -> bool {
        len <= self.high_water || self.end - self.scan < self.high_water
    }

    /// Passes on the next `n` bytes of the window as they are.
    #[inline]
    pub fn pass(&mut self, n: usize) {
        self.scan += n;
    }

    /// Passes on a frame of `len` bytes as it is, whether all of it is here or not.
    #[inline]
    pub fn pass_frame(&mut self, len: usize) {
        let here = len.min(self.end - self.scan);
        self.scan += here;
        (self.streaming, self.discarding) = (len - here, false);
    }

    /// Passes on the frames of a server that follow, as long as they are whole and of this kind.
    ///
    /// # Errors
    /// A length that cannot be.
    #[inline]
    pub fn pass_alike(&mut self, kind: u8) -> Result<u64, Error> {
        let mut passed = 0;
        while let Some(header) = frame::server(self.window())?
            && header.kind == kind
            && header.len <= self.window().len()
        {
            self.scan += header.len;
            passed += 1;
        }
        Ok(passed)
    }

    /// Passes on what has come of a frame that is being streamed. True when none is, or it is complete.
    #[inline]
    pub fn stream_on(&mut self) -> bool {
        if self.streaming == 0 {
            return true;
        }
        let here = self.streaming.min(self.end - self.scan);
        self.streaming -= here;
        if self.discarding {
            self.omit(here)
        } else {
            self.scan += here
        }
        self.streaming == 0
    }

    /// Leaves out a frame of `len` bytes, whether all of it is here or not.
    pub fn omit_frame(&mut self, len: usize) {
        let here = len.min(self.end - self.scan);
        self.omit(here);
        (self.streaming, self.discarding) = (len - here, true);
    }

    /// Bytes of a streamed frame that are still to come.
    pub fn streaming(&self) -> usize {
        self.streaming
    }

    /// Whether the receiver has, or will get, the head of a frame whose end is not here: nothing but that end may
    /// follow.
    pub fn is_cut(&self) -> bool {
        self.streaming > 0 && !self.discarding
    }

    /// Leaves out the next `n` bytes of the window.
    pub fn omit(&mut self, n: usize) {
        if self.start < self.scan {
            self.settle();
        }
        self.start += n;
        self.scan += n;
    }

    /// Leaves out the next `n` bytes and streams `rest` more as they are: the head of a frame has been replaced.
    pub fn stream_after(&mut self, n: usize, rest: usize) {
        self.omit(n);
        (self.streaming, self.discarding) = (rest, false);
        self.stream_on();
    }

    /// Passes on a frame of `len` bytes with `old` bytes at `at` in it replaced. All up to there has to be here.
    pub fn replace(&mut self, len: usize, at: usize, old: usize, new: &[u8]) {
        if self.start < self.scan {
            self.settle();
        }
        let length = u32::try_from(len - 1 - old + new.len()).unwrap_or(u32::MAX);
        let head = &self.rd[self.scan..self.scan + at];
        self.out.extend_from_slice(head);
        let length_at = self.out.len() - at + 1;
        self.out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(new);
        self.omit(at + old);
        self.pass_frame(len - at - old);
    }

    /// Adds bytes of ours after all that has been passed on.
    pub fn insert(&mut self) -> &mut Vec<u8> {
        if self.start < self.scan {
            self.settle();
        }
        &mut self.out
    }

    /// Moves what is to be written from the read buffer to `out`, so that something may follow it.
    fn settle(&mut self) {
        self.out.extend_from_slice(&self.rd[self.start..self.scan]);
        self.start = self.scan;
    }

    /// Bytes to be written.
    #[inline]
    pub fn pending(&self) -> usize {
        self.out.len() - self.written + (self.scan - self.start)
    }

    /// The last `n` bytes of what is to be written, in two parts.
    pub fn last(&self, n: usize) -> [&[u8]; 2] {
        let (first, second) = (&self.out[self.written..], &self.rd[self.start..self.scan]);
        let rest = n.saturating_sub(second.len()).min(first.len());
        [&first[first.len() - rest..], &second[second.len() - n.min(second.len())..]]
    }

    /// Whether everything is written.
    #[inline]
    pub fn is_flushed(&self) -> bool {
        self.pending() == 0 && !self.unflushed
    }

    /// Whether nothing is here at all: no bytes, no half of a frame.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end && self.streaming == 0 && self.is_flushed()
    }

    /// Whether so much waits to be written that no more should be added.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.pending() >= self.high_water
    }

    /// Whether all that has been read has been looked at, and nothing more of it is to come.
    #[inline]
    pub fn is_read(&self) -> bool {
        self.scan == self.end && self.streaming == 0
    }

    /// Whether there is room to read into, or can be made.
    #[inline]
    pub fn has_room(&self) -> bool {
        !self.is_full() && self.end - self.start < self.high_water
    }

    /// Whether the last read took all that there was: it left room.
    #[inline]
    pub fn is_drained(&self) -> bool {
        self.end < self.rd.len()
    }

    /// Reads once. `Ready(Ok(0))` is the end of the stream.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<usize>> {
        if self.start == self.end {
            (self.start, self.scan, self.end) = (0, 0, 0);
        }
        if self.is_parked() {
            self.unpark();
        } else if self.end == self.rd.len() {
            self.make_room();
        }
        let n = ready!(stream.poll_read_into(cx, &mut self.rd[self.end..]))?;
        self.end += n;
        Poll::Ready(Ok(n))
    }

    #[cold]
    fn make_room(&mut self) {
        if self.start > 0 {
            self.rd.copy_within(self.start..self.end, 0);
            (self.scan, self.end, self.start) = (self.scan - self.start, self.end - self.start, 0);
        }
        if self.end == self.rd.len() {
            let size = (self.rd.len() * 2).min(self.high_water).max(self.rd.len() + 1);
            self.totals.buffered.add((size - self.rd.len()) as u64);
            self.rd.resize(size, 0);
        }
    }

    /// Keeps no more memory than what is here takes, until there is more to read: its client waits. With thousands that do,
    /// what a server's answer is read into would be in no cache.
    pub fn park(&mut self) {
        if self.rd.len() != INITIAL || self.end - self.start > FEW || self.totals.buffered.get() < PLENTY {
            return;
        }
        let few = self.rd[self.start..self.end].to_vec();
        (self.scan, self.end, self.start) = (self.scan - self.start, few.len(), 0);
        self.totals.buffered.sub((INITIAL - few.len()) as u64);
        let spare = std::mem::replace(&mut self.rd, few);
        SPARES.with_borrow_mut(|spares| {
            if spares.len() < SPARE_BUFFERS {
                spares.push(spare);
            }
        });
    }

    /// Whether it has to get memory before it can read.
    #[inline]
    pub fn is_parked(&self) -> bool {
        self.rd.len() < INITIAL
    }

    #[cold]
    fn unpark(&mut self) {
        let mut rd = SPARES.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; INITIAL]);
        rd[..self.end].copy_from_slice(&self.rd[..self.end]);
        self.totals.buffered.add((INITIAL - self.rd.len()) as u64);
        self.rd = rd;
    }

    /// Writes all that waits. `Ready` when it is written and flushed.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        if self.out.is_empty() && !stream.buffers_writes() {
            // Most often everything lies where it was read.
            while self.start < self.scan {
                let n = ready!(stream.poll_write_from(cx, &self.rd[self.start..self.scan]))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.sent += n as u64;
                self.start += n;
            }
            return Poll::Ready(Ok(()));
        }
        self.poll_write_both(cx, stream)
    }

    fn poll_write_both(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        if !self.out.is_empty() && self.scan - self.start <= FEW {
            self.settle();
        }
        loop {
            let (first, second) = (&self.out[self.written..], &self.rd[self.start..self.scan]);
            let n = match (first.is_empty(), second.is_empty()) {
                (true, true) => break,
                (true, false) => ready!(stream.poll_write_from(cx, second))?,
                (false, true) => ready!(stream.poll_write_from(cx, first))?,
                (false, false) => {
                    let both = [IoSlice::new(first), IoSlice::new(second)];
                    ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &both))?
                }
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(n);
            self.unflushed = stream.buffers_writes();
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, n: usize) {
        self.sent += n as u64;
        let from_out = n.min(self.out.len() - self.written);
        self.written += from_out;
        self.start += n - from_out;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
    }

    /// Bytes written since it was made, or made as good as new.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes that will have been written since it was made when all that is to be written has been. What follows can be
    /// taken back ([`Pump::recall`]).
    pub fn promised(&mut self) -> u64 {
        let pending = self.pending() as u64;
        if self.start < self.scan {
            self.settle();
        }
        self.sent + pending
    }

    /// Takes back what waits to be written, but for what was to be among the first `until` bytes since it was made
    /// ([`Pump::promised`]).
    pub fn recall(&mut self, until: u64) {
        let stays = usize::try_from(until.saturating_sub(self.sent)).unwrap_or(usize::MAX);
        self.out.truncate(self.written.saturating_add(stays));
        self.start = self.scan;
        if stays == 0 {
            self.out.clear();
            self.written = 0;
        }
        (self.streaming, self.discarding) = (0, false);
    }

    /// Puts bytes before those that have not been looked at, as if they had been read again. Nothing may wait to be
    /// written.
    pub fn put_back(&mut self, bytes: &[u8]) {
        let again = [bytes, self.window()].concat();
        let old = self.rd.len();
        self.rd.resize(old.max(again.len()), 0);
        self.totals.buffered.add((self.rd.len() - old) as u64);
        self.rd[..again.len()].copy_from_slice(&again);
        (self.start, self.scan, self.end) = (0, 0, again.len());
    }

    /// Takes what has been read and not been looked at, to hand it to someone else.
    pub fn take_unread(&mut self) -> Vec<u8> {
        let unread = self.rd[self.scan..self.end].to_vec();
        self.end = self.scan;
        unread
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.totals.buffered.sub(self.rd.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server has sent: a frame of two bytes that is passed on, and one that has not been looked at.
    fn pump(read: &[u8]) -> Pump {
        let mut pump = Pump::new(MIN_HIGH_WATER, Arc::new(Totals::default()));
        pump.rd[..read.len()].copy_from_slice(read);
        pump.end = read.len();
        pump
    }

    fn pending(pump: &Pump) -> Vec<u8> {
        [&pump.out[pump.written..], &pump.rd[pump.start..pump.scan]].concat()
    }

    #[test]
    fn the_head_of_a_large_frame_is_waited_for_behind_what_is_to_be_written() {
        let mut up = pump(&[0; MIN_HIGH_WATER]);
        up.pass(MIN_HIGH_WATER - 7);
        assert!(!up.has_room() && up.comes(1 << 20), "seven bytes of it are not all that can be here");
        up.advance(MIN_HIGH_WATER - 7);
        assert!(up.has_room() && up.comes(1 << 20));
        up.make_room();
        up.end = MIN_HIGH_WATER;
        assert!(!up.comes(1 << 20) && up.comes(MIN_HIGH_WATER), "no more than this is ever here at once");
    }

    /// What is here stays as it is, and what comes next follows it.
    #[test]
    fn who_waits_keeps_what_is_here() {
        let mut up = pump(b"S\0\0\0\x04Q\0\0\0\x05\0P\0");
        up.pass(5);
        up.park();
        assert!(!up.is_parked(), "there is little in buffers");
        up.totals.buffered.add(PLENTY);
        let buffered = up.totals.buffered.get();
        up.park();
        assert!(up.is_parked());
        assert_eq!(up.totals.buffered.get(), buffered - (INITIAL - 13) as u64);
        assert_eq!((pending(&up).as_slice(), up.window()), (&b"S\0\0\0\x04"[..], &b"Q\0\0\0\x05\0P\0"[..]));
        up.unpark();
        assert_eq!((up.totals.buffered.get(), up.rd.len()), (buffered, INITIAL));
        assert_eq!((pending(&up).as_slice(), up.window()), (&b"S\0\0\0\x04"[..], &b"Q\0\0\0\x05\0P\0"[..]));
    }

    #[test]
    fn part_of_a_frame_is_replaced() {
        let mut up = pump(b"B\0\0\0\x0a\0name\0xyS\0\0\0\x04");
        up.replace(13, 6, 4, b"longer");
        up.pass(5);
        assert_eq!(pending(&up), b"B\0\0\0\x0e\0longer\0xyS\0\0\0\x04");
        let mut cut = pump(b"B\0\0\0\x0a\0name\0");
        cut.replace(13, 6, 4, b"n");
        assert_eq!((pending(&cut), cut.streaming()), (b"B\0\0\0\x09\0n\0".to_vec(), 2));
    }

    #[test]
    fn what_was_promised_stays() {
        let mut down = pump(b"abcdef");
        down.pass(2);
        down.insert().extend_from_slice(b"!");
        down.pass(1);
        let promised = down.promised();
        assert_eq!((promised, pending(&down)), (4, b"ab!c".to_vec()));
        down.advance(1);
        down.pass(1);
        down.insert().extend_from_slice(b"?");
        down.pass(1);
        assert_eq!(pending(&down), b"b!cd?e");
        assert_eq!((down.last(2).concat(), down.last(1)), (b"?e".to_vec(), [&b""[..], b"e"]));
        down.recall(promised);
        assert_eq!((pending(&down), down.window(), down.sent()), (b"b!c".to_vec(), &b"f"[..], 1));
        assert_eq!(down.last(3).concat(), b"b!c");
        assert_eq!(down.last(1).concat(), b"c");
        down.recall(0);
        assert_eq!((pending(&down), down.pending()), (Vec::new(), 0));
        down.pass(1);
        assert_eq!(pending(&down), b"f");
    }
}
