//! The socket between a server and its worker: packets, with descriptors beside them. A packet comes whole or
//! not at all, and the other end's death ends the stream.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};

use super::wire::LONGEST;

/// A message has two files at the most: of the result's map and of the argument's.
const FILES: usize = 2;

/// Both ends.
pub(in crate::process) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a packet. With `wait` it waits for room, else it fails where there is none.
pub(in crate::process) fn put(
    socket: impl AsFd,
    bytes: &[u8],
    files: &[BorrowedFd<'_>],
    wait: bool,
) -> io::Result<()> {
    let flags = if wait { SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL | SendFlags::DONTWAIT };
    loop {
        let sent = if files.is_empty() {
            send(&socket, bytes, flags)
        } else {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            beside.push(SendAncillaryMessage::ScmRights(files));
            sendmsg(&socket, &[IoSlice::new(bytes)], &mut beside, flags)
        };
        match sent {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// What came.
pub(in crate::process) enum Got {
    /// A packet of so many bytes.
    Packet(usize),
    /// Nothing yet.
    Nothing,
    /// The other end is gone.
    End,
}

/// A buffer for packets, and the files that came with the last one.
#[derive(Debug)]
pub(in crate::process) struct Inbox {
    bytes: Box<[u8]>,
    pub(in crate::process) files: Vec<OwnedFd>,
}

impl Inbox {
    pub(in crate::process) fn new() -> Self {
        Inbox { bytes: vec![0; LONGEST].into(), files: Vec::new() }
    }

    pub(in crate::process) fn packet(&self, len: usize) -> &[u8] {
        &self.bytes[..len]
    }

    /// The next packet; with `wait`, waits for one.
    pub(in crate::process) fn get(&mut self, socket: impl AsFd, wait: bool) -> io::Result<Got> {
        let flags =
            if wait { RecvFlags::CMSG_CLOEXEC } else { RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT };
        self.files.clear();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
        let received = loop {
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            match recvmsg(&socket, &mut [IoSliceMut::new(&mut self.bytes)], &mut beside, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Got::Nothing),
                // It died with a packet of ours unread.
                Err(Errno::CONNRESET) => return Ok(Got::End),
                Err(error) => return Err(error.into()),
                Ok(received) => {
                    for message in beside.drain() {
                        if let RecvAncillaryMessage::ScmRights(files) = message {
                            self.files.extend(files);
                        }
                    }
                    break received;
                }
            }
        };
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other("a packet is longer than any message"));
        }
        // Messages are never empty.
        Ok(if received.bytes == 0 { Got::End } else { Got::Packet(received.bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::shared::memory::{length, shared_file};

    #[test]
    fn packets_come_whole_with_their_files_and_end_with_the_other_side() {
        let (one, other) = pair().unwrap();
        let mut inbox = Inbox::new();
        assert!(matches!(inbox.get(&other, false).unwrap(), Got::Nothing));
        let file = shared_file("test", 77).unwrap();
        put(&one, b"first", &[file.as_fd()], false).unwrap();
        put(&one, b"second", &[], true).unwrap();
        drop(one);
        assert!(matches!(inbox.get(&other, true).unwrap(), Got::Packet(5)));
        assert_eq!(inbox.packet(5), b"first");
        assert_eq!(length(&inbox.files[0]).unwrap(), 77);
        assert!(matches!(inbox.get(&other, true).unwrap(), Got::Packet(6)));
        assert!(inbox.files.is_empty());
        assert!(matches!(inbox.get(&other, true).unwrap(), Got::End));
    }

    #[test]
    fn a_packet_that_is_too_long_is_an_error() {
        let (one, other) = pair().unwrap();
        put(&one, &vec![1; LONGEST + 1], &[], false).unwrap();
        assert!(Inbox::new().get(&other, false).is_err());
    }
}
