//! Where the books are read: from the running gateway, or else from its store.

use super::{AskError, Operator};
use crate::{
    gateway::ledger::{self, Cursor, Detail, Filter, Page},
    protocol::ids::TxId,
    store::Reading,
};

/// Decided by the first question, so that one list never mixes two sources.
pub(super) struct Books<'a> {
    operator: &'a Operator,
    stored: Option<Box<dyn Reading>>,
    answered: bool,
}

impl<'a> Books<'a> {
    pub fn of(operator: &'a Operator) -> Self {
        Self { operator, stored: None, answered: false }
    }

    pub async fn page(&mut self, filter: &Filter, after: Cursor, limit: usize) -> Result<Page, AskError> {
        if self.stored.is_none() {
            let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs(filter, after, limit)).finish();
            match self.operator.get(&format!("/payments?{query}")) {
                Err(AskError::NotRunning(..)) if !self.answered => self.open().await?,
                asked => {
                    self.answered = true;
                    return asked;
                }
            }
        }
        let Some(stored) = &self.stored else { unreachable!("opened, or an error was returned") };
        ledger::page(stored.as_ref(), filter, after, limit).await.map_err(|error| AskError::Refused(error.to_string()))
    }

    /// The one entry whose id begins so.
    pub async fn find(&mut self, beginning: &str) -> Result<Detail, AskError> {
        if let Ok(id) = beginning.parse::<TxId>() {
            return self.get(id).await;
        }
        let filter = Filter { id: Some(beginning.to_owned()), ..Filter::default() };
        let (mut found, mut next) = (Vec::new(), Some(Cursor::default()));
        while let Some(place) = next.filter(|_| found.len() < 2) {
            let page = self.page(&filter, place, 2).await?;
            found.extend(page.entries);
            next = page.next;
        }
        match (found.len(), found.pop()) {
            (1, Some(entry)) => self.get(entry.id).await,
            (0, _) => Err(AskError::Refused(format!("no payment begins with {beginning:?}"))),
            _ => Err(AskError::Refused(format!("several payments begin with {beginning:?}"))),
        }
    }

    async fn get(&mut self, id: TxId) -> Result<Detail, AskError> {
        if self.stored.is_none() {
            match self.operator.get(&format!("/payments/{id}")) {
                Err(AskError::NotRunning(..)) if !self.answered => self.open().await?,
                asked => return asked,
            }
        }
        let Some(stored) = &self.stored else { unreachable!("opened, or an error was returned") };
        let found = ledger::find(stored.as_ref(), id).await.map_err(|error| AskError::Refused(error.to_string()))?;
        found.ok_or_else(|| AskError::Refused("there is no such payment".to_owned()))
    }

    async fn open(&mut self) -> Result<(), AskError> {
        self.stored = Some(self.operator.stored().await?);
        Ok(())
    }
}

/// Numbers, words and ids: what of a filter is set, as the admin listener reads it.
fn pairs(filter: &Filter, after: Cursor, limit: usize) -> Vec<(&'static str, String)> {
    let Filter { since, until, route, payer, state, scheme, id } = filter;
    let set = [
        ("since", since.map(|at| at.0.to_string())),
        ("until", until.map(|at| at.0.to_string())),
        ("route", route.clone()),
        ("payer", payer.clone()),
        ("state", state.map(|state| state.as_str().to_owned())),
        ("scheme", scheme.map(|scheme| scheme.as_str().to_owned())),
        ("id", id.clone()),
        ("after", Some(after.to_string())),
        ("limit", Some(limit.to_string())),
    ];
    set.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
