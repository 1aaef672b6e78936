//! A staged test of a connection: what was tried, how long it took, what came of it, what to do.
//!
//! A stage is told as soon as it ended, so that a person sees where it hangs. The first one that fails is the last one:
//! what comes behind it could only fail for the same reason.

use std::fmt;

use serde::Serialize;
use tokio::time::Instant;

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    /// It works, and somebody should know something.
    Warning,
    Failed,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// Stable word for programs.
    pub name: &'static str,
    pub outcome: Outcome,
    pub ms: f64,
    /// One sentence.
    pub detail: String,
    /// What there is to see beside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The stages of a test, in their order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub target: String,
    /// Nothing failed.
    pub ok: bool,
    pub stages: Vec<Stage>,
}

impl Report {
    /// The stage that failed.
    pub fn failed(&self) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.outcome == Outcome::Failed)
    }
}

/// A stage failed; what and why stands in the course.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed;

/// What a stage has to say.
#[derive(Debug, Default)]
pub struct Words {
    pub detail: String,
    pub facts: Vec<String>,
    pub hint: Option<String>,
}

impl Words {
    pub fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..Self::default() }
    }

    #[must_use]
    pub fn with(mut self, facts: impl IntoIterator<Item = String>) -> Self {
        self.facts.extend(facts);
        self
    }

    /// With what to do, if there is something.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        self
    }
}

/// A test on its way.
pub struct Course<'a> {
    stages: Vec<Stage>,
    began: Instant,
    tell: &'a mut (dyn FnMut(&Stage) + Send),
}

impl fmt::Debug for Course<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Course").field("stages", &self.stages).finish_non_exhaustive()
    }
}

impl<'a> Course<'a> {
    /// The first stage begins now; each is handed to `tell` when it ended.
    pub fn new(tell: &'a mut (dyn FnMut(&Stage) + Send)) -> Self {
        Self { stages: Vec::new(), began: Instant::now(), tell }
    }

    fn end(&mut self, name: &'static str, outcome: Outcome, words: Words) {
        let Words { detail, facts, hint } = words;
        let ms = (self.began.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
        let stage = Stage { name, outcome, ms, detail, facts, hint };
        (self.tell)(&stage);
        self.stages.push(stage);
        self.began = Instant::now();
    }

    pub fn ok(&mut self, name: &'static str, words: Words) {
        self.end(name, Outcome::Ok, words);
    }

    pub fn warn(&mut self, name: &'static str, words: Words) {
        self.end(name, Outcome::Warning, words);
    }

    pub fn fail(&mut self, name: &'static str, words: Words) -> Failed {
        self.end(name, Outcome::Failed, words);
        Failed
    }

    pub fn finish(self, target: &str) -> Report {
        let ok = self.stages.iter().all(|stage| stage.outcome != Outcome::Failed);
        Report { target: target.to_owned(), ok, stages: self.stages }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.outcome {
            Outcome::Ok => "ok",
            Outcome::Warning => "note",
            Outcome::Failed => "FAILED",
        };
        write!(f, "{mark:6}  {:11}  {:>8.1} ms  {}", self.name, self.ms, self.detail)?;
        for fact in &self.facts {
            write!(f, "\n{:8}{fact}", "")?;
        }
        if let Some(hint) = &self.hint {
            for (place, line) in hint.lines().enumerate() {
                write!(f, "\n{:8}{} {line}", "", if place == 0 { "->" } else { "  " })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // ui 1.4: each stage has a state, a time, details and one action
    #[tokio::test(start_paused = true)]
    async fn stages_are_told_as_they_end_and_the_failed_one_is_found() {
        let mut told = Vec::new();
        let mut tell = |stage: &Stage| told.push(stage.to_string());
        let mut course = Course::new(&mut tell);
        tokio::time::advance(std::time::Duration::from_micros(1_500)).await;
        course.ok("resolve", Words::new("plc is 10.0.0.5"));
        tokio::time::advance(std::time::Duration::from_millis(20)).await;
        let words = Words::new("refused").with(["port 4840".to_owned()]).hint("is the server on?\nis it this port?");
        assert_eq!(course.fail("connect", words), Failed);
        let report = course.finish("opc.tcp://plc");
        assert!(!report.ok);
        assert_eq!(report.failed().map(|stage| (stage.name, stage.ms)), Some(("connect", 20.0)));
        assert_eq!(
            told,
            [
                "ok      resolve           1.5 ms  plc is 10.0.0.5",
                "FAILED  connect          20.0 ms  refused\n        port 4840\n        -> is the server on?\n           is it this port?",
            ]
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["stages"][1]["outcome"], &json["ok"]), (&"failed".into(), &false.into()));
    }
}
