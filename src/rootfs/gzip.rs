//! Compression of one stream by several threads, with the same bytes whatever the number of threads.
//!
//! The stream is cut into blocks of [`BLOCK`] bytes, and each block is compressed on its own: a gzip member (RFC 1952 2.2:
//! a file is a series of members) or a zstd frame (RFC 8878 3.1: frames are concatenated). The blocks are written in the
//! order in which they came, by the calling thread, so the writer below need not be [`Send`]. Memory is bounded: at most
//! two blocks more than threads are on their way. Threads start with the second block; a small stream starts none.

use libdeflater::{CompressionLvl, Compressor};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Bytes in one block: large enough to cost less than 0.1 % in ratio, small enough to keep dozens in memory.
pub const BLOCK: usize = 1 << 20;
/// More threads than this outrun the thread that hashes, and cost 2 MiB each.
const MAX_THREADS: usize = 8;
/// libdeflate's level 4 has the ratio of Go's level 6 at a multiple of its speed.
const GZIP_LEVEL: u8 = 4;
/// zstd's own default.
const ZSTD_LEVEL: u8 = 3;

/// A compression level that the format does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{format} has no compression level {level} ({min} to {max})")]
pub struct LevelError {
    format: &'static str,
    level: u8,
    min: u8,
    max: u8,
}

/// How a layer's tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression(Coder);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coder {
    None,
    Gzip(u8),
    Zstd(u8),
}

impl Default for Compression {
    fn default() -> Self {
        Compression(Coder::Gzip(GZIP_LEVEL))
    }
}

impl Compression {
    /// The bare tar.
    pub fn none() -> Self {
        Compression(Coder::None)
    }

    /// gzip at `level`, 0 (stored) to 12 (10 and above are slower than any `gzip -9`); none given is the default.
    pub fn gzip(level: Option<u8>) -> Result<Self, LevelError> {
        let level = level.unwrap_or(GZIP_LEVEL);
        match CompressionLvl::new(i32::from(level)) {
            Ok(_) => Ok(Compression(Coder::Gzip(level))),
            Err(_) => Err(LevelError { format: "gzip", level, min: 0, max: 12 }),
        }
    }

    /// zstd at `level`, 1 to 22; none given is the default.
    pub fn zstd(level: Option<u8>) -> Result<Self, LevelError> {
        let level = level.unwrap_or(ZSTD_LEVEL);
        match level {
            1..=22 => Ok(Compression(Coder::Zstd(level))),
            _ => Err(LevelError { format: "zstd", level, min: 1, max: 22 }),
        }
    }

    /// Media type of a layer that is compressed so.
    pub fn media_type(self) -> &'static str {
        use crate::oci::manifest;
        match self.0 {
            Coder::None => manifest::OCI_LAYER,
            Coder::Gzip(_) => manifest::OCI_LAYER_GZIP,
            Coder::Zstd(_) => manifest::OCI_LAYER_ZSTD,
        }
    }
}

/// Compresses blocks; one for each thread.
enum BlockCoder {
    Gzip(Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl BlockCoder {
    /// `None` where nothing is compressed.
    fn new(coder: Coder) -> io::Result<Option<Self>> {
        Ok(match coder {
            Coder::None => None,
            Coder::Gzip(level) => {
                let level = CompressionLvl::new(i32::from(level)).map_err(|e| io::Error::other(format!("{e:?}")))?;
                Some(BlockCoder::Gzip(Compressor::new(level)))
            }
            Coder::Zstd(level) => Some(BlockCoder::Zstd(zstd::bulk::Compressor::new(i32::from(level))?)),
        })
    }

    /// Compresses `input` into `output`, whose old content goes.
    fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        output.clear();
        match self {
            BlockCoder::Gzip(compressor) => {
                output.resize(compressor.gzip_compress_bound(input.len()), 0);
                let written = compressor.gzip_compress(input, output).map_err(io::Error::other)?;
                output.truncate(written);
            }
            BlockCoder::Zstd(compressor) => {
                output.reserve(zstd::zstd_safe::compress_bound(input.len()));
                compressor.compress_to_buffer(input, output)?;
            }
        }
        Ok(())
    }
}

/// A block on its way: what goes in, room for what comes out. The buffers are used again.
#[derive(Default)]
struct Block {
    input: Vec<u8>,
    output: Vec<u8>,
}

struct Job {
    block: Block,
    reply: SyncSender<io::Result<Block>>,
}

struct Pool {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    fn start(coder: Coder, threads: usize) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let mut pool = Pool { jobs: Some(jobs), threads: Vec::with_capacity(threads) };
        for _ in 0..threads {
            let Some(coder) = BlockCoder::new(coder)? else { break };
            let queue = Arc::clone(&queue);
            let spawned = thread::Builder::new().name("compress".into()).spawn(move || work(coder, &queue));
            match spawned {
                Ok(handle) => pool.threads.push(handle),
                // A job with a tight limit on processes still gets its layer, by fewer threads.
                Err(_) if !pool.threads.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic in a worker has shown already as a closed reply channel.
            let _ = thread.join();
        }
    }
}

fn work(mut coder: BlockCoder, queue: &Mutex<Receiver<Job>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { mut block, reply }) = next else { return };
        let result = coder.compress(&block.input, &mut block.output).map(|()| block);
        // Nobody waits where the writer was dropped after an error.
        let _ = reply.send(result);
    }
}

/// A writer that compresses what is written to it into `W`. [`ParallelCompressor::finish`] must be called at the end.
pub struct ParallelCompressor<W: Write> {
    out: W,
    coder: Coder,
    threads: usize,
    current: Block,
    pool: Option<Pool>,
    pending: VecDeque<Receiver<io::Result<Block>>>,
    spare: Vec<Block>,
}

impl<W: Write> ParallelCompressor<W> {
    /// Compresses into `out` by at most `threads` threads (at least one, and no more than serve).
    pub fn new(out: W, compression: Compression, threads: usize) -> Self {
        ParallelCompressor {
            out,
            coder: compression.0,
            threads: threads.clamp(1, MAX_THREADS),
            current: Block::default(),
            pool: None,
            pending: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// Writes what is still on its way and gives the inner writer back. An empty stream is one empty member.
    pub fn finish(mut self) -> io::Result<W> {
        if self.coder != Coder::None && self.pool.is_none() {
            if let Some(mut coder) = BlockCoder::new(self.coder)? {
                coder.compress(&self.current.input, &mut self.current.output)?;
                self.out.write_all(&self.current.output)?;
            }
            return Ok(self.out);
        }
        if !self.current.input.is_empty() {
            self.submit()?;
        }
        while !self.pending.is_empty() {
            self.write_oldest()?;
        }
        Ok(self.out)
    }

    /// Hands the current block to the threads.
    fn submit(&mut self) -> io::Result<()> {
        while self.pending.len() >= self.threads + 2 {
            self.write_oldest()?;
        }
        let pool = match &mut self.pool {
            Some(pool) => pool,
            none => none.insert(Pool::start(self.coder, self.threads)?),
        };
        let (reply, result) = mpsc::sync_channel(1);
        let next = self.spare.pop().unwrap_or_default();
        let block = std::mem::replace(&mut self.current, next);
        let sent = pool.jobs.as_ref().is_some_and(|jobs| jobs.send(Job { block, reply }).is_ok());
        if !sent {
            return Err(io::Error::other("the compression threads ended early"));
        }
        self.pending.push_back(result);
        Ok(())
    }

    fn write_oldest(&mut self) -> io::Result<()> {
        let Some(oldest) = self.pending.pop_front() else { return Ok(()) };
        let mut block = oldest.recv().map_err(|_| io::Error::other("a compression thread ended early"))??;
        self.out.write_all(&block.output)?;
        block.input.clear();
        self.spare.push(block);
        Ok(())
    }
}

impl<W: Write> Write for ParallelCompressor<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.coder == Coder::None {
            return self.out.write(buf);
        }
        if self.current.input.len() == BLOCK {
            self.submit()?;
        }
        let n = buf.len().min(BLOCK - self.current.input.len());
        self.current.input.extend_from_slice(&buf[..n]);
        Ok(n)
    }

    /// Blocks keep their length, so nothing is forced out early.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 28) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn compress(data: &[u8], compression: Compression, threads: usize, step: usize) -> Vec<u8> {
        let mut writer = ParallelCompressor::new(Vec::new(), compression, threads);
        data.chunks(step).for_each(|piece| writer.write_all(piece).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn same_bytes_whatever_the_threads_and_the_writes() {
        for compression in [Compression::default(), Compression::zstd(None).unwrap(), Compression::none()] {
            for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 7 * BLOCK + 12345] {
                let data = noise(len);
                let one = compress(&data, compression, 1, 4096);
                assert_eq!(one, compress(&data, compression, 5, 70_001), "{compression:?} {len}");
                assert_eq!(one, compress(&data, compression, 2, usize::MAX), "{compression:?} {len}");
            }
        }
    }

    #[test]
    fn other_decoders_read_it() {
        let data = noise(3 * BLOCK + 17);
        let mut back = Vec::new();
        let gzip = compress(&data, Compression::gzip(Some(1)).unwrap(), 3, 1000);
        flate2::read::MultiGzDecoder::new(&gzip[..]).read_to_end(&mut back).unwrap();
        assert!(back == data);
        let zstd = compress(&data, Compression::zstd(Some(1)).unwrap(), 3, 1000);
        assert!(zstd::decode_all(&zstd[..]).unwrap() == data);
        assert!(gzip.len() < data.len() && zstd.len() < data.len());
    }

    #[test]
    fn levels_that_are_none() {
        assert!(Compression::gzip(Some(0)).is_ok() && Compression::gzip(Some(13)).is_err());
        let error = Compression::zstd(Some(23)).unwrap_err();
        assert_eq!(error.to_string(), "zstd has no compression level 23 (1 to 22)");
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn errors_of_the_writer_below_come_through() {
        let mut writer = ParallelCompressor::new(Full, Compression::default(), 2);
        let written = writer.write_all(&noise(20 * BLOCK));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
