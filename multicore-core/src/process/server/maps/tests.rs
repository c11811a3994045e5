//! Maps as a worker would use them.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::process::shared::memory::lengthen;

/// As the worker would; the file if it has grown.
fn write(map: &ResultMap, bytes: &[u8]) -> Option<OwnedFd> {
    let mut write = WriteMap::new(file_of(map)).unwrap();
    write.write(bytes, 0).unwrap();
    write.grown().map(|file| file.try_clone_to_owned().unwrap())
}

/// As the worker has it.
fn file_of(map: &ResultMap) -> OwnedFd {
    map.file.as_ref().unwrap().try_clone().unwrap()
}

#[test]
fn a_map_is_lent_again_only_when_its_result_is_gone() {
    let mut maps = Maps::new(false);
    let first = maps.lend(0).unwrap();
    assert!(first.introduce().is_some());
    let grown = write(&first, b"first");
    let id = first.id();
    let result = maps.accept(first, 5, grown).unwrap();
    let part = result.slice(1..3);
    drop(result);
    let second = maps.lend(0).unwrap();
    assert_ne!(second.id(), id, "a part of the first is still held");
    assert_eq!(part, "ir");
    drop(part);
    maps.put_back(second);
    let again = [maps.lend(0).unwrap(), maps.lend(0).unwrap()];
    assert!(again.iter().any(|map| map.id() == id) && again.iter().all(|map| map.introduce().is_none()));
}

#[test]
fn a_copied_result_frees_its_map_at_once() {
    let mut maps = Maps::new(true);
    let map = maps.lend(0).unwrap();
    let (id, long) = (map.id(), vec![3; 200_000]);
    let grown = write(&map, &long);
    let result = maps.accept(map, 200_000, grown).unwrap();
    assert_eq!(maps.lend(0).unwrap().id(), id);
    assert_eq!(result, long);
}

#[test]
fn a_result_longer_than_its_map_is_refused() {
    for copy in [false, true] {
        let mut maps = Maps::new(copy);
        let map = maps.lend(0).unwrap();
        let error = maps.accept(map, SHORTEST as u64 + 1, None).unwrap_err().to_string();
        assert_eq!(error, "a result of 65537 bytes in a map of 65536");
    }
}

#[test]
fn the_map_that_fits_best_is_lent_and_the_longest_are_let_go() {
    let mut maps = Maps::new(false);
    let sizes = [SHORTEST, 8 * SHORTEST, 2 * SHORTEST];
    let lent: Vec<_> = sizes.iter().map(|size| maps.lend(*size).unwrap()).collect();
    let ids: Vec<_> = lent.iter().map(ResultMap::id).collect();
    for map in lent {
        maps.put_back(map);
    }
    assert_eq!(maps.lend(SHORTEST + 1).unwrap().id(), ids[2]);
    assert_eq!(maps.lend(100 * SHORTEST).unwrap().id(), ids[1], "the longest is grown");
    assert!(maps.take_forgotten().is_empty());
    let huge = maps.lend(0).unwrap();
    let grown = write(&huge, &vec![1; KEEP_BYTES + 1]);
    let id = huge.id();
    drop(maps.accept(huge, 1, grown).unwrap());
    maps.lend(0).unwrap();
    assert_eq!(maps.take_forgotten(), [id]);
}

/// How much memory a file takes.
fn taken(file: impl AsFd) -> u64 {
    u64::try_from(rustix::fs::fstat(file).unwrap().st_blocks).unwrap() * 512
}

#[test]
fn what_is_not_kept_gives_its_memory_back_at_once() {
    let mut maps = Maps::new(false);
    let huge = maps.lend(0).unwrap();
    let grown = write(&huge, &vec![1; KEEP_BYTES + 1]);
    // The worker has it until its next call.
    let file = file_of(&huge);
    let result = maps.accept(huge, 1, grown).unwrap();
    assert!(taken(&file) > KEEP_BYTES as u64);
    drop(result);
    assert_eq!(taken(&file), 0);
}

#[test]
fn a_result_that_is_held_takes_no_descriptor() {
    let mut maps = Maps::new(false);
    let map = maps.lend(0).unwrap();
    let id = map.id();
    let file = file_of(&map);
    let grown = write(&map, b"result");
    let held = maps.accept(map, 6, grown).unwrap();
    assert_eq!(holders(&file), 2, "this test's, and the view");
    drop(held);
    // Lent again it serves results that fit, and others with the file that comes along.
    let map = maps.lend(0).unwrap();
    assert_eq!((map.id(), map.introduce().is_none()), (id, true));
    let held = maps.accept(map, SHORTEST as u64, None).unwrap();
    assert_eq!((held.len(), holders(&file)), (SHORTEST, 2));
    drop(held);
    let map = maps.lend(0).unwrap();
    lengthen(&file, 3 * SHORTEST).unwrap();
    let held = maps.accept(map, 2 * SHORTEST as u64, Some(file.try_clone().unwrap())).unwrap();
    assert_eq!((held.len(), holders(&file)), (2 * SHORTEST, 2));
    assert!(held.starts_with(b"result"));
    drop(held);
    // It may have grown for a result that came to nothing, and the one it is told with be short.
    let map = maps.lend(0).unwrap();
    lengthen(&file, 7 * SHORTEST).unwrap();
    drop(maps.accept(map, 5, Some(file.try_clone().unwrap())).unwrap());
    let map = maps.lend(0).unwrap();
    let held = maps.accept(map, 6 * SHORTEST as u64, None).unwrap();
    assert_eq!((held.len(), holders(&file)), (6 * SHORTEST, 2));
    drop(held);
    let map = maps.lend(0).unwrap();
    let not_sealed = OwnedFd::from(tempfile::tempfile().unwrap());
    lengthen(&not_sealed, 9 * SHORTEST).unwrap();
    assert!(maps.accept(map, 8 * SHORTEST as u64, Some(not_sealed)).is_err());
}

#[test]
fn a_result_that_is_held_does_not_keep_the_others_of_a_worker_that_is_gone() {
    let mut maps = Maps::new(false);
    let [held, other, late] = [0; 3].map(|len| maps.lend(len).unwrap());
    let files = [&other, &late].map(file_of);
    for map in [&held, &other, &late] {
        write(map, b"result");
    }
    let [held, other, late] = [held, other, late].map(|map| maps.accept(map, 6, None).unwrap());
    drop(other);
    drop(maps);
    drop(late);
    for file in files {
        assert_eq!(holders(&file), 1, "only this test's");
    }
    assert_eq!(held, "result");
}

/// How many descriptors and maps of this process are of a file.
fn holders(file: &OwnedFd) -> usize {
    let inode = rustix::fs::fstat(file).unwrap().st_ino;
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = open.filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok());
    let open = open.filter(|file| file.ino() == inode).count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    open + maps.lines().filter(|line| line.contains(&format!(" {inode} ")) && line.contains("memfd")).count()
}

#[test]
fn a_worker_is_told_what_to_forget_in_messages_that_are_short_enough() {
    let mut maps = Maps::new(false);
    let results: Vec<_> = (0..300)
        .map(|_| {
            let map = maps.lend(0).unwrap();
            write(&map, b"result");
            maps.accept(map, 6, None).unwrap()
        })
        .collect();
    drop(results);
    maps.lend(0).unwrap();
    let mut told = Vec::new();
    loop {
        let some = maps.take_forgotten();
        assert!(some.len() <= MOST_FORGOTTEN);
        if some.is_empty() {
            break;
        }
        told.extend(some);
    }
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), 300 - KEEP);
}

#[test]
fn maps_of_a_call_that_was_not_sent_are_lent_again_only_if_the_worker_knows_them() {
    let mut maps = Maps::new(false);
    let (new, argument) = (maps.lend(0).unwrap(), maps.lend_argument(&[1; 70_000]).unwrap());
    let (id, argument_id) = (new.id(), argument.id());
    maps.take_back(new, Some(argument));
    let (known, argument) = (maps.lend(0).unwrap(), maps.lend_argument(&[1; 70_000]).unwrap());
    assert!(known.id() != id && argument.id() != argument_id);
    assert!(known.introduce().is_some() && argument.introduce().is_some());
    let (id, argument_id) = (known.id(), argument.id());
    maps.put_back(known);
    maps.put_back_argument(argument, false);
    let (again, argument) = (maps.lend(0).unwrap(), maps.lend_argument(&[1; 70_000]).unwrap());
    assert_eq!((again.id(), argument.id()), (id, argument_id));
    maps.take_back(again, Some(argument));
    assert_eq!(
        (maps.lend(0).unwrap().id(), maps.lend_argument(&[1; 70_000]).unwrap().id()),
        (id, argument_id)
    );
}

#[test]
fn an_argument_that_is_kept_is_never_overwritten() {
    let mut maps = Maps::new(false);
    let map = maps.lend_argument(&[1; 100_000]).unwrap();
    let id = map.id();
    maps.put_back_argument(map, false);
    let map = maps.lend_argument(&[2; 90_000]).unwrap();
    assert_eq!(map.id(), id);
    maps.put_back_argument(map, true);
    assert_eq!(maps.take_forgotten(), [id]);
    assert_ne!(maps.lend_argument(&[3; 90_000]).unwrap().id(), id);
}
