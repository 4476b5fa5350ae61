//! An installation as one file: compared, brought about, pruned and written back.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Behaviour, Database, Installation, Upstream};

const BINARY: &str = env!("CARGO_BIN_EXE_caduceus");
const PASSWORD: &str = "correct horse battery staple";
const ROOT: &str = "root@installation.example";
const SECOND: &str = "second@installation.example";

/// Somebody at a terminal.
struct Operator {
    server: SocketAddr,
    user: &'static str,
    upstream: String,
    folder: TempDir,
}

/// What a command said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    error: String,
}

impl Operator {
    fn new(installation: &Installation, user: &'static str, upstream: &str) -> Self {
        let server = installation.anonymous().address();
        let folder = tempfile::tempdir().unwrap();
        Self { server, user, upstream: upstream.to_owned(), folder }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("CADUCEUS_SERVER", format!("http://{}", self.server))
            .env("CADUCEUS_USER", self.user)
            .env("CADUCEUS_PASSWORD", PASSWORD)
            .env("UPSTREAM", &self.upstream);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, "").await
    }

    async fn run_with(&self, arguments: &[&str], input: &str) -> Said {
        let (mut command, input) = (self.command(arguments), input.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // It may end before it has read all of it.
            drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
            let output = child.wait_with_output().unwrap();
            Said {
                code: output.status.code(),
                out: String::from_utf8(output.stdout).unwrap(),
                error: String::from_utf8(output.stderr).unwrap(),
            }
        })
        .await
        .unwrap()
    }
}

impl Said {
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.error);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

/// How many subjects of a list of steps or obstacles contain a text.
fn about(list: &Value, text: &str) -> usize {
    let list = list.as_array().unwrap();
    list.iter().filter(|one| one["subject"].as_str().unwrap().contains(text)).count()
}

const SPECIFICATION: &str = "\
openapi: 3.1.0
# A comment, and ${env:NOBODY}: documents out of files are taken as they are.
info: {title: Beds, version: '1'}
paths:
  /ward: {get: {operationId: ward, responses: {'200': {description: OK}}}}
";

/// Two organisations. Written as people write: in other words than the installation says the same in.
const FILE: &str = r#"
caduceus: 1
settings: {name: County, supportEmail: help@county.example, usageRetentionDays: 90}
categories:
  operations: {name: Operations, description: What keeps a house going}
tenants:
  installation:
    name: The Installation
    people:
      root@installation.example: {name: Root, roles: [platform-admin, tenant-admin]}
      second@installation.example: {name: Second, roles: [platform-admin, reviewer]}
  hospital:
    name: County Hospital
    people:
      Provider@Hospital.example: {name: Provider, roles: [provider]}
    apis:
      Bed Occupancy:
        owner: Ward office
        contactEmail: ward@hospital.example
        description: "Costs $${env:PRICE}, not ${env:UPSTREAM}."
        visibility: restricted
        visibleTo: [lab]
        categories: [operations]
        versions:
          1.0.0: {specification: "${file:beds.yaml}", status: deprecated, successor: 2.0.0, sunsetAt: 2099-01-01T00:00:00Z}
          2.0.0:
            specification:
              openapi: 3.1.0
              info: {title: Beds, version: '2'}
              paths: {}
        plans:
          Standard: {limits: [{name: minute, per: application, requests: 600, windowSeconds: 60}], approval: owner}
          Open: {approval: automatic, quota: {requests: 1000, period: day}}
        deployments:
          - route: {pathPrefix: /beds/v1, stripPrefix: true}
            version: 1.0.0
            upstream: {targets: [{url: "${env:UPSTREAM}/"}], timeoutSeconds: 5}
          - route: {host: beds.hospital.example, pathPrefix: /beds}
            version: 2.0.0
            upstream: {targets: [{url: "${env:UPSTREAM}"}], healthCheck: {path: /}}
            cors: {allowedOrigins: ["https://app.example"]}
  lab:
    name: Lab
    applications:
      Ward board:
        description: Shows free beds
        subscriptions:
          - {api: hospital/Bed Occupancy, version: 1.0.0, plan: Standard, purposeOfUse: TREAT}
          - {api: hospital/Bed Occupancy, version: 2.0.0, plan: Open}
"#;

/// The installation that the file describes, brought about by two people.
async fn grown(database: Database) -> (Installation, Operator, Upstream) {
    let installation = Installation::start(BINARY, database).await;
    let upstream = Upstream::start("beds", Behaviour::Healthy).await;
    let first = Operator::new(&installation, ROOT, &upstream.url());
    first.write("beds.yaml", SPECIFICATION);
    first.write("county.yaml", FILE);
    first.run(&["apply", "county.yaml", "--invitations", "invited"]).await.exits(1);
    let invited = first.read("invited");
    let line = invited.lines().find(|line| line.starts_with(SECOND)).unwrap();
    let (_, token) = line.split_once(' ').unwrap();
    let body = json!({ "token": token, "password": PASSWORD });
    installation.anonymous().post("/auth/accept-invitation", &body).await.ok();
    let second = Operator { user: SECOND, ..first };
    second.run(&["apply", "county.yaml"]).await.exits(0);
    (installation, second, upstream)
}

testkit::on_both_databases! {
    async fn an_installation_grows_out_of_a_file_and_comes_back_as_one(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let upstream = Upstream::start("beds", Behaviour::Healthy).await;
        let first = Operator::new(&installation, ROOT, &upstream.url());
        first.write("beds.yaml", SPECIFICATION);
        first.write("county.yaml", FILE);

        let plan = first.run(&["plan", "county.yaml", "-o", "json"]).await.exits(1).json();
        assert_eq!(plan["impossible"], json!([]));
        assert_eq!(about(&plan["steps"], "organisation"), 2, "{plan}");
        // Nobody may approve what they hand in.
        assert_eq!(about(&plan["waiting"], "version"), 2, "{plan}");
        assert_eq!(about(&plan["waiting"], "subscription"), 2, "{plan}");
        let refused = first.run(&["apply", "county.yaml"]).await.exits(2);
        assert!(refused.error.contains("2 people would be invited"), "{}", refused.error);
        assert_eq!(installation.admin().get("/admin/tenants").await.total(), 1);

        let applied = first.run(&["apply", "county.yaml", "--invitations", "invited"]).await.exits(1);
        assert!(!applied.out.contains("failed"), "{applied:?}");
        let mode = first.folder.path().join("invited").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = first.run(&["plan", "county.yaml", "-o", "json"]).await.exits(1).json();
        assert_eq!(again["steps"], json!([]), "the same said in other words is the same");

        let invited = first.read("invited");
        let token = invited.lines().find_map(|line| line.strip_prefix(SECOND)).unwrap().trim();
        let body = json!({ "token": token, "password": PASSWORD });
        installation.anonymous().post("/auth/accept-invitation", &body).await.ok();
        let second = Operator { user: SECOND, ..first };
        let plan = second.run(&["plan", "county.yaml", "-o", "json"]).await.exits(1).json();
        assert_eq!(plan["waiting"], json!([]), "{plan}");
        second.run(&["apply", "county.yaml"]).await.exits(0);
        let settled = second.run(&["plan", "county.yaml"]).await.exits(0);
        assert_eq!(settled.out, "All is as the file says.\n");

        let api = installation.admin().get("/apis").await.items().remove(0);
        let upstream_url = upstream.url();
        assert_eq!(api["description"], format!("Costs ${{env:PRICE}}, not {upstream_url}."));
        let of_first = format!("/apis/{}/specification?version=1.0.0", api["id"].as_str().unwrap());
        assert_eq!(installation.admin().get(&of_first).await.text(), SPECIFICATION);

        // What was brought about serves calls.
        let application = installation.admin().get("/applications").await.items().remove(0);
        let path = format!("/applications/{}/credentials", application["id"].as_str().unwrap());
        let key = installation.admin().post(&path, &json!({ "type": "api_key" })).await.created();
        installation.settled().await;
        let call = installation.gateway().get("/beds/v1/ward");
        call.header("x-api-key", key["apiKey"].as_str().unwrap()).await.ok();

        let dump = second.run(&["dump"]).await.exits(0).out;
        assert_eq!(second.run(&["dump"]).await.exits(0).out, dump, "the same bytes each time");
        second.write("dump.yaml", &dump);
        second.run(&["plan", "dump.yaml", "--prune"]).await.exits(0);
        let applied = second.run(&["apply", "dump.yaml", "-o", "json"]).await.exits(0).json();
        assert_eq!(applied["applied"]["done"], 0);
        assert_eq!(second.run(&["dump"]).await.exits(0).out, dump, "applying it changes nothing");
        second.run(&["dump", "--to", "split.yaml", "--split"]).await.exits(0);
        second.run(&["plan", "split.yaml", "--prune"]).await.exits(0);
        let kept = "specifications/hospital/bed-occupancy-1.0.0.yaml";
        assert_eq!(second.read(kept), SPECIFICATION);
        let from_input = second.run_with(&["plan", "-", "-o", "yaml"], &dump).await.exits(0);
        assert!(from_input.out.starts_with("steps: []\n"), "{}", from_input.out);
    }

    async fn changes_are_shown_and_what_cannot_be_done_changes_nothing(database: Database) {
        let (installation, operator, _upstream) = grown(database).await;
        let changed = FILE
            .replace("requests: 600", "requests: 900")
            .replace("timeoutSeconds: 5", "timeoutSeconds: 7.5")
            .replace("usageRetentionDays: 90", "usageRetentionDays: 91");
        operator.write("county.yaml", &changed);
        let plan = operator.run(&["plan", "county.yaml"]).await.exits(1).out;
        for line in [
            "change  settings\n",
            "  usageRetentionDays: 90 → 91\n",
            "change  plan Standard of hospital/Bed Occupancy\n",
            "  limits[0].burst: 600 → 900\n",
            "  limits[0].requests: 600 → 900\n",
            "change  deployment /beds/v1 of hospital/Bed Occupancy\n",
            "  upstream.timeoutSeconds: 5.0 → 7.5\n",
            "3 to do, 0 of them to take away or end.\n",
        ] {
            assert!(plan.contains(line), "{line:?} is missing in\n{plan}");
        }
        operator.run(&["apply", "county.yaml"]).await.exits(0);
        operator.run(&["plan", "county.yaml"]).await.exits(0);

        // One thing that cannot be done holds back all others.
        operator.write("beds.yaml", &SPECIFICATION.replace("'1'", "'1.1'"));
        let impossible = changed
            .replace("requests: 900", "requests: 1000")
            .replace("plan: Open", "plan: Standard")
            .replace("visibleTo: [lab]", "visibleTo: [laboratory]");
        operator.write("county.yaml", &impossible);
        let refused = operator.run(&["apply", "county.yaml"]).await.exits(1);
        for line in [
            "was approved with another specification",
            "was agreed on other terms",
            "visibleTo names laboratory, which is no organisation",
        ] {
            assert!(refused.out.contains(line), "{line:?} is missing in\n{}", refused.out);
        }
        assert!(refused.error.contains("nothing was changed"), "{}", refused.error);
        let api = installation.admin().get("/apis").await.items().remove(0);
        let plans = format!("/plans?apiId={}", api["id"].as_str().unwrap());
        let plans = installation.admin().get(&plans).await.items();
        let standard = plans.iter().find(|plan| plan["name"] == "Standard").unwrap();
        assert_eq!(standard["limits"][0]["requests"], 900);
    }

    async fn sync_takes_away_what_the_sections_of_the_file_do_not_name(database: Database) {
        let (installation, operator, _upstream) = grown(database).await;
        let other = installation.tenant("clinic").await;
        other.register("Left alone", &json!({})).await;
        let category = json!({ "slug": "old", "name": "Old" });
        installation.admin().post("/admin/categories", &category).await.created();

        let smaller = FILE
            .replace("          - {api: hospital/Bed Occupancy, version: 2.0.0, plan: Open}\n", "")
            .replace("          - route: {host: beds.hospital.example, pathPrefix: /beds}\n            version: 2.0.0\n            upstream: {targets: [{url: \"${env:UPSTREAM}\"}], healthCheck: {path: /}}\n            cors: {allowedOrigins: [\"https://app.example\"]}\n", "")
            .replace("      Provider@Hospital.example: {name: Provider, roles: [provider]}\n", "      {}\n");
        operator.write("county.yaml", &smaller);
        operator.run(&["plan", "county.yaml"]).await.exits(0);
        let plan = operator.run(&["plan", "county.yaml", "--prune", "-o", "json"]).await.exits(1).json();
        let subjects: Vec<_> =
            plan["steps"].as_array().unwrap().iter().map(|step| step["subject"].as_str().unwrap()).collect();
        assert_eq!(
            subjects,
            [
                "subscription of lab/Ward board to Bed Occupancy 2.0.0",
                "deployment beds.hospital.example/beds of hospital/Bed Occupancy",
                "category old",
                "account provider@hospital.example of hospital",
            ]
        );
        operator.run(&["sync", "county.yaml"]).await.exits(2);
        let unasked = operator.run(&["sync", "--prune", "county.yaml"]).await.exits(2);
        assert!(unasked.error.contains("say --yes"), "{}", unasked.error);
        operator.run(&["sync", "--prune", "--yes", "county.yaml"]).await.exits(0);
        operator.run(&["plan", "county.yaml", "--prune"]).await.exits(0);
        // Organisations that the file does not name are left alone.
        assert_eq!(other.provider().get("/apis?owner=clinic").await.total(), 1);
        assert_eq!(installation.admin().get("/admin/users").await.total(), 7);
    }

    async fn a_provider_and_a_consumer_look_after_what_is_theirs(database: Database) {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let _lab = installation.tenant("lab").await;
        let api = hospital.publish("Beds", &json!({})).await;
        hospital.offer_plan(&api, &json!({})).await;

        let provider = Operator::new(&installation, "provider@hospital.example", "");
        let dump = provider.run(&["dump"]).await.exits(0).out;
        assert!(dump.contains("      Beds:\n") && !dump.contains("people:"), "{dump}");
        provider.write("dump.yaml", &dump.replace("Appointments of a clinic.", "Appointments."));
        let plan = provider.run(&["plan", "dump.yaml"]).await.exits(1).out;
        assert!(plan.contains("description: Appointments of a clinic. → Appointments."), "{plan}");
        provider.run(&["apply", "dump.yaml"]).await.exits(0);

        // Each does what their role is for, with the same file.
        let second = "
caduceus: 1
tenants:
  hospital:
    name: Tenant hospital
    apis:
      Wards:
        owner: Ward office
        contactEmail: ward@hospital.example
        versions: {1.0.0: {specification: {openapi: 3.1.0, info: {title: Wards, version: '1'}, paths: {}}}}
        plans: {Open: {approval: automatic}}
        deployments:
          - {route: {pathPrefix: /wards}, version: 1.0.0, upstream: {targets: [{url: 'http://127.0.0.1:9'}]}}
    applications: {Board: {subscriptions: [{api: hospital/Wards, version: 1.0.0, plan: Open}]}}
";
        provider.write("wards.yaml", second);
        let applied = provider.run(&["apply", "wards.yaml", "-o", "json"]).await.exits(1).json();
        assert_eq!((&applied["applied"]["done"], &applied["applied"]["failed"]), (&json!(2), &json!([])));
        assert_eq!(applied["hidden"], json!(["people", "applications"]));
        let reviewer = Operator { user: "reviewer@hospital.example", ..provider };
        let applied = reviewer.run(&["apply", "wards.yaml", "-o", "json"]).await.exits(1).json();
        assert_eq!((&applied["applied"]["done"], about(&applied["waiting"], "deployment")), (&json!(1), 1));
        let reason = applied["waiting"][0]["reason"].as_str().unwrap();
        assert!(reason.starts_with("your roles do not allow it"), "{reason}");
        let provider = Operator { user: "provider@hospital.example", ..reviewer };
        provider.run(&["apply", "wards.yaml"]).await.exits(0);
        let consumer = Operator { user: "consumer@hospital.example", ..provider };
        consumer.run(&["apply", "wards.yaml"]).await.exits(0);
        let administrator = Operator { user: "tenant-admin@hospital.example", ..consumer };
        administrator.run(&["plan", "wards.yaml"]).await.exits(0);

        let consumer = Operator::new(&installation, "consumer@lab.example", "");
        consumer.write("lab.yaml", "
caduceus: 1
tenants:
  lab:
    name: Tenant lab
    applications:
      Board:
        subscriptions: [{api: hospital/Beds, version: 1.0.0, plan: Open}]
");
        consumer.run(&["apply", "lab.yaml"]).await.exits(0);
        consumer.run(&["plan", "lab.yaml"]).await.exits(0);
        let dump = consumer.run(&["dump"]).await.exits(0).out;
        assert!(dump.contains(&format!("api: {}", api.id)), "the owner's slug is not known\n{dump}");
        consumer.write("dump.yaml", &dump);
        consumer.run(&["plan", "dump.yaml"]).await.exits(0);

        consumer.write("alien.yaml", "caduceus: 1\ntenants: {hospital: {name: Mine now}}\n");
        let refused = consumer.run(&["apply", "alien.yaml"]).await.exits(1);
        assert!(refused.out.contains("organisation hospital: is not there, or not yours"), "{}", refused.out);
    }
}

#[tokio::test]
async fn mistakes_are_told_before_anything_is_asked() {
    let nobody = Operator {
        server: nowhere(),
        user: ROOT,
        upstream: String::new(),
        folder: tempfile::tempdir().unwrap(),
    };
    nobody.write("bad.yaml", "caduceus: 1\ntenant:\n  lab: {name: Lab}\nsettings: {nam: X}\n");
    let said = nobody.run(&["apply", "bad.yaml"]).await.exits(2);
    assert_eq!(
        said.error,
        "error: bad.yaml:2:1: tenant: unknown field `tenant`; did you mean `tenants`?\n\
         error: bad.yaml:4:12: settings.nam: unknown field `nam`; did you mean `name`?\n"
    );
    nobody.write("fine.yaml", "caduceus: 1\n");
    let said = nobody.run(&["apply", "fine.yaml"]).await.exits(2);
    assert!(said.error.contains("does not answer"), "{}", said.error);
    assert!(!said.error.contains(PASSWORD), "{}", said.error);
    nobody.run(&["plan", "nothing.yaml"]).await.exits(2);

    let mut command = nobody.command(&["dump"]);
    command.env_remove("CADUCEUS_USER");
    let output = command.output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("nobody is signed in"));
}

/// A port that nobody listens on.
fn nowhere() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn the_published_schema_is_that_of_this_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/installation.v1.json");
    let output = Command::new(BINARY).arg("schema").output().unwrap();
    let published = std::fs::read(&path).unwrap();
    assert!(
        published == output.stdout,
        "schema/installation.v1.json is out of date; write it anew with `caduceus schema`"
    );
}
