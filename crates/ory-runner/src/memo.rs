//! An answer that is asked for once, and kept until it is forgotten.

use std::sync::{Mutex, PoisonError};

use anyhow::Result;

/// An answer that is kept. Who asks meanwhile waits for the same answer.
#[derive(Default)]
pub struct Memo<T>(Mutex<Option<T>>);

impl<T: Clone> Memo<T> {
    pub fn get(&self, ask: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(answer) => Ok(answer.clone()),
            None => Ok(kept.insert(ask()?).clone()),
        }
    }

    /// The answer, if there is one: waits while somebody asks.
    pub fn peek(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, answer: Option<T>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_failure_is_asked_again_and_an_answer_is_not() {
        let answer = Memo::default();
        assert!(answer.get(|| bail!("no")).is_err());
        assert_eq!(answer.get(|| Ok(1)).ok(), Some(1));
        assert_eq!(answer.get(|| Ok(2)).ok(), Some(1));
        answer.set(None);
        assert_eq!(answer.peek(), None);
    }
}
