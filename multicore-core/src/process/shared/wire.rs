//! The messages between a server and its worker, as bytes: one message is one packet of the socket between
//! them. Neither side trusts a length or a number in it: whatever bytes come, decoding gives a message or
//! says what is wrong.

use std::fmt;

/// Raised whenever the messages change. Both sides are one executable, so they only ever differ where a
/// worker was started by hand.
pub(in crate::process) const VERSION: u16 = 2;
/// What travels in the message itself; what is longer goes through a map. A copy of so much costs about as
/// much as telling the other side about a map.
pub(in crate::process) const INLINE: usize = 16 * 1024;
/// The longest message there is.
pub(in crate::process) const LONGEST: usize = INLINE + 1024;
/// How many maps a call tells the worker to forget at the most.
pub(in crate::process) const MOST_FORGOTTEN: usize = 128;
/// The longest text of an error, in bytes.
const TEXT: usize = 8 * 1024;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) struct Garbled(&'static str);

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a worker says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) struct Hello {
    pub(in crate::process) version: u16,
    /// Of the names of its tasks, in their order.
    pub(in crate::process) registry: u64,
    pub(in crate::process) pid: u32,
}

/// What a server answers; the control page's file comes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::process) struct Welcome {
    pub(in crate::process) name: String,
    /// The longest result, in bytes.
    pub(in crate::process) max_result: u64,
    /// What the worker may allocate, in bytes.
    pub(in crate::process) max_memory: u64,
    /// What tasks with a connection connect to; empty for nothing.
    pub(in crate::process) url: String,
}

/// Where a value's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) enum Payload<'a> {
    Inline(&'a [u8]),
    Map { map: u32, len: u64 },
}

/// A server's order. The files of maps that the worker does not know come with it: the result's first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::process) struct Call<'a> {
    /// Never zero, never twice for one worker.
    pub(in crate::process) id: u64,
    pub(in crate::process) task: u32,
    pub(in crate::process) argument: Payload<'a>,
    /// The map lent for the result, and whether its file comes with the message.
    pub(in crate::process) result: (u32, bool),
    /// Whether the file of the argument's map does.
    pub(in crate::process) new_argument: bool,
    /// Maps that will not be lent again.
    pub(in crate::process) forget: Vec<u32>,
}

/// A worker's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) struct Reply<'a> {
    pub(in crate::process) id: u64,
    pub(in crate::process) outcome: Outcome<'a>,
    /// Whether something of the worker's still refers to the argument's map.
    pub(in crate::process) kept_argument: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) enum Outcome<'a> {
    Done(Payload<'a>),
    /// The task returned an error.
    Failed(&'a str),
    Panicked(&'a str),
    BadArgument(&'a str),
    BadResult(&'a str),
    /// The result is longer than allowed.
    TooLarge,
}

impl Hello {
    pub(in crate::process) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(14);
        out.extend(self.version.to_le_bytes());
        out.extend(self.registry.to_le_bytes());
        out.extend(self.pid.to_le_bytes());
        out
    }

    pub(in crate::process) fn decode(bytes: &[u8]) -> Result<Self, Garbled> {
        let mut read = Reader(bytes);
        let hello =
            Hello { version: u16::from_le_bytes(read.array()?), registry: read.u64()?, pid: read.u32()? };
        read.end()?;
        Ok(hello)
    }
}

impl Welcome {
    pub(in crate::process) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_text(&mut out, &self.name);
        out.extend(self.max_result.to_le_bytes());
        out.extend(self.max_memory.to_le_bytes());
        put_text(&mut out, &self.url);
        out
    }

    pub(in crate::process) fn decode(bytes: &[u8]) -> Result<Self, Garbled> {
        let mut read = Reader(bytes);
        let welcome = Welcome {
            name: read.text()?.to_owned(),
            max_result: read.u64()?,
            max_memory: read.u64()?,
            url: read.text()?.to_owned(),
        };
        read.end()?;
        Ok(welcome)
    }
}

impl<'a> Call<'a> {
    pub(in crate::process) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend(self.id.to_le_bytes());
        out.extend(self.task.to_le_bytes());
        out.extend(self.result.0.to_le_bytes());
        out.push(u8::from(self.result.1) | (u8::from(self.new_argument) << 1));
        out.extend(u16::try_from(self.forget.len()).unwrap_or(u16::MAX).to_le_bytes());
        for map in self.forget.iter().take(u16::MAX.into()) {
            out.extend(map.to_le_bytes());
        }
        self.argument.encode(out);
    }

    pub(in crate::process) fn decode(bytes: &'a [u8]) -> Result<Self, Garbled> {
        let mut read = Reader(bytes);
        let (id, task, map) = (read.u64()?, read.u32()?, read.u32()?);
        if id == 0 {
            return Err(Garbled("a call has the number zero"));
        }
        let files = read.u8()?;
        if files > 3 {
            return Err(Garbled("a call has unknown flags"));
        }
        let forget = u16::from_le_bytes(read.array()?);
        let forget = (0..forget).map(|_| read.u32()).collect::<Result<_, _>>()?;
        let argument = read.payload()?;
        read.end()?;
        let new_argument = files & 2 != 0;
        if new_argument && matches!(argument, Payload::Inline(_)) {
            return Err(Garbled("a call has a file for an argument that needs none"));
        }
        Ok(Call { id, task, argument, result: (map, files & 1 != 0), new_argument, forget })
    }
}

impl Payload<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Payload::Inline(bytes) => {
                out.push(0);
                put_bytes(out, bytes);
            }
            Payload::Map { map, len } => {
                out.push(1);
                out.extend(map.to_le_bytes());
                out.extend(len.to_le_bytes());
            }
        }
    }
}

impl<'a> Reply<'a> {
    pub(in crate::process) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend(self.id.to_le_bytes());
        out.push(u8::from(self.kept_argument));
        let (tag, text) = match self.outcome {
            Outcome::Done(payload) => {
                out.push(0);
                return payload.encode(out);
            }
            Outcome::Failed(text) => (1, text),
            Outcome::Panicked(text) => (2, text),
            Outcome::BadArgument(text) => (3, text),
            Outcome::BadResult(text) => (4, text),
            Outcome::TooLarge => (5, ""),
        };
        out.push(tag);
        put_text(out, text);
    }

    pub(in crate::process) fn decode(bytes: &'a [u8]) -> Result<Self, Garbled> {
        let mut read = Reader(bytes);
        let id = read.u64()?;
        let kept_argument = match read.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Garbled("a reply has unknown flags")),
        };
        let outcome = match read.u8()? {
            0 => Outcome::Done(read.payload()?),
            1 => Outcome::Failed(read.text()?),
            2 => Outcome::Panicked(read.text()?),
            3 => Outcome::BadArgument(read.text()?),
            4 => Outcome::BadResult(read.text()?),
            5 => {
                read.text()?;
                Outcome::TooLarge
            }
            _ => return Err(Garbled("a reply has an unknown outcome")),
        };
        read.end()?;
        Ok(Reply { id, outcome, kept_argument })
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(bytes);
}

/// As much of the text as a message takes.
fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, &text.as_bytes()[..text.floor_char_boundary(TEXT)]);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Garbled> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Garbled("a message is cut short"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Garbled> {
        self.bytes(N)?.try_into().map_err(|_| Garbled("a message is cut short"))
    }

    fn u8(&mut self) -> Result<u8, Garbled> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, Garbled> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Garbled> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn counted(&mut self) -> Result<&'a [u8], Garbled> {
        let len = usize::try_from(self.u32()?).map_err(|_| Garbled("a length is too long"))?;
        self.bytes(len)
    }

    fn text(&mut self) -> Result<&'a str, Garbled> {
        std::str::from_utf8(self.counted()?).map_err(|_| Garbled("a text is not UTF-8"))
    }

    fn payload(&mut self) -> Result<Payload<'a>, Garbled> {
        match self.u8()? {
            0 => Ok(Payload::Inline(self.counted()?)),
            1 => Ok(Payload::Map { map: self.u32()?, len: self.u64()? }),
            _ => Err(Garbled("a value is nowhere")),
        }
    }

    fn end(&self) -> Result<(), Garbled> {
        if self.0.is_empty() { Ok(()) } else { Err(Garbled("a message is too long")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payload(bytes: &[u8]) -> [Payload<'_>; 2] {
        [Payload::Inline(bytes), Payload::Map { map: 7, len: bytes.len() as u64 }]
    }

    proptest! {
        #[test]
        fn calls_and_replies_come_back_as_they_were(
            id in 1..u64::MAX, task: u32, map: u32, file: bool, kept: bool,
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            forget in prop::collection::vec(any::<u32>(), 0..20),
            text in ".{0,200}",
        ) {
            let mut out = Vec::new();
            for argument in payload(&bytes) {
                let new_argument = file && matches!(argument, Payload::Map { .. });
                let call = Call { id, task, argument, result: (map, file), new_argument, forget: forget.clone() };
                call.encode(&mut out);
                prop_assert_eq!(Call::decode(&out), Ok(call));
                let reply = Reply { id, outcome: Outcome::Done(argument), kept_argument: kept };
                reply.encode(&mut out);
                prop_assert_eq!(Reply::decode(&out), Ok(reply));
            }
            for outcome in [
                Outcome::Failed(&text), Outcome::Panicked(&text), Outcome::BadArgument(&text),
                Outcome::BadResult(&text), Outcome::TooLarge,
            ] {
                let reply = Reply { id, outcome, kept_argument: kept };
                reply.encode(&mut out);
                prop_assert_eq!(Reply::decode(&out), Ok(reply));
            }
        }

        #[test]
        fn greetings_come_back_as_they_were(
            version: u16, registry: u64, pid: u32, name in ".{0,60}", max_result: u64, max_memory: u64,
        ) {
            let hello = Hello { version, registry, pid };
            prop_assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
            let welcome = Welcome { url: name.clone(), name, max_result, max_memory };
            prop_assert_eq!(Welcome::decode(&welcome.encode()), Ok(welcome));
        }

        /// Whatever comes, it is decoded or refused: no panic, no endless loop, no reading beyond the end.
        #[test]
        fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _message = (Hello::decode(&bytes), Welcome::decode(&bytes));
            let _message = (Call::decode(&bytes), Reply::decode(&bytes));
        }

        /// A message with one byte changed, a byte less or a byte more is decoded or refused.
        #[test]
        fn damaged_messages_are_refused_or_read(at: prop::sample::Index, to: u8, cut: prop::sample::Index) {
            let mut out = Vec::new();
            let argument = Payload::Inline(b"argument");
            Call { id: 3, task: 1, argument, result: (2, true), new_argument: false, forget: vec![9, 8] }
                .encode(&mut out);
            let whole = out.clone();
            out[at.index(whole.len())] = to;
            let _message = Call::decode(&out);
            prop_assert!(Call::decode(&whole[..cut.index(whole.len())]).is_err());
            out.clone_from(&whole);
            out.push(to);
            prop_assert!(Call::decode(&out).is_err());
        }
    }

    #[test]
    fn the_longest_call_and_the_longest_answer_are_messages() {
        let (bytes, mut out) = (vec![1; INLINE], Vec::new());
        let (argument, forget) = (Payload::Inline(&bytes), vec![u32::MAX; MOST_FORGOTTEN]);
        let (id, task, map) = (u64::MAX, u32::MAX, u32::MAX);
        Call { id, task, argument, result: (map, true), new_argument: false, forget }.encode(&mut out);
        assert!(out.len() <= LONGEST && Call::decode(&out).is_ok());
        Reply { id, outcome: Outcome::Done(argument), kept_argument: true }.encode(&mut out);
        assert!(out.len() <= LONGEST && Reply::decode(&out).is_ok());
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        let text = "é".repeat(TEXT);
        let mut out = Vec::new();
        Reply { id: 1, outcome: Outcome::Failed(&text), kept_argument: false }.encode(&mut out);
        let Ok(Reply { outcome: Outcome::Failed(cut), .. }) = Reply::decode(&out) else { panic!() };
        assert_eq!(cut.len(), TEXT);
        assert!(out.len() < LONGEST);
    }
}
