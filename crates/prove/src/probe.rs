//! The attempts.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;

use crate::{
    client::{Answer, Client, ProveError},
    compare::{difference, without},
    operations::Operation,
    report::{Leak, Report},
    targets::Targets,
    world::{ROUTES, WORD, World},
};

/// What identifiers stand for in queries.
fn named(targets: &Targets) -> [(&'static str, &str); 5] {
    [
        ("apiId", &targets.active),
        ("applicationId", &targets.application),
        ("actor", &targets.user),
        ("target", &targets.active),
        ("owner", &targets.tenant),
    ]
}

const PATIENCE: Duration = Duration::from_secs(30);

/// Tries, and keeps count.
pub(crate) struct Prober<'world> {
    world: &'world World,
    operations: &'world [Operation],
    /// Pairs of what is there and what is not: all of one tenant, and mixed with what the other one has itself.
    pairs: Vec<(Targets, Targets)>,
    report: Report,
}

impl<'world> Prober<'world> {
    pub(crate) fn new(world: &'world World, operations: &'world [Operation]) -> Self {
        let there = &world.targets;
        let own_application = |targets: Targets| Targets {
            application: world.other_application.clone(),
            unsubscribed: world.other_application.clone(),
            ..targets
        };
        let own_api = |targets: Targets| Targets {
            active: world.other_api.clone(),
            reviewed: world.other_api.clone(),
            ..targets
        };
        let pairs = vec![
            (there.clone(), there.absent()),
            (own_application(there.clone()), own_application(there.absent())),
            (own_api(there.clone()), own_api(there.absent())),
        ];
        let report = Report { operations: operations.len(), ..Report::default() };
        Self { world, operations, pairs, report }
    }

    pub(crate) fn report(self) -> Report {
        self.report
    }

    /// That attempts mean something: somebody to whom the things belong is let through, where anybody is.
    pub(crate) async fn check_attempts(&self) -> Result<(), ProveError> {
        let targets = &self.world.targets;
        for operation in self.operations.iter().filter(|operation| operation.names_something()) {
            let mut refused = None;
            let mut is_let_through = false;
            for (_, person) in &self.world.own_people {
                let answer = operation.ask(person, targets, &[]).await?;
                match answer.status {
                    200..300 | 409 => is_let_through = true,
                    403 => {}
                    _ => refused = Some(answer),
                }
            }
            if let (false, Some(answer)) = (is_let_through, refused) {
                let (operation, status) = (operation.name.clone(), answer.status);
                return Err(ProveError::Vain { operation, status, body: answer.beginning() });
            }
        }
        Ok(())
    }

    /// Tries every operation as one person.
    pub(crate) async fn walk(&mut self, role: &str, person: &Client) -> Result<(), ProveError> {
        for operation in self.operations {
            if operation.method == Method::GET && !operation.path.contains('{') {
                self.look(role, person, operation).await?;
            }
            if operation.names_something() {
                for (there, absent) in &self.pairs.clone() {
                    // With one's own things there may be nothing left to ask for.
                    if operation.request(there) == operation.request(absent) {
                        continue;
                    }
                    self.compare(role, person, operation, (there, &[]), (absent, &[])).await?;
                }
            }
            let (there, absent) = self.pairs[0].clone();
            for (one, other) in named(&there).into_iter().zip(named(&absent)) {
                if operation.queries.iter().any(|known| known == one.0) {
                    let (one, other) = ([one], [other]);
                    self.compare(role, person, operation, (&there, &one), (&absent, &other))
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Reads what is answered without naming anybody: nothing in it may be the other tenant's.
    async fn look(
        &mut self,
        role: &str,
        person: &Client,
        operation: &Operation,
    ) -> Result<(), ProveError> {
        let mut queries = vec![("limit", "200")];
        queries.retain(|(name, _)| operation.queries.iter().any(|known| known == name));
        if operation.queries.iter().any(|known| known == "query") {
            queries.push(("query", WORD));
        }
        self.report.count(role);
        let answer = operation.ask(person, &self.world.targets, &queries).await?;
        // The word that was searched for may be repeated; identifiers may not.
        let asked: &[&str] =
            if queries.iter().any(|(name, _)| *name == "query") { &[WORD] } else { &[] };
        let body = without(&answer.body, asked);
        let learnt = self.world.targets.ids().into_iter().chain([WORD.to_owned()]);
        for word in learnt.filter(|word| body.to_lowercase().contains(&word.to_lowercase())) {
            self.leak(role, operation, &queries, format!("{word} stands in the answer"));
        }
        let json = answer.json();
        let (items, total) = (&json["items"], &json["pagination"]["totalItems"]);
        if let (Some(items), Some(total)) = (items.as_array(), total.as_u64())
            && u64::try_from(items.len()) != Ok(total)
        {
            let learnt = format!("it counts {total} and shows {}", items.len());
            self.leak(role, operation, &queries, learnt);
        }
        Ok(())
    }

    /// Asks for what is there and for what is not.
    async fn compare(
        &mut self,
        role: &str,
        person: &Client,
        operation: &Operation,
        (there, known_query): (&Targets, &[(&str, &str)]),
        (absent, absent_query): (&Targets, &[(&str, &str)]),
    ) -> Result<(), ProveError> {
        self.report.count(role);
        let known = operation.ask(person, there, known_query).await?;
        let nothing = operation.ask(person, absent, absent_query).await?;
        let (ids, absent_ids) = (there.ids(), absent.ids());
        if let Some(learnt) = difference((&known, &ids), (&nothing, &absent_ids)) {
            self.leak(role, operation, known_query, learnt);
        }
        Ok(())
    }

    /// Calls the gateway where the first tenant's API is, and where nothing is.
    pub(crate) async fn call(&mut self, gateway: &Client) -> Result<(), ProveError> {
        let [there, absent] = ROUTES.map(|route| format!("{route}/records/1"));
        let began = Instant::now();
        while gateway.call(&there, Some(&self.world.own_key)).await?.status == 404 {
            if began.elapsed() > PATIENCE {
                return Err(ProveError::Missing("the first tenant's API at the gateway"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut nonsense = self.world.own_key.clone();
        nonsense.replace_range(nonsense.len() - 4.., "0000");
        let keys = [None, Some("nonsense"), Some(nonsense.as_str()), Some(&self.world.other_key)];
        for (name, key) in ["no key", "nonsense", "a key of nobody", "its own key"].iter().zip(keys)
        {
            self.report.count("gateway");
            let known = gateway.call(&there, key).await?;
            let nothing = gateway.call(&absent, key).await?;
            let learnt = difference((&known, &[ROUTES[0]]), (&nothing, &[ROUTES[1]]));
            if let Some(learnt) = learnt {
                let (role, operation) = ("gateway".to_owned(), "GET".to_owned());
                let asked = format!("{there} with {name}");
                self.report.leaks.push(Leak { role, operation, asked, learnt });
            }
        }
        Ok(())
    }

    fn leak(
        &mut self,
        role: &str,
        operation: &Operation,
        queries: &[(&str, &str)],
        learnt: String,
    ) {
        let queries = queries.iter().map(|(name, value)| format!(" {name}={value}"));
        let asked =
            format!("{} {}{}", operation.method, operation.path, queries.collect::<String>());
        let (role, operation) = (role.to_owned(), operation.name.clone());
        self.report.leaks.push(Leak { role, operation, asked, learnt });
    }
}

impl Operation {
    /// Whether a request names something that belongs to somebody, and can be tried without consequences.
    fn names_something(&self) -> bool {
        let is_harmless = self.method == Method::GET || self.has_dry_run;
        let there = Targets { active: "1".to_owned(), ..Targets::default() };
        let names_in_body = there.body(&self.name) != Targets::default().body(&self.name);
        !self.is_public && is_harmless && (self.path.contains('{') || names_in_body)
    }

    /// The path and the body.
    fn request(&self, targets: &Targets) -> (String, Option<Value>) {
        let body = if self.has_json_body { targets.body(&self.name) } else { None };
        (targets.path(&self.name, &self.path), body)
    }

    async fn ask(
        &self,
        person: &Client,
        targets: &Targets,
        queries: &[(&str, &str)],
    ) -> Result<Answer, ProveError> {
        let (mut path, body) = self.request(targets);
        let dry = self.has_dry_run.then_some(("dryRun", "true"));
        for (index, (name, value)) in queries.iter().copied().chain(dry).enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            path = format!("{path}{separator}{name}={value}");
        }
        person.ask(&self.method, &path, body.as_ref()).await
    }
}
