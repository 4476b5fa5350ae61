//! `caduceus plan`, `apply`, `sync` and `dump`: an installation as one file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use desired::{
    Applied, Change, Client, Desired, Invitation, Plan, Removal, Source, Specifications, State,
    Step,
};
use serde::Serialize;

use crate::{
    connect::ConnectArgs,
    output::{Colour, Output, Table},
    progress::Progress,
    serve,
};

/// Arguments of `caduceus plan`.
#[derive(Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Show also what `sync --prune` would take away.
    #[arg(long)]
    prune: bool,
}

/// Arguments of `caduceus apply`.
#[derive(Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    input: InputArgs,
    /// File that the one-time tokens of invited people are added to, readable for you alone.
    #[arg(long, value_name = "FILE")]
    invitations: Option<PathBuf>,
}

/// Arguments of `caduceus sync`.
#[derive(Args)]
pub(crate) struct SyncArgs {
    #[command(flatten)]
    apply: ApplyArgs,
    /// Take away what the file does not name, within the sections that it has.
    #[arg(long, required = true)]
    prune: bool,
    /// Take away without asking.
    #[arg(short, long)]
    yes: bool,
}

/// Arguments of `caduceus dump`.
#[derive(Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// File to write, instead of standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Write specifications into files of their own, in a folder `specifications` beside the file.
    #[arg(long, requires = "to")]
    split: bool,
}

/// What is read, and how results are written.
#[derive(Args)]
struct InputArgs {
    /// The file, or - for standard input.
    file: PathBuf,
    /// How results are written.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 256 * 1024 * 1024;

/// `caduceus plan`: exits 0 when there is nothing to do, 1 when there is, 2 when that could not be found out.
pub(crate) fn plan(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let Some(desired) = read(&args.input.file)? else { return Ok(ExitCode::from(2)) };
    let removal = if args.prune { Removal::Prune } else { Removal::Keep };
    serve::runtime()?.block_on(async {
        let client = args.input.connect.sign_in().await?;
        let plan = compare(&client, &desired, removal).await?;
        let mut out = io::stdout().lock();
        match args.input.output {
            Output::Table => show(&plan, &mut out)?,
            output => output.write(&mut out, &plan)?,
        }
        Ok(if plan.is_settled() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    })
}

/// `caduceus apply`: exits 0 when all is as the file says, 1 when something waits or was refused.
pub(crate) fn apply(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let Some(desired) = read(&args.input.file)? else { return Ok(ExitCode::from(2)) };
    serve::runtime()?.block_on(bring_about(args, &desired, Removal::Keep, |_| Ok(())))
}

/// `caduceus sync --prune`: as `apply`, and takes away what the file does not name.
pub(crate) fn sync(args: &SyncArgs) -> anyhow::Result<ExitCode> {
    let Some(desired) = read(&args.apply.input.file)? else { return Ok(ExitCode::from(2)) };
    let removal = if args.prune { Removal::Prune } else { Removal::Keep };
    serve::runtime()?.block_on(bring_about(&args.apply, &desired, removal, |plan| {
        if args.yes || plan.removals() == 0 { Ok(()) } else { ask(plan.removals()) }
    }))
}

/// `caduceus dump`: writes what is there as a file.
pub(crate) fn dump(args: &DumpArgs) -> anyhow::Result<ExitCode> {
    let specifications = if args.split { Specifications::Beside } else { Specifications::Inside };
    let (text, files) = serve::runtime()?.block_on(async {
        let client = args.connect.sign_in().await?;
        let state = State::read(&client).await?;
        anyhow::Ok(desired::write(&client, &state, specifications).await?)
    })?;
    let Some(path) = &args.to else {
        io::stdout().lock().write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    };
    let folder = folder_of(path);
    for (name, text) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("{} cannot be made", parent.display()))?;
        }
        write_file(&path, &text)?;
    }
    write_file(path, &text)?;
    Ok(ExitCode::SUCCESS)
}

/// `caduceus schema`: the JSON Schema of the file.
pub(crate) fn schema() -> anyhow::Result<ExitCode> {
    io::stdout().lock().write_all(desired::schema().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn compare(client: &Client, desired: &Desired, removal: Removal) -> anyhow::Result<Plan> {
    let mut state = State::read(client).await?;
    Ok(Plan::of(client, &mut state, desired, removal).await?)
}

async fn bring_about(
    args: &ApplyArgs,
    desired: &Desired,
    removal: Removal,
    agree: impl FnOnce(&Plan) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let client = args.input.connect.sign_in().await?;
    let plan = compare(&client, desired, removal).await?;
    let is_table = args.input.output == Output::Table;
    if is_table {
        show(&plan, &mut io::stdout().lock())?;
    }
    if !plan.impossible.is_empty() {
        if !is_table {
            args.input.output.write(&mut io::stdout().lock(), &Outcome::of(&plan, None))?;
        }
        complain("nothing was changed, because something cannot be done");
        return Ok(ExitCode::from(1));
    }
    let mut invitations = match (&args.invitations, plan.invitations()) {
        (Some(path), _) => Some(invitation_file(path)?),
        (None, 0) => None,
        (None, people) => bail!(
            "{people} people would be invited: say --invitations FILE, where their one-time tokens are kept for you"
        ),
    };
    agree(&plan)?;
    let progress = Progress::new(plan.steps.len());
    let mut done = 0;
    let mut lost = None;
    let applied = desired::apply(&client, &plan, |step: &Step, invitation| {
        done += 1;
        progress.show(done, &step.subject);
        if let (Some(Invitation { email, token }), Some(file)) = (invitation, &mut invitations)
            && let Err(error) = writeln!(file, "{email} {}", token.as_str())
        {
            lost = Some(error);
        }
    })
    .await;
    progress.clear();
    let applied = applied.with_context(|| format!("it stopped after {done} steps"))?;
    if let Some(error) = lost {
        return Err(error)
            .context("an invitation could not be kept; remove the account and apply again");
    }
    let mut out = io::stdout().lock();
    if is_table {
        summarise(&plan, &applied, &mut out)?;
    } else {
        args.input.output.write(&mut out, &Outcome::of(&plan, Some(&applied)))?;
    }
    let is_all = plan.waiting.is_empty() && applied.failed.is_empty();
    Ok(if is_all { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What became of a plan, for programs.
#[derive(Serialize)]
struct Outcome<'o> {
    #[serde(flatten)]
    plan: &'o Plan,
    applied: Option<&'o Applied>,
}

impl<'o> Outcome<'o> {
    const fn of(plan: &'o Plan, applied: Option<&'o Applied>) -> Self {
        Self { plan, applied }
    }
}

/// Reads the file; says what is wrong with it, and gives nothing then.
fn read(path: &Path) -> anyhow::Result<Option<Desired>> {
    let is_standard_input = path.as_os_str() == "-";
    let mut bytes = Vec::new();
    let read = if is_standard_input {
        io::stdin().lock().take(FILE_MAX + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("{} cannot be read", path.display()))?;
    let source = Source {
        name: path.display().to_string(),
        folder: if is_standard_input { PathBuf::from(".") } else { folder_of(path) },
        bytes,
    };
    match desired::read(&source, config::variable) {
        Ok(desired) => Ok(Some(desired)),
        Err(mistakes) => {
            for mistake in mistakes {
                complain(&mistake.to_string());
            }
            Ok(None)
        }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

/// Writes a file as a whole or not at all.
fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let context = || format!("{} cannot be written", path.display());
    let mut name = path.file_name().with_context(context)?.to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    fs::write(&fresh, text).with_context(context)?;
    fs::rename(&fresh, path).with_context(context)
}

fn invitation_file(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    file.with_context(|| format!("{} cannot be written", path.display()))
}

fn ask(removals: usize) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("{removals} things would be taken away: say --yes");
    }
    write!(io::stderr(), "Take away {removals} things? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was changed");
    }
    Ok(())
}

fn show(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::default();
    for step in &plan.steps {
        let (colour, word) = word_of(step.change);
        table.row(colour, word, step.subject.as_str());
        for difference in &step.differences {
            table.row(Colour::Plain, "", format!("  {difference}"));
        }
    }
    for obstacle in &plan.waiting {
        table.row(Colour::Yellow, "waits", format!("{}: {}", obstacle.subject, obstacle.reason));
    }
    for obstacle in &plan.impossible {
        table.row(Colour::Red, "cannot", format!("{}: {}", obstacle.subject, obstacle.reason));
    }
    for section in &plan.hidden {
        table.row(
            Colour::Plain,
            "hidden",
            format!("{section}: your roles do not let you see them"),
        );
    }
    table.write(out)?;
    if plan.is_settled() {
        return writeln!(out, "All is as the file says.");
    }
    let (steps, removals) = (plan.steps.len(), plan.removals());
    write!(out, "{steps} to do, {removals} of them to take away or end")?;
    if !plan.waiting.is_empty() {
        write!(out, "; {} for somebody else to do first", plan.waiting.len())?;
    }
    if !plan.impossible.is_empty() {
        write!(out, "; {} cannot be done", plan.impossible.len())?;
    }
    writeln!(out, ".")
}

fn summarise(plan: &Plan, applied: &Applied, out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::default();
    for obstacle in &applied.failed {
        table.row(Colour::Red, "failed", format!("{}: {}", obstacle.subject, obstacle.reason));
    }
    table.write(out)?;
    write!(out, "{} done", applied.done)?;
    if !applied.failed.is_empty() {
        write!(out, ", {} failed", applied.failed.len())?;
    }
    if !plan.waiting.is_empty() {
        write!(out, ", {} waiting for somebody else", plan.waiting.len())?;
    }
    writeln!(out, ".")
}

const fn word_of(change: Change) -> (Colour, &'static str) {
    match change {
        Change::Create => (Colour::Green, "create"),
        Change::Invite => (Colour::Green, "invite"),
        Change::Submit => (Colour::Green, "submit"),
        Change::Request => (Colour::Green, "request"),
        Change::Approve => (Colour::Green, "approve"),
        Change::Change => (Colour::Yellow, "change"),
        Change::Deprecate => (Colour::Yellow, "deprecate"),
        Change::Suspend => (Colour::Yellow, "suspend"),
        Change::Retire => (Colour::Red, "retire"),
        Change::Cancel => (Colour::Red, "cancel"),
        Change::Remove => (Colour::Red, "remove"),
    }
}

/// Says on standard error what is wrong. Nobody is left to tell when that is closed.
fn complain(message: &str) {
    drop(writeln!(io::stderr(), "error: {message}"));
}
