//! The registry: the functions that a worker process can run, by name, with the types they take and give.

use std::any::{TypeId, type_name};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use super::error::{ProcessError, ProcessStartError};
use super::portable::Output;
use crate::error::BoxError;

/// The tasks by themselves.
#[derive(Default)]
pub(super) struct Registry {
    tasks: Vec<Entry>,
}

/// What workers run, and what they are told at their start.
pub(super) struct Program {
    pub(super) tasks: Registry,
    /// Their command-line arguments.
    pub(super) arguments: Vec<String>,
    /// What tasks with a connection connect to.
    pub(super) url: String,
}

/// One task.
pub(super) struct Entry {
    name: String,
    argument: Type,
    result: Type,
    idempotent: bool,
    run: Box<Run>,
}

pub(super) type Run = dyn Fn(Bytes, &mut Output<'_>) -> Result<(), Failure> + Send + Sync;

/// Why a task gave no result, in the worker.
pub(super) enum Failure {
    /// The task's own error.
    Failed(String),
    /// The argument was not readable.
    Argument(BoxError),
    /// The result was not writable.
    Result(BoxError),
}

#[derive(Clone, Copy)]
struct Type {
    id: TypeId,
    name: &'static str,
}

impl Type {
    fn of<T: 'static>() -> Self {
        Type { id: TypeId::of::<T>(), name: type_name::<T>() }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.tasks.iter().map(|task| &task.name)).finish()
    }
}

impl Registry {
    pub(super) fn add<A: 'static, R: 'static>(&mut self, name: String, idempotent: bool, run: Box<Run>) {
        let (argument, result) = (Type::of::<A>(), Type::of::<R>());
        self.tasks.push(Entry { name, argument, result, idempotent, run });
    }

    /// Refuses two tasks of one name.
    pub(super) fn check(&self) -> Result<(), ProcessStartError> {
        let mut names: Vec<&str> = self.tasks.iter().map(Entry::name).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(ProcessStartError::Duplicate { task: twice[0].to_owned() }),
            None => Ok(()),
        }
    }

    pub(super) fn get(&self, index: u32) -> Option<&Entry> {
        self.tasks.get(usize::try_from(index).ok()?)
    }

    /// Tells registries apart.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for task in &self.tasks {
            (&task.name, task.argument.name, task.result.name).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Where the task stands, if it has these types.
    pub(super) fn find<A: 'static, R: 'static>(&self, name: &str) -> Result<u32, ProcessError> {
        let index = self.position(name)?;
        let entry = &self.tasks[index];
        for (what, registered, asked) in
            [("argument", entry.argument, Type::of::<A>()), ("result", entry.result, Type::of::<R>())]
        {
            // Bytes are what every value crosses as, so anything can be given and taken so.
            if registered.id != asked.id && asked.id != TypeId::of::<Bytes>() {
                let (expected, given) = (registered.name, asked.name);
                return Err(ProcessError::WrongType { task: name.to_owned(), what, expected, given });
            }
        }
        u32::try_from(index).map_err(|_| self.unknown(name))
    }

    fn position(&self, name: &str) -> Result<usize, ProcessError> {
        self.tasks.iter().position(|task| task.name == name).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> ProcessError {
        let mut known = self.tasks.iter().map(|task| &*task.name).collect::<Vec<_>>().join(", ");
        if known.is_empty() {
            known.push_str("none");
        }
        ProcessError::UnknownTask { task: name.to_owned(), known }
    }
}

impl Entry {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    pub(super) fn run(&self, argument: Bytes, out: &mut Output<'_>) -> Result<(), Failure> {
        (self.run)(argument, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::portable::Json;

    fn tasks() -> Registry {
        let mut tasks = Registry::default();
        tasks.add::<String, Json<usize>>("length".to_owned(), false, Box::new(|_, _| Ok(())));
        tasks.add::<Bytes, Bytes>("echo".to_owned(), true, Box::new(|_, _| Ok(())));
        tasks
    }

    #[test]
    fn a_task_is_found_by_its_name_and_types() {
        let tasks = tasks();
        assert_eq!(tasks.find::<String, Json<usize>>("length").unwrap(), 0);
        assert_eq!(tasks.find::<Bytes, Bytes>("length").unwrap(), 0, "anything crosses as bytes");
        assert_eq!(tasks.find::<Bytes, Bytes>("echo").unwrap(), 1);
        let error = tasks.find::<Bytes, Bytes>("size").unwrap_err();
        assert_eq!(error.to_string(), "no task is named `size`; there are: length, echo");
        let error = tasks.find::<Vec<u8>, Json<usize>>("length").unwrap_err().to_string();
        assert!(
            error.starts_with("task `length` has alloc::string::String as its argument, not "),
            "{error}"
        );
        let error = tasks.find::<String, String>("length").unwrap_err().to_string();
        assert!(error.contains("as its result"), "{error}");
    }

    #[test]
    fn registries_with_other_tasks_or_types_differ() {
        let mut more = tasks();
        more.add::<(), ()>("more".to_owned(), false, Box::new(|_, _| Ok(())));
        let mut other = Registry::default();
        other.add::<Bytes, Json<usize>>("length".to_owned(), false, Box::new(|_, _| Ok(())));
        other.add::<Bytes, Bytes>("echo".to_owned(), true, Box::new(|_, _| Ok(())));
        assert_eq!(tasks().fingerprint(), tasks().fingerprint());
        assert_ne!(tasks().fingerprint(), more.fingerprint());
        assert_ne!(tasks().fingerprint(), other.fingerprint());
    }

    #[test]
    fn two_tasks_of_one_name_are_refused() {
        let mut twice = tasks();
        twice.add::<(), ()>("echo".to_owned(), false, Box::new(|_, _| Ok(())));
        assert_eq!(twice.check().unwrap_err().to_string(), "two tasks are named `echo`");
        assert!(tasks().check().is_ok());
    }
}
