//! What the requests of a deployment are compared with.

use std::sync::{Arc, OnceLock};

use model::{DeploymentEntry, ValidationEntry};
use spec::{OperationNumber, RequestRules};

/// Whether requests are compared with the specification, and with what.
pub(crate) struct Validation {
    /// Whether requests that do not fit are refused.
    pub(crate) enforced: bool,
    pub(crate) rules: Arc<Rules>,
}

/// The rules of a version, read when they are first needed, so that a snapshot with many costs little.
pub(crate) struct Rules {
    text: Arc<str>,
    /// Method and template of each operation of the deployment.
    operations: Vec<(String, String)>,
    read: OnceLock<Option<ReadRules>>,
}

/// Rules, ready for use.
pub(crate) struct ReadRules {
    pub(crate) rules: RequestRules,
    /// By the number of an operation of the deployment.
    numbers: Vec<Option<OperationNumber>>,
}

impl Validation {
    /// Keeps what was already read of the same rules.
    pub(crate) fn compile(entry: &DeploymentEntry, previous: Option<&Self>) -> Option<Self> {
        let ValidationEntry { enforced, rules } = entry.validation.as_ref()?;
        let operations: Vec<_> = entry
            .operations
            .iter()
            .map(|operation| (operation.method.clone(), operation.template.clone()))
            .collect();
        let is_same = |known: &&Arc<Rules>| {
            (Arc::ptr_eq(&known.text, rules) || known.text == *rules)
                && known.operations == operations
        };
        let known = previous.map(|previous| &previous.rules).filter(is_same).cloned();
        let rules = known.unwrap_or_else(|| {
            Arc::new(Rules { text: Arc::clone(rules), operations, read: OnceLock::new() })
        });
        Some(Self { enforced: *enforced, rules })
    }
}

impl Rules {
    /// How much there is to read, in bytes; nothing once it was read.
    pub(crate) fn unread(&self) -> usize {
        if self.read.get().is_some() { 0 } else { self.text.len() }
    }

    /// The rules; none when they cannot be read.
    pub(crate) fn get(&self) -> Option<&ReadRules> {
        let read = || match serde_json::from_str::<RequestRules>(&self.text) {
            Ok(rules) => {
                let number =
                    |(method, template): &(String, String)| rules.operation(method, template);
                let numbers = self.operations.iter().map(number).collect();
                Some(ReadRules { rules, numbers })
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "request rules cannot be read; what they protect is not called"
                );
                None
            }
        };
        self.read.get_or_init(read).as_ref()
    }
}

impl ReadRules {
    pub(crate) fn number(&self, operation: u16) -> Option<OperationNumber> {
        self.numbers.get(usize::from(operation)).copied().flatten()
    }
}
