//! The policies ours is compared with. None of them takes a worker back from a request before its part
//! is done.

use super::{CLAIM, DECIDE, Sim, Task};
use crate::admission::policy::{GRAIN_HIGH, Nanos};
use crate::world::Policy;

/// Few-to-many gives one more worker for so long a time, times the requests there are.
const STEP: Nanos = 200_000;

impl Sim<'_> {
    /// The owner's next work, others having been called to share what waits if the policy says so.
    pub(super) fn rival_chunk(&mut self, request: usize) -> usize {
        let (cores, waiting) = (self.world.cores, self.jobs[request].waiting);
        let parts = match self.policy {
            Policy::ForkAlways => cores,
            Policy::LoadGate if self.load_average * 100 < (85 * cores as u64) << 11 => cores,
            Policy::IdleCount => 1 + cores.saturating_sub(self.running()),
            Policy::FewToMany => return self.few_to_many(request),
            _ => 1,
        };
        let parts = parts.min(waiting);
        let (each, more) = (waiting / parts, waiting % parts);
        for part in 1..parts {
            self.parts.push_back((request, each + usize::from(part < more)));
        }
        self.jobs[request].running += parts - 1;
        self.jobs[request].waiting = 0;
        let woken = self.call(parts - 1);
        self.jobs[request].extra += woken + (parts as u64 - 1) * CLAIM;
        each + usize::from(more > 0)
    }

    /// Wakes workers for parts that queue.
    fn call(&mut self, count: usize) -> Nanos {
        let mut cost = 0;
        for _ in 0..count {
            let Some(worker) = self.parked.pop() else { break };
            self.workers[worker].task = Task::Waking(self.now);
            self.after(super::WAKE_LATENCY, super::Timer::Woken(worker));
            cost += super::WAKE_CALL;
        }
        cost
    }

    fn few_to_many(&mut self, request: usize) -> usize {
        let lasted = self.now - self.requests[request].at;
        let degree = 1 + lasted / (STEP * self.owners.max(1) as u64);
        let degree = usize::try_from(degree).unwrap_or(usize::MAX).min(self.world.cores);
        let idle = self.world.cores.saturating_sub(self.running());
        let wanted = degree.saturating_sub(self.jobs[request].participants).min(idle);
        let woken = self.wake_for(request, wanted);
        self.jobs[request].extra += woken + DECIDE + CLAIM;
        self.claim_step(request)
    }

    fn claim_step(&mut self, request: usize) -> usize {
        let length = GRAIN_HIGH.div_ceil(self.requests[request].per_item).max(1);
        self.claim(request, usize::try_from(length).unwrap_or(usize::MAX))
    }

    pub(super) fn rival_worker_done(&mut self, worker: usize) {
        if self.workers[worker].task == Task::Helping {
            self.finish(self.workers[worker].job);
        }
        let work = if self.policy == Policy::FewToMany {
            let request = self.workers[worker].job;
            match self.claim_step(request) {
                0 => {
                    self.jobs[request].participants -= 1;
                    None
                }
                length => Some((request, length)),
            }
        } else {
            self.parts.pop_front()
        };
        let Some((request, length)) = work else {
            self.workers[worker].task = Task::Asleep;
            self.parked.push(worker);
            self.os.block(worker);
            return;
        };
        if self.policy == Policy::FewToMany {
            self.jobs[request].running += 1;
        }
        self.workers[worker].task = Task::Helping;
        self.workers[worker].job = request;
        self.os.resume(worker, self.work(request, length) + CLAIM, false);
    }
}
