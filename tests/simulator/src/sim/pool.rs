//! The pool's policy. Owners and helpers do in virtual time what `job/owner.rs`, `job/mod.rs` and
//! `worker.rs` do; every choice is made by a function of `policy`.

use super::{CLAIM, DECIDE, Sim, Task};
use crate::admission::cost::{Samples, blend};
use crate::admission::policy::{self, Cost, GRAIN_LOW, Machine, Nanos, Open};

impl Sim<'_> {
    fn machine(&self) -> Machine {
        Machine {
            cores: self.world.cores,
            busy: policy::busy(self.computing, self.computing.min(self.world.cores), self.awake()),
            helpers: self.awake(),
            wake: self.wake,
            veto: self.veto,
            spare_thread: self.computing < self.world.cores,
        }
    }

    /// What a published job's items are expected to cost.
    fn cost(&self, request: usize) -> Cost {
        self.jobs[request].cost.unwrap_or(Cost { per_item: 1, fixed: 0 })
    }

    fn items_left(&self, request: usize) -> usize {
        self.jobs[request].waiting + self.jobs[request].unread
    }

    fn left(&self, request: usize) -> Nanos {
        self.cost(request).of(self.items_left(request))
    }

    fn desired(&self, request: usize, machine: Machine) -> usize {
        policy::desired(self.left(request), self.cost(request), machine)
    }

    fn shared_length(&self, request: usize, machine: Machine) -> usize {
        let (job, left) = (&self.jobs[request], self.left(request));
        policy::shared_length(left, job.waiting, job.participants, self.cost(request), machine)
    }

    /// How many to wake for a job now.
    fn wakes(&self, request: usize, machine: Machine) -> usize {
        let job = &self.jobs[request];
        if self.parked.is_empty() || !policy::worth_waking(job.waiting, self.cost(request)) {
            return 0;
        }
        policy::wakes(machine, self.parked.len(), job.participants, self.desired(request, machine))
    }

    pub(super) fn pool_welcome(&mut self, request: usize) {
        let known = self.models[self.requests[request].route].estimate();
        let job = &mut self.jobs[request];
        (job.known, job.cost) = (known, known);
        self.decide(request);
    }

    /// Publishes the job unless there is a reason not to.
    fn decide(&mut self, request: usize) -> Machine {
        let machine = self.machine();
        let cost = self.jobs[request].cost;
        if !self.jobs[request].shared && policy::alone(self.items_left(request), cost, machine).is_none() {
            self.jobs[request].shared = true;
            self.open.push(request);
        }
        machine
    }

    pub(super) fn pool_chunk(&mut self, request: usize) -> usize {
        let machine = self.decide(request);
        self.jobs[request].extra += DECIDE;
        let items = self.items_left(request);
        if !self.jobs[request].shared {
            let job = &mut self.jobs[request];
            let (limit, grain) = policy::private_limit(items, job.cost, job.grain, machine);
            job.grain = grain;
            // The clock ends the stretch, so what items truly cost counts.
            let length = limit.div_ceil(self.requests[request].per_item).max(1);
            return self.claim(request, usize::try_from(length).unwrap_or(usize::MAX));
        }
        let wakes = self.wakes(request, machine);
        let woken = self.wake_for(request, wakes);
        let job = &mut self.jobs[request];
        job.extra += woken + CLAIM;
        let length = match job.cost {
            Some(cost) if policy::is_deserted(job.participants, machine) => {
                let grain = policy::private_grain(cost.of(items), cost, job.grain);
                job.grain = policy::next_private_grain(job.grain);
                cost.items_in(grain)
            }
            _ => self.shared_length(request, machine),
        };
        self.claim(request, length)
    }

    pub(super) fn pool_measure(&mut self, request: usize) {
        let now = self.now;
        let job = &mut self.jobs[request];
        job.measured.add(job.length, now - job.since, job.cost);
        job.cost = blend(job.known, &job.measured, GRAIN_LOW);
    }

    pub(super) fn pool_farewell(&mut self, request: usize) {
        if self.jobs[request].shared
            && let Some(index) = self.open.iter().position(|open| *open == request)
        {
            self.open.swap_remove(index);
        }
        let measured = std::mem::take::<Samples>(&mut self.jobs[request].measured);
        self.models[self.requests[request].route].learn(&measured);
    }

    pub(super) fn pool_worker_done(&mut self, worker: usize) {
        let request = self.workers[worker].job;
        match self.workers[worker].task {
            Task::Waking(at) => {
                self.wake = policy::learnt_wake(self.wake, self.now - at);
                self.help(worker);
            }
            Task::Called => self.help(worker),
            Task::Lingering => {
                self.workers[worker].task = Task::Asleep;
                self.os.block(worker);
            }
            Task::Helping => {
                self.finish(request);
                if self.os.has_waiting() {
                    self.workers[worker].task = Task::Yielding;
                    self.os.resume(worker, DECIDE, true);
                } else {
                    self.look_around(worker);
                }
            }
            Task::Yielding => self.look_around(worker),
            Task::Asleep => unreachable!("a sleeping thread does nothing"),
        }
    }

    /// After a chunk: to another job, or on with this one.
    fn look_around(&mut self, worker: usize) {
        let request = self.workers[worker].job;
        if self.open.len() > 1 {
            let (here, machine) = (self.left(request), self.workers[worker].machine);
            let mut others = self.open.iter().map(|&job| self.as_open(job, machine));
            if others.any(|job| job.wants_hands() && policy::must_switch(here, job.left)) {
                self.jobs[request].participants -= 1;
                return self.next_job(worker);
            }
        }
        self.help(worker);
    }

    fn as_open(&self, request: usize, machine: Machine) -> Open {
        let job = &self.jobs[request];
        Open {
            left: self.left(request),
            claimable: job.waiting > 0,
            participants: job.participants,
            desired: self.desired(request, machine),
        }
    }

    /// Claims a chunk of the job it is a participant of, or leaves it.
    fn help(&mut self, worker: usize) {
        let request = self.workers[worker].job;
        let machine = self.machine();
        if policy::must_retire(machine) || self.jobs[request].waiting == 0 {
            self.jobs[request].participants -= 1;
            return self.next_job(worker);
        }
        if self.running() > self.world.cores {
            self.watched.claims_when_crowded += 1;
        }
        let length = self.claim(request, self.shared_length(request, machine));
        self.jobs[request].running += 1;
        let wakes = self.wakes(request, machine);
        self.workers[worker].extra += self.wake_for(request, wakes);
        let work = self.work(request, length);
        self.watched.helped += 1;
        if length > 1 {
            self.watched.longest_chunk = self.watched.longest_chunk.max(work);
        }
        let extra = std::mem::take(&mut self.workers[worker].extra);
        self.workers[worker].task = Task::Helping;
        self.workers[worker].machine = machine;
        self.os.resume(worker, work + extra + CLAIM + DECIDE, false);
    }

    /// Another job for a worker that has none, or it parks.
    fn next_job(&mut self, worker: usize) {
        let machine = self.machine();
        if !self.open.is_empty() && !policy::must_retire(machine) {
            let open = self.open.iter().map(|&job| self.as_open(job, machine));
            if let Some(index) = policy::pick(open) {
                let request = self.open[index];
                self.jobs[request].participants += 1;
                self.workers[worker].job = request;
                return self.help(worker);
            }
        }
        let linger = policy::linger(machine);
        self.parked.push(worker);
        if linger == 0 {
            self.workers[worker].task = Task::Asleep;
            self.os.block(worker);
        } else {
            self.workers[worker].task = Task::Lingering;
            self.os.resume(worker, linger, false);
        }
    }
}
