//! Content codings (RFC 9110, 8.4): gzip and brotli, in pieces and within bounds.

use std::io::{self, Write};

use brotli::{CompressorWriter, DecompressorWriter};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder, write::MultiGzDecoder};

/// How much is given to a coder at once, so that one body never keeps the others of its worker waiting.
pub(crate) const PIECE: usize = 16 << 10;
/// What comes out of a decoder may be this many times what went in, beyond a first mebibyte for which nobody counts.
const RATIO_MAX: u64 = 250;
const UNCOUNTED: u64 = 1 << 20;

/// Levels at which coding costs about as much as it saves.
const GZIP_LEVEL: u32 = 5;
const BROTLI_QUALITY: u32 = 4;
const BROTLI_WINDOW: u32 = 19;
const BROTLI_BUFFER: usize = 4 << 10;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Gzip,
}

/// Codes a body.
pub(crate) enum Encoder {
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

/// Decodes a body.
pub(crate) enum Decoder {
    Brotli(Box<DecompressorWriter<Bounded>>),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

/// Why a body was not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the body is not coded as it says")]
    Malformed,
    #[error("the body grows beyond all proportion when it is decoded")]
    Bomb,
}

/// Takes what comes out of a decoder, as long as that is in proportion to what went in.
#[derive(Debug, Default)]
pub(crate) struct Bounded {
    out: Vec<u8>,
    given: u64,
    taken: u64,
    is_exceeded: bool,
}

impl Coding {
    /// A coding by its name; none for `identity` and unknown ones.
    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        match name {
            name if name.eq_ignore_ascii_case(b"br") => Some(Self::Brotli),
            name if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") => {
                Some(Self::Gzip)
            }
            _ => None,
        }
    }

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// The coding that a client likes best of those it accepts; between equals the smaller result wins.
    pub(crate) fn preferred<'fields>(
        accepted: &(impl Iterator<Item = &'fields [u8]> + Clone),
    ) -> Option<Self> {
        let weight = |coding: Self| (coding, weight_of(accepted.clone(), coding));
        let (brotli, gzip) = (weight(Self::Brotli), weight(Self::Gzip));
        let best = if brotli.1 >= gzip.1 { brotli } else { gzip };
        (best.1 > 0).then_some(best.0)
    }

    /// Whether a client accepts the coding.
    pub(crate) fn is_accepted<'fields>(
        self,
        accepted: impl Iterator<Item = &'fields [u8]>,
    ) -> bool {
        weight_of(accepted, self) > 0
    }
}

/// The weight that `Accept-Encoding` gives a coding, in thousandths (RFC 9110, 12.5.3).
fn weight_of<'fields>(accepted: impl Iterator<Item = &'fields [u8]>, coding: Coding) -> u32 {
    let mut any = 0;
    for element in accepted.flat_map(|value| value.split(|byte| *byte == b',')) {
        let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let quality =
            parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        let weight = quality.map_or(Some(1_000), thousandths).unwrap_or(0);
        if Coding::parse(name) == Some(coding) {
            return weight;
        }
        if name == b"*" {
            any = weight;
        }
    }
    any
}

fn thousandths(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|digit| digit.is_ascii_digit());
    match whole {
        "1" if digits && fraction.bytes().all(|digit| digit == b'0') => Some(1_000),
        "0" if digits => format!("{fraction:0<3}").parse().ok(),
        _ => None,
    }
}

impl Encoder {
    pub(crate) fn new(coding: Coding) -> Self {
        match coding {
            Coding::Brotli => Self::Brotli(Box::new(CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                BROTLI_QUALITY,
                BROTLI_WINDOW,
            ))),
            Coding::Gzip => {
                Self::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))))
            }
        }
    }

    /// Takes data in; gives out what is ready.
    pub(crate) fn push(&mut self, data: &[u8]) -> Bytes {
        let out = match self {
            Self::Brotli(encoder) => encoder.write_all(data).map(|()| encoder.get_mut()),
            Self::Gzip(encoder) => encoder.write_all(data).map(|()| encoder.get_mut()),
        };
        take(out.expect("a vector takes whatever is written"))
    }

    /// Gives out everything that was taken in, because nothing more comes for a while.
    pub(crate) fn flush(&mut self) -> Bytes {
        let out = match self {
            Self::Brotli(encoder) => encoder.flush().map(|()| encoder.get_mut()),
            Self::Gzip(encoder) => encoder.flush().map(|()| encoder.get_mut()),
        };
        take(out.expect("a vector takes whatever is written"))
    }

    /// Ends the body.
    pub(crate) fn finish(self) -> Bytes {
        match self {
            Self::Brotli(encoder) => Bytes::from(encoder.into_inner()),
            Self::Gzip(encoder) => {
                Bytes::from(encoder.finish().expect("a vector takes whatever is written"))
            }
        }
    }
}

fn take(out: &mut Vec<u8>) -> Bytes {
    Bytes::from(std::mem::take(out))
}

impl Decoder {
    pub(crate) fn new(coding: Coding) -> Self {
        let out = Bounded::default();
        match coding {
            Coding::Brotli => Self::Brotli(Box::new(DecompressorWriter::new(out, BROTLI_BUFFER))),
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(out))),
        }
    }

    /// Takes at most [`PIECE`] bytes in; gives out what they stand for.
    pub(crate) fn push(&mut self, data: &[u8]) -> Result<Bytes, DecodeError> {
        let out = self.out();
        out.given += data.len() as u64;
        let pushed = match self {
            Self::Brotli(decoder) => decoder.write_all(data),
            Self::Gzip(decoder) => decoder.write_all(data).and_then(|()| decoder.flush()),
        };
        self.outcome(pushed.is_ok())
    }

    /// Ends the body; it must have come whole.
    pub(crate) fn finish(mut self) -> Result<Bytes, DecodeError> {
        let ended = match &mut self {
            Self::Brotli(decoder) => decoder.close(),
            Self::Gzip(decoder) => decoder.try_finish(),
        };
        self.outcome(ended.is_ok())
    }

    fn outcome(&mut self, is_done: bool) -> Result<Bytes, DecodeError> {
        let out = self.out();
        match (is_done, out.is_exceeded) {
            (true, _) => Ok(take(&mut out.out)),
            (false, true) => Err(DecodeError::Bomb),
            (false, false) => Err(DecodeError::Malformed),
        }
    }

    fn out(&mut self) -> &mut Bounded {
        match self {
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Gzip(decoder) => decoder.get_mut(),
        }
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.taken += bytes.len() as u64;
        if self.taken > UNCOUNTED + RATIO_MAX * self.given {
            self.is_exceeded = true;
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: [Coding; 2] = [Coding::Brotli, Coding::Gzip];

    fn encode(coding: Coding, data: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new(coding);
        let mut coded = Vec::new();
        for piece in data.chunks(PIECE) {
            coded.extend_from_slice(&encoder.push(piece));
        }
        coded.extend_from_slice(&encoder.finish());
        coded
    }

    fn decode(coding: Coding, coded: &[u8], step: usize) -> Result<Vec<u8>, DecodeError> {
        let mut decoder = Decoder::new(coding);
        let mut data = Vec::new();
        for piece in coded.chunks(step) {
            data.extend_from_slice(&decoder.push(piece)?);
        }
        data.extend_from_slice(&decoder.finish()?);
        Ok(data)
    }

    proptest! {
        #[test]
        fn what_is_coded_is_decoded(data in proptest::collection::vec(0_u8..8, 0..5_000), step in 1_usize..600) {
            for coding in BOTH {
                let coded = encode(coding, &data);
                prop_assert_eq!(decode(coding, &coded, step), Ok(data.clone()));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500), step in 1_usize..50) {
            for coding in BOTH {
                let _ = decode(coding, &bytes, step);
            }
        }
    }

    #[test]
    fn what_was_flushed_can_be_read_at_once() {
        for coding in BOTH {
            let mut encoder = Encoder::new(coding);
            let mut coded = encoder.push(b"hello").to_vec();
            coded.extend_from_slice(&encoder.flush());
            let read = Decoder::new(coding).push(&coded);
            assert_eq!(read.as_deref(), Ok(b"hello".as_slice()), "{coding:?}");
        }
    }

    #[test]
    fn bombs_are_refused_before_they_grow() {
        let zeros = vec![0; 40 << 20];
        for coding in BOTH {
            let coded = encode(coding, &zeros);
            assert!(coded.len() < 60_000, "{coding:?}: {}", coded.len());
            assert_eq!(decode(coding, &coded, PIECE), Err(DecodeError::Bomb), "{coding:?}");
        }
    }

    #[test]
    fn what_is_cut_short_or_damaged_is_refused() {
        for coding in BOTH {
            let coded = encode(coding, b"some text that is long enough to be coded, some text");
            for end in 1..coded.len() {
                assert_eq!(
                    decode(coding, &coded[..end], PIECE),
                    Err(DecodeError::Malformed),
                    "{end}"
                );
            }
            assert_eq!(decode(coding, b"plain text", PIECE), Err(DecodeError::Malformed));
        }
    }

    #[test]
    fn the_client_decides_what_is_spoken() {
        let preferred = |text: &'static str| Coding::preferred(&std::iter::once(text.as_bytes()));
        for (accepted, coding) in [
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("gzip", Some(Coding::Gzip)),
            ("br;q=0.5, gzip;q=0.8", Some(Coding::Gzip)),
            ("br;q=0, gzip;q=0.001", Some(Coding::Gzip)),
            ("*", Some(Coding::Brotli)),
            ("*;q=0.5, br;q=0", Some(Coding::Gzip)),
            ("identity", None),
            ("br;q=2", None),
            ("br;q=0.0000", None),
            ("", None),
        ] {
            assert_eq!(preferred(accepted), coding, "{accepted}");
        }
    }
}
