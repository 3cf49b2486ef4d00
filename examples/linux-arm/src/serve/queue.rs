//! Requests waiting for a worker, at most so many.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::answer::Answer;
use crate::service::{Question, Refusal};

/// A request, and where its answer goes.
pub struct Job {
    /// The request.
    pub question: Question,
    /// Takes one answer without blocking.
    pub reply: SyncSender<Result<Answer, Refusal>>,
}

/// A bounded queue that also wakes its takers for news of other kinds.
pub struct Queue {
    waiting: Mutex<VecDeque<Job>>,
    news: Condvar,
    capacity: usize,
}

impl Queue {
    /// A queue of at most `capacity` jobs.
    pub fn new(capacity: usize) -> Self {
        Self { waiting: Mutex::new(VecDeque::with_capacity(capacity)), news: Condvar::new(), capacity }
    }

    /// Adds a job.
    ///
    /// # Errors
    /// [`Refusal::Busy`] if the queue is full.
    pub fn push(&self, job: Job) -> Result<(), Refusal> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= self.capacity {
            return Err(Refusal::Busy);
        }
        waiting.push_back(job);
        drop(waiting);
        self.news.notify_one();
        Ok(())
    }

    /// Waits for the next job; `None` as soon as `is_stale` says that the taker must look around first. It is asked whenever
    /// the queue is woken.
    pub fn pop(&self, is_stale: impl Fn() -> bool) -> Option<Job> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if is_stale() {
                // Whoever is awake must not keep a job's only notification to itself.
                self.news.notify_one();
                return None;
            }
            if let Some(job) = waiting.pop_front() {
                return Some(job);
            }
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes all takers ask `is_stale` again.
    pub fn wake(&self) {
        // Holding the lock, so that no taker is between its question and its wait.
        let _waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.news.notify_all();
    }
}
