//! Workers that break the protocol: the caller is told, the worker is killed, the next call is answered.

use bytes::Bytes;
use multicore_core::process::{Json, Packed, ProcessError};

use crate::rogue::Lie;
use crate::system::soon;
use crate::tasks::{pool, settings};

#[tokio::test]
async fn every_breach_is_told_kills_the_worker_and_the_next_call_is_answered() {
    for copy in [false, true] {
        let mc = pool(settings(1).copy_results(copy)).await;
        let processes = mc.processes();
        let lies = [
            (Lie::OtherCall(-1), "an answer to call 0 while call 1 was open"),
            (Lie::OtherCall(1), "an answer to call 2 while call 1 was open"),
            (Lie::OtherMap(99), "a result in map 99, lent was map 1"),
            (Lie::Longer(65_537), "a result of 65537 bytes in a map of 65536"),
            (Lie::Longer(u64::MAX), "a result of 18446744073709551615 bytes in a map of 65536"),
            (Lie::CutShort, "a message is cut short"),
            (Lie::Raw(b"garbage".to_vec()), "a message is cut short"),
            (Lie::Raw(vec![255; 100]), "an answer to call"),
            (Lie::Raw(vec![0; 30_000]), "a packet is longer than any message"),
            (Lie::Raw(Vec::new()), "it closed its socket"),
            (Lie::Closed, "it closed its socket"),
        ];
        for (round, (lie, breach)) in (1..).zip(lies) {
            let blocking = processes.clone();
            let sent = Packed(lie.clone());
            let result = if round % 2 == 0 {
                soon(tokio::task::spawn_blocking(move || blocking.run_blocking("lie", sent))).await.unwrap()
            } else {
                soon(processes.run::<_, ()>("lie", sent)).await
            };
            let error = result.unwrap_err();
            assert!(matches!(error, ProcessError::Protocol { .. }), "{lie:?}: {error}");
            let told = error.to_string();
            assert!(
                told.starts_with("test-process-0 broke the protocol over task `lie`: ")
                    && told.contains(breach)
                    || matches!(&lie, Lie::Raw(bytes) if bytes.len() == 100),
                "{lie:?}: {told}"
            );
            // With the next worker, whose first call is the next lie.
            crate::system::until_async("replaced", || processes.stats().started == 1 + round).await;
            assert_eq!((processes.stats().killed, processes.stats().died), (round, 0));
        }
        let text: String = soon(processes.run("shout", "still there".to_owned())).await.unwrap();
        assert_eq!(text, "STILL THERE");
    }
}

#[tokio::test]
async fn unknown_tasks_and_other_types_never_reach_a_worker() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    let error = processes.run::<_, Bytes>("ecko", Bytes::new()).await.unwrap_err();
    assert!(matches!(error, ProcessError::UnknownTask { .. }), "{error}");
    let error = processes.run::<_, Bytes>("shout", Json(1)).await.unwrap_err();
    assert!(matches!(error, ProcessError::WrongType { .. }), "{error}");
    assert_eq!(processes.stats().calls, 0);
}

#[tokio::test]
async fn what_is_no_argument_is_told_and_the_worker_goes_on() {
    let mc = pool(settings(1)).await;
    let processes = mc.processes();
    let error = processes.run::<_, String>("shout", Bytes::from_static(b"\xff")).await.unwrap_err();
    assert!(error.to_string().starts_with("the argument of task `shout` did not cross"), "{error}");
    let error = processes.run::<_, Json<u8>>("pid", ()).await.unwrap_err();
    assert!(matches!(error, ProcessError::WrongType { what: "result", .. }), "{error}");
    assert_eq!(processes.stats().started, 1);
}
