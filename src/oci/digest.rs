//! Digests, one type for each thing that can be digested.
//!
//! [`Digest`] is of bytes as stored, [`DiffId`] of a layer's uncompressed tar, [`ChainId`] of a stack of layers,
//! [`ContentDigest`] of what a layer holds without its times. They are four types so that none can stand for another.
//! Spec: OCI image-spec, descriptor.md (digests) and config.md (DiffID, ChainID).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// A digest that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not of the form `algorithm:hex`.
    #[error("'{0}' is not a digest (expected sha256: and 64 hexadecimal digits)")]
    Form(String),
    /// An algorithm that is not registered in the image spec.
    #[error("digest '{0}' uses an unknown algorithm (sha256 and sha512 are known)")]
    Algorithm(String),
}

/// Registered digest algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, what everybody uses.
    Sha256,
    /// SHA-512, read but never written.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// Digest of bytes as they are stored or sent.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// SHA-256 of `bytes`.
    pub fn sha256(bytes: impl AsRef<[u8]>) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes.as_ref());
        hasher.finish()
    }

    /// The SHA-256 that these bytes are.
    pub fn from_sha256(bytes: &[u8; 32]) -> Self {
        Digest { algorithm: Algorithm::Sha256, hex: hexadecimal(bytes) }
    }

    /// The bytes of a SHA-256; `None` where it is something else.
    pub fn sha256_bytes(&self) -> Option<[u8; 32]> {
        let mut out = [0; 32];
        if self.algorithm != Algorithm::Sha256 {
            return None;
        }
        let value = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
        for (byte, digits) in out.iter_mut().zip(self.hex.as_bytes().chunks_exact(2)) {
            *byte = value(digits[0]) << 4 | value(digits[1]);
        }
        Some(out)
    }

    /// SHA-256 of all that `from` holds.
    pub fn read(from: &mut dyn Read) -> io::Result<Self> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 1 << 16];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(n) => hasher.update(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Lower-case hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let form = || DigestError::Form(text.to_string());
        let (name, hex) = text.split_once(':').ok_or_else(form)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::Algorithm(text.to_string())),
        };
        let lower = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !lower || hex.len() != algorithm.hex_len() {
            return Err(form());
        }
        Ok(Digest { algorithm, hex: hex.to_string() })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! digest_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Digest);

        impl $name {
            /// Names `digest` as what this type says it is of.
            pub fn new(digest: Digest) -> Self {
                $name(digest)
            }

            /// The bare digest.
            pub fn digest(&self) -> &Digest {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map($name)
            }
        }
    };
}

digest_newtype!(
    /// Digest of a layer's uncompressed tar stream.
    DiffId
);
digest_newtype!(
    /// Digest of a stack of layers, from the bottom one up.
    ChainId
);
digest_newtype!(
    /// Digest of what a layer holds without its times: the same result of a step that ran again.
    ContentDigest
);

impl ChainId {
    /// ChainID of a stack that holds only `bottom`: the DiffID itself.
    pub fn bottom(bottom: &DiffId) -> Self {
        ChainId(bottom.0.clone())
    }

    /// ChainID of this stack with `layer` put on top: `Digest(chain + " " + diff)`.
    pub fn push(&self, layer: &DiffId) -> Self {
        ChainId(Digest::sha256(format!("{} {}", self.0, layer.0)))
    }

    /// ChainID of a whole stack, bottom first; `None` for the empty stack.
    pub fn of<'a>(layers: impl IntoIterator<Item = &'a DiffId>) -> Option<Self> {
        layers.into_iter().fold(None, |chain: Option<ChainId>, layer| {
            Some(chain.map_or_else(|| ChainId::bottom(layer), |below| below.push(layer)))
        })
    }
}

/// Computes a [`Digest`] piece by piece.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Starts a digest.
    pub fn new(algorithm: Algorithm) -> Self {
        Hasher(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(hasher) => Digest { algorithm: Algorithm::Sha256, hex: hexadecimal(&hasher.finalize()) },
            State::Sha512(hasher) => Digest { algorithm: Algorithm::Sha512, hex: hexadecimal(&hasher.finalize()) },
        }
    }
}

/// In lower-case hexadecimal digits; each digest passes here, so nothing but the text is allocated.
fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Hashes and counts what is written through it.
#[derive(Debug)]
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    written: u64,
}

impl<W: Write> HashingWriter<W> {
    /// SHA-256 over what goes to `inner`.
    pub fn new(inner: W) -> Self {
        HashingWriter { inner, hasher: Hasher::new(Algorithm::Sha256), written: 0 }
    }

    /// The inner writer, the digest and the number of bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.written)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hasher.update(&buf[..n]);
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Hashes and counts what is read through it.
#[derive(Debug)]
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
    read: u64,
}

impl<R: Read> HashingReader<R> {
    /// Hashes with `algorithm` what comes from `inner`.
    pub fn new(inner: R, algorithm: Algorithm) -> Self {
        HashingReader { inner, hasher: Hasher::new(algorithm), read: 0 }
    }

    /// The inner reader, the digest of what was read so far and its length.
    pub fn finish(self) -> (R, Digest, u64) {
        (self.inner, self.hasher.finish(), self.read)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hasher.update(&buf[..n]);
        self.read += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reads_what_it_writes() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(digest, Digest::sha256(b""));
        assert_eq!(digest.to_string(), EMPTY);
        let bytes = digest.sha256_bytes().unwrap();
        assert_eq!((bytes[0], bytes[31]), (0xe3, 0x55));
        assert_eq!(Digest::from_sha256(&bytes), digest);
    }

    #[test]
    fn refuses_what_is_no_digest() {
        for text in ["", "sha256", "sha256:", "sha256:E3", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../etc"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(EMPTY.to_uppercase().parse::<Digest>().is_err());
    }

    #[test]
    fn chain_of_one_is_its_diff_id() {
        let a = DiffId::new(Digest::sha256(b"a"));
        let b = DiffId::new(Digest::sha256(b"b"));
        assert_eq!(ChainId::of([&a]).unwrap().digest(), a.digest());
        let expected = Digest::sha256(format!("{a} {b}"));
        assert_eq!(ChainId::of([&a, &b]).unwrap().digest(), &expected);
        assert_eq!(ChainId::of([]), None);
    }
}
