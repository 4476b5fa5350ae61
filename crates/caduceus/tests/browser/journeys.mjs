// Journeys of people in each role, and a look at every page that they find by following links.
//
// node journeys.mjs DEMO.json FOLDER: DEMO.json is what `caduceus demo --json` prints; screenshots go to FOLDER. The last line
// on standard output is one JSON object: {journeys: [{name, problem?}], faults: [...], clicks, pages, heaviest}.

import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { NARROW, WIDE, folder, openBrowser, openWindow, overflow, violations } from "./browser.mjs";

const demo = JSON.parse(readFileSync(process.argv[2], "utf8"));
const shots = folder(process.argv[3]);
const origin = new URL(demo.portalUrl).origin;
const faults = [];
const journeys = [];
const result = { journeys, faults, clicks: 0, pages: 0, heaviest: { bytes: 0, url: "" } };
const browser = await openBrowser();

function account(role, tenant) {
  return demo.accounts.find((one) => one.role === role && one.tenant === tenant);
}

async function signIn(page, who, from = "/") {
  await page.goto(origin + from);
  await page.getByLabel("E-mail address").fill(who.email);
  await page.getByLabel("Password").fill(who.password);
  await page.getByRole("button", { name: "Sign in" }).click();
}

// What an authenticator app with this secret shows at a time (RFC 6238).
function oneTimeCode(secret, at) {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...secret].map((letter) => letters.indexOf(letter).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(at / 30_000)));
  const tag = createHmac("sha1", key).update(step).digest();
  const number = tag.readUInt32BE(tag[19] & 15) & 0x7fffffff;
  return String(number % 1_000_000).padStart(6, "0");
}

function expect(holds, what) {
  if (!holds) throw new Error(what);
}

async function journey(name, walk) {
  const window = await openWindow(browser, origin, faults);
  try {
    await walk(window.page, window.context);
    journeys.push({ name });
  } catch (error) {
    await window.page.screenshot({ path: join(shots, `failed-${name.replaceAll(" ", "-")}.png`), fullPage: true });
    journeys.push({ name, problem: `${error.message.slice(0, 600)} at ${window.page.url()}` });
  }
  await window.context.close();
}

const consumer = account("consumer", "valley-health");
const owner = account("tenant-admin", "north-clinic");

await journey("from the printed address to a call", async (page) => {
  let clicks = 0;
  const click = async (locator) => {
    clicks += 1;
    await locator.click();
  };
  await page.goto(origin);
  await page.getByLabel("E-mail address").fill(consumer.email);
  await page.getByLabel("Password").fill(consumer.password);
  await click(page.getByRole("button", { name: "Sign in" }));
  await click(page.getByRole("main").getByRole("link", { name: "Clinic Scheduling" }));
  await click(page.getByRole("link", { name: /GET \/slots$/ }));
  await click(page.getByRole("link", { name: "Try it" }));
  await click(page.getByRole("button", { name: "Send" }));
  await page.getByText("200 OK").waitFor();
  await page.screenshot({ path: join(shots, "try-it-answer.png"), fullPage: true });
  result.clicks = clicks;
});

let key = "";
await journey("an application gets a key and asks for access", async (page) => {
  await signIn(page, consumer, "/applications");
  await page.getByLabel("Name", { exact: true }).fill("Night shift planner");
  await page.getByRole("button", { name: "Register" }).click();
  await page.getByText("The application is registered").waitFor();
  await page.getByLabel("Name of a new key").fill("production");
  await page.getByRole("button", { name: "Make a key" }).click();
  key = await page.locator("#secret").textContent();
  expect(/^cad_[0-9A-Za-z]{49}$/.test(key), `a key is shown: ${key}`);
  await page.screenshot({ path: join(shots, "new-key.png"), fullPage: true });
  await page.getByRole("link", { name: "I have stored it" }).click();
  expect(!(await page.content()).includes(key), "the key is shown once");
  await page.goto(`${origin}/catalogue?q=scheduling`);
  await page.getByRole("main").getByRole("link", { name: "Clinic Scheduling" }).click();
  await page.getByRole("link", { name: "Request access" }).first().click();
  await page.getByLabel("Which application").selectOption({ label: "Night shift planner" });
  const plans = page.getByRole("radio");
  for (let at = 0; at < (await plans.count()); at += 1) {
    const label = await plans.nth(at).locator("xpath=..").textContent();
    if (label.includes("The owner decides")) await plans.nth(at).check();
  }
  await page.getByLabel("For what purpose").fill("Planning of night shifts");
  await page.getByRole("main").getByRole("button", { name: "Request access" }).click();
  await page.getByText("Your request is with the owner").waitFor();
  await page.getByText("pending", { exact: true }).waitFor();
});

await journey("the owner rejects only with a reason, and approves", async (page) => {
  await signIn(page, owner);
  await page.getByRole("link", { name: "Decide" }).first().click();
  await page.getByRole("link", { name: "Access to Clinic Scheduling", exact: true }).first().click();
  await page.getByText("Planning of night shifts").waitFor();
  await page.getByRole("button", { name: "Reject" }).click();
  await page.getByText("Say why it is rejected").waitFor();
  await page.screenshot({ path: join(shots, "decision-with-error.png"), fullPage: true });
  await page.getByRole("button", { name: "Approve" }).click();
  await page.getByText("Access is granted").waitFor();
});

await journey("whoever asked is told of the decision", async (page) => {
  await signIn(page, consumer);
  for (let attempt = 0; attempt < 50; attempt += 1) {
    await page.goto(`${origin}/inbox`);
    if ((await page.getByText("Night shift planner").count()) > 0) break;
    await page.waitForTimeout(200);
  }
  await page.screenshot({ path: join(shots, "inbox.png"), fullPage: true });
  await page.getByRole("button", { name: /^Open.*Night shift planner/ }).click();
  await page.getByRole("heading", { name: "Night shift planner" }).waitFor();
  await page.goto(`${origin}/inbox`);
  await page.getByLabel(/access/i).first().selectOption("off");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
});

await journey("the key works, is rotated, and the new one is revoked", async (page) => {
  const sample = demo.samples.find((one) => one.curl.includes("/slots"))?.curl ?? demo.samples[0].curl;
  const url = sample.match(/https?:\/\/[^\s'"]+/)[0];
  const call = async (with_key) => (await fetch(url, { headers: { "X-API-Key": with_key } })).status;
  const until = async (status, with_key) => {
    for (let attempt = 0; attempt < 50 && (await call(with_key)) !== status; attempt += 1) await page.waitForTimeout(100);
    expect((await call(with_key)) === status, `the gateway answers ${status}`);
  };
  await until(200, key);
  await signIn(page, consumer, "/applications");
  await page.getByRole("link", { name: "Night shift planner" }).click();
  await page.getByText("Rotate", { exact: false }).first().click();
  await page.getByLabel("A new key is made").selectOption("0");
  await page.getByRole("button", { name: "Make the new key" }).click();
  const second = await page.locator("#secret").textContent();
  await until(401, key);
  await until(200, second);
  await page.getByRole("link", { name: "I have stored it" }).click();
  await page.locator("tr", { hasText: "active" }).getByText("Revoke", { exact: false }).first().click();
  await page.screenshot({ path: join(shots, "revoke.png"), fullPage: true });
  await page.getByRole("button", { name: "Revoke it" }).first().click();
  await page.getByText("The key is revoked").waitFor();
  await until(401, second);
});

await journey("nothing typed is lost when a session ends", async (page, context) => {
  await signIn(page, consumer, "/applications");
  await page.getByLabel("Name", { exact: true }).fill("Typed before the session ended");
  await context.clearCookies();
  await page.getByRole("button", { name: "Register" }).click();
  await page.getByText("what you typed is kept").waitFor();
  await page.screenshot({ path: join(shots, "session-ended.png"), fullPage: true });
  await page.getByLabel("E-mail address").fill(consumer.email);
  await page.getByLabel("Password").fill(consumer.password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("Welcome back").waitFor();
  await page.getByText("Typed before the session ended").waitFor();
  await page.screenshot({ path: join(shots, "welcome-back.png"), fullPage: true });
  await page.getByRole("button", { name: "Send it now" }).click();
  await page.getByRole("heading", { name: "Typed before the session ended" }).waitFor();
});

await journey("a form that is sent twice counts once", async (page) => {
  await signIn(page, consumer, "/applications");
  await page.getByLabel("Name", { exact: true }).fill("Sent twice");
  const body = await page.locator("form[action='/applications']").evaluate((form) => new URLSearchParams(new FormData(form)).toString());
  const send = () =>
    page.evaluate(async (body) => (await fetch("/applications", { method: "POST", body, headers: { "Content-Type": "application/x-www-form-urlencoded" } })).url, body);
  const [one, other] = await Promise.all([send(), send()]);
  expect(one === other, `both lead to the same application: ${one} ${other}`);
});

await journey("two people who change the same thing", async (page) => {
  await signIn(page, consumer, "/applications");
  await page.getByRole("link", { name: "Sent twice" }).first().click();
  const address = page.url();
  const other = await page.context().newPage();
  await other.goto(address);
  await other.getByLabel("What does it do?").fill("The other was quicker");
  await other.getByRole("button", { name: "Save" }).click();
  await other.getByText("Saved.").waitFor();
  await page.getByLabel("What does it do?").fill("I was slower");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Somebody else has changed this").waitFor();
  await page.getByText("The other was quicker").first().waitFor();
  expect((await page.getByLabel("What does it do?").inputValue()) === "I was slower", "what was typed is still there");
  await page.screenshot({ path: join(shots, "changed-by-another.png"), fullPage: true });
  await page.getByRole("button", { name: "Save mine" }).click();
  await page.getByText("Saved.").waitFor();
  expect((await page.getByLabel("What does it do?").inputValue()) === "I was slower", "mine is saved in its place");
});

const provider = account("provider", "north-clinic");
const reviewer = account("reviewer", "north-clinic");
const specification = `openapi: 3.1.0
info: {title: Ward notes, version: 1.0.0}
paths:
  /notes/{id}:
    get:
      operationId: readNote
      summary: Read a note <script>alert(1)</script>
      parameters: [{name: id, in: path, required: true, schema: {type: string}}]
      responses: {"200": {description: "The **note**. <img src=x onerror=alert(2)>"}}
`;
const hostile = "Ward notes \u05e8\u05d5\u05e4\u05d0 <script>alert(3)</script>";

await journey("a provider registers an API, with mistakes at first", async (page) => {
  await signIn(page, provider, "/publish/new");
  await page.getByLabel("Name", { exact: true }).fill(hostile);
  await page.getByLabel("Version").fill("1.0.0");
  await page.getByLabel("What is it for?").fill("Notes of wards.\n\n<script>alert(4)</script> [click](javascript:alert(5)) ![x](https://evil.example/x.png)");
  await page.getByLabel("Team that owns it").fill("T".repeat(100));
  await page.getByLabel("Where people ask").fill("wards@north-clinic.example");
  await page.getByLabel("Who may find it?").selectOption("public");
  await page.getByLabel("Does it hold data about people?").selectOption("phi");
  await page.locator("#specification").fill(specification.replace("{name: id, in: path,", "{name: other, in: path,"));
  await page.getByRole("button", { name: "Check and register" }).click();
  await page.getByText("Nothing is registered yet").waitFor();
  await page.getByText(/line \d+, column \d+/).first().waitFor();
  for (const violation of await violations(page)) faults.push(`findings: ${violation}`);
  await page.screenshot({ path: join(shots, "findings.png"), fullPage: true });
  await page.locator("#specification").fill(specification);
  await page.getByRole("button", { name: "Check and register" }).click();
  await page.getByText("The API is registered").waitFor();
  await page.getByText("Offer a plan", { exact: true }).click();
  await page.getByLabel("Name", { exact: true }).fill("Standard");
  await page.getByLabel("Calls a minute").fill("1,200");
  await page.getByRole("button", { name: "Offer it" }).click();
  await page.getByText("1,200 calls a minute").waitFor();
});

await journey("a reviewer approves it, and it is deployed", async (page) => {
  await signIn(page, reviewer, "/approvals");
  await page.getByRole("link", { name: /^Ward notes/ }).first().click();
  await page.getByRole("button", { name: "Approve" }).click();
  await page.getByText("The version is approved").waitFor();
  const other = await openWindow(browser, origin, faults);
  await signIn(other.page, provider, "/publish");
  await other.page.getByRole("link", { name: /^Ward notes/ }).click();
  await other.page.getByText("Deploy a version").click();
  await other.page.getByLabel("Path on the gateway").fill("ward notes");
  await other.page.getByLabel("Where it runs").fill("http://127.0.0.1:9");
  await other.page.getByRole("button", { name: "Deploy" }).click();
  await other.page.getByRole("alert").waitFor();
  await other.page.getByLabel("Path on the gateway").fill("/ward-notes");
  await other.page.getByRole("button", { name: "Deploy" }).click();
  await other.page.getByText("It can be called from now on").waitFor();
  await other.page.screenshot({ path: join(shots, "published.png"), fullPage: true });
  await other.context.close();
});

await journey("whoever grants access signs, and it stands in the register", async (page) => {
  await signIn(page, provider, "/publish");
  await page.getByRole("link", { name: /^Ward notes/ }).click();
  await page.getByText("Offer a plan", { exact: true }).click();
  await page.getByLabel("Name", { exact: true }).fill("Signed");
  await page.getByRole("checkbox", { name: /Whoever grants access signs/ }).check();
  for (const violation of await violations(page)) faults.push(`a plan that is signed: ${violation}`);
  await page.screenshot({ path: join(shots, "signed-plan.png"), fullPage: true });
  await page.getByRole("button", { name: "Offer it" }).click();
  const asking = await openWindow(browser, origin, faults);
  await signIn(asking.page, consumer, "/catalogue?q=ward+notes");
  await asking.page.getByRole("main").getByRole("link", { name: /^Ward notes/ }).click();
  await asking.page.getByRole("link", { name: "Request access" }).first().click();
  await asking.page.getByLabel("Which application").selectOption({ label: "Night shift planner" });
  await asking.page.getByRole("radio", { name: /decides and signs/ }).check();
  await asking.page.getByLabel("For what purpose").fill("Handing over at night");
  await asking.page.getByRole("main").getByRole("button", { name: "Request access" }).click();
  await asking.page.getByText("Your request is with the owner").waitFor();
  await asking.context.close();
  await page.goto(`${origin}/approvals`);
  await page.getByRole("link", { name: /^Access to Ward notes/ }).first().click();
  await page.getByLabel("What you mean by it").fill("Approved by the head of nursing");
  await page.getByLabel("Your password").fill("not this one");
  await page.getByRole("button", { name: "Approve" }).click();
  await page.getByText("The password is wrong.").waitFor();
  for (const violation of await violations(page)) faults.push(`a signature that fails: ${violation}`);
  await page.screenshot({ path: join(shots, "signature.png"), fullPage: true });
  await page.getByLabel("Your password").fill(provider.password);
  await page.getByRole("button", { name: "Approve" }).click();
  await page.getByText("Access is granted").waitFor();
  const auditing = await openWindow(browser, origin, faults);
  await signIn(auditing.page, account("auditor", "north-clinic"), "/audit");
  await auditing.page.getByRole("link", { name: "Register of agreements" }).click();
  await auditing.page.getByText(/Approved by the head of nursing/).waitFor();
  await auditing.page.screenshot({ path: join(shots, "register.png"), fullPage: true });
  await auditing.context.close();
});

await journey("what is hostile in a specification does nothing", async (page) => {
  page.on("dialog", (dialog) => faults.push(`a script ran: ${dialog.message()}`));
  await signIn(page, consumer, "/catalogue?q=ward+notes");
  await page.getByRole("main").getByRole("link", { name: /^Ward notes/ }).click();
  await page.screenshot({ path: join(shots, "hostile-names.png"), fullPage: true });
  await page.getByRole("link", { name: /GET \/notes/ }).click();
  await page.getByRole("heading", { name: "What comes back" }).waitFor();
  expect((await page.locator("main script, main img").count()) === 0, "no script and no picture came with it");
  expect((await page.locator("a[href^='javascript:']").count()) === 0, "no link runs a script");
});

await journey("traffic and audit are seen and saved", async (page) => {
  await signIn(page, owner, "/traffic");
  await page.getByLabel("Time").selectOption("1h");
  await page.getByRole("button", { name: "Show" }).click();
  await page.getByRole("heading", { name: "How long calls took" }).waitFor();
  const saved = page.waitForEvent("download");
  await page.getByRole("link", { name: "Save as CSV" }).click();
  expect((await saved).suggestedFilename() === "traffic.csv", "the numbers are saved");
  // Every third call to this system fails, and is found by the id of its request.
  const key = demo.applications.find((application) => application.name === "Ward dashboard").apiKey;
  let id = "";
  for (let calls = 0; calls < 24; calls += 1) {
    const answer = await fetch(`${demo.gatewayUrl}/beds/wards`, { headers: { "x-api-key": key } });
    if (answer.status >= 500) id = answer.headers.get("x-request-id");
  }
  expect(id !== "", "a call has failed");
  await page.getByLabel("API", { exact: true }).selectOption({ label: "Bed Occupancy" });
  await page.getByRole("button", { name: "Show" }).click();
  for (let tries = 0; tries < 40 && (await page.getByText(id).count()) === 0; tries += 1) {
    await page.waitForTimeout(250);
    await page.reload();
  }
  await page.getByText(id).waitFor();
  // Calls are summed every second: those beside it are there too after another.
  await page.waitForTimeout(1_500);
  await page.reload();
  await page.screenshot({ path: join(shots, "traffic-failures.png"), fullPage: true });
  await page.getByRole("heading", { name: "By operation" }).waitFor();
  const calls = () => page.locator(".panels .figure").first().textContent();
  const all = await calls();
  await page.getByRole("table").filter({ hasText: "95th percentile" }).getByRole("link", { name: /^GET / }).first().click();
  await page.getByRole("link", { name: /^version 0\.9\.0/ }).waitFor();
  expect(page.url().includes("operation="), "the numbers are those of one operation");
  for (const violation of await violations(page)) faults.push(`narrowed traffic: ${violation}`);
  await page.screenshot({ path: join(shots, "traffic-narrowed.png"), fullPage: true });
  await page.getByRole("link", { name: /^version 0\.9\.0/ }).click();
  await page.getByRole("heading", { name: "By version" }).waitFor();
  expect((await calls()) === all, "all of them are shown again");
  await page.getByLabel("Time").selectOption("15m");
  await page.getByRole("button", { name: "Show" }).click();
  await page.getByText("Brought up to date every five seconds.").waitFor();
  const before = await calls();
  await fetch(`${demo.gatewayUrl}/beds/wards`, { headers: { "x-api-key": key } });
  await page.waitForFunction((before) => document.querySelector(".panels .figure").textContent !== before, before);
  for (const violation of await violations(page)) faults.push(`live traffic: ${violation}`);
  await page.screenshot({ path: join(shots, "traffic-live.png"), fullPage: true });
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText("Paused.").waitFor();
  await page.getByRole("button", { name: "Go on" }).click();
  await page.context().clearCookies({ name: "caduceus" });
  await page.getByText("No longer brought up to date.").waitFor();
  await signIn(page, owner, "/catalogue");
  await page.getByRole("complementary").getByRole("link", { name: "health data of patients" }).click();
  const cards = page.locator(".cards > li");
  expect((await cards.count()) === (await cards.filter({ hasText: "contains PHI" }).count()), "only APIs with health data are left");
  await page.screenshot({ path: join(shots, "catalogue-narrowed.png"), fullPage: true });
  await page.getByRole("main").getByRole("link", { name: "show all" }).click();
  await page.getByRole("main").getByRole("link", { name: "Bed Occupancy" }).click();
  await page.getByText("many calls fail").waitFor();
  for (const violation of await violations(page)) faults.push(`an API that fails: ${violation}`);
  await page.screenshot({ path: join(shots, "api-standing.png"), fullPage: true });
  await page.goto(`${origin}/applications`);
  await page.getByRole("main").getByRole("link", { name: "Ward dashboard" }).click();
  await page.getByText(id).waitFor();
  await page.getByText(/^25 of 100,000 today/).waitFor();
  for (const violation of await violations(page)) faults.push(`application with failures: ${violation}`);
  await page.screenshot({ path: join(shots, "application-failures.png"), fullPage: true });
  await page.goto(`${origin}/audit`);
  await page.getByLabel("What", { exact: true }).selectOption("subscription.approve");
  await page.getByRole("button", { name: "Show" }).click();
  expect((await page.locator("tbody tr").count()) >= 1, "the approval is in the trail");
  expect(page.url().includes("action=subscription.approve"), "the filter is in the address");
});

await journey("a subscriber says how an API is, and its owner reads it", async (page) => {
  await signIn(page, account("consumer", "north-clinic"), "/catalogue?q=drug+directory");
  await page.getByRole("main").getByRole("link", { name: /^Drug Directory/ }).click();
  await page.getByRole("link", { name: "Reviews" }).click();
  await page.getByText("Nobody has said anything yet.").waitFor();
  for (const violation of await violations(page)) faults.push(`no reviews: ${violation}`);
  await page.getByLabel("4", { exact: true }).check();
  await page.getByLabel("In words").fill("Quick and complete.\n<script>alert(1)</script>");
  await page.getByRole("button", { name: "Publish" }).click();
  await page.getByText("4.0 of 5, by 1 person").waitFor();
  await page.getByText("<script>alert(1)</script>").first().waitFor();
  await page.getByLabel("5", { exact: true }).check();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("5.0 of 5, by 1 person").waitFor();
  for (const violation of await violations(page)) faults.push(`reviews: ${violation}`);
  await page.screenshot({ path: join(shots, "reviews.png"), fullPage: true });
  const other = await openWindow(browser, origin, faults);
  await signIn(other.page, account("provider", "valley-health"), new URL(page.url()).pathname);
  await other.page.getByText("north-clinic consumer").waitFor();
  expect((await other.page.getByRole("button", { name: "Publish" }).count()) === 0, "the owner does not judge itself");
  await other.context.close();
  await page.getByRole("button", { name: /^Remove/ }).click();
  await page.getByText("Nobody has said anything yet.").waitFor();
});

await journey("somebody is invited and gets in", async (page) => {
  await signIn(page, owner, "/admin/people");
  await page.getByRole("heading", { name: "Invite somebody" }).waitFor();
  const form = page.locator("form[action='/admin/people']");
  await form.getByLabel("E-mail address").fill("night@north-clinic.example");
  await form.getByLabel("Name", { exact: true }).fill("Night pharmacist");
  await form.getByLabel("consumer").check();
  await form.getByRole("button", { name: "Invite" }).click();
  const code = await page.locator("#secret").textContent();
  for (const violation of await violations(page)) faults.push(`invited: ${violation}`);
  await page.screenshot({ path: join(shots, "invited.png"), fullPage: true });
  const other = await openWindow(browser, origin, faults);
  await other.page.goto(`${origin}/invitation`);
  for (const violation of await violations(other.page)) faults.push(`invitation: ${violation}`);
  await other.page.getByLabel("Invitation code").fill(code);
  await other.page.getByLabel("New password").fill("four words in a row");
  await other.page.getByLabel("The same password again").fill("four words in a row");
  await other.page.getByRole("button", { name: "Set the password" }).click();
  await other.page.getByRole("heading", { name: "Sign in" }).waitFor();
  await signIn(other.page, { email: "night@north-clinic.example", password: "four words in a row" });
  await other.page.getByRole("heading", { name: /Night pharmacist/ }).waitFor();
  await page.getByText("Invite anew Night pharmacist").click();
  await page.getByRole("button", { name: "Make a code" }).click();
  const another = await page.locator("#secret").textContent();
  await other.page.goto(`${origin}/invitation`);
  await other.page.getByLabel("Invitation code").fill(another);
  await other.page.getByLabel("New password").fill("five words are better still");
  await other.page.getByLabel("The same password again").fill("five words are better still");
  await other.page.getByRole("button", { name: "Set the password" }).click();
  await signIn(other.page, { email: "night@north-clinic.example", password: "five words are better still" });
  await other.page.getByRole("heading", { name: /Night pharmacist/ }).waitFor();
  await other.context.close();
});

await journey("a second factor is set up, asked for, and turned off", async (page, context) => {
  const person = account("auditor", "north-clinic");
  await signIn(page, person, "/account");
  await page.getByLabel("Current password").last().fill(person.password);
  await page.getByRole("button", { name: "Set it up" }).click();
  await page.getByRole("img", { name: /^QR code/ }).waitFor();
  for (const violation of await violations(page)) faults.push(`second factor: ${violation}`);
  await page.screenshot({ path: join(shots, "second-factor.png"), fullPage: true });
  const secret = (await page.locator("#secret").textContent()).replaceAll(" ", "");
  const began = Date.now();
  await page.getByLabel("Code that the app shows").fill("000000");
  await page.getByRole("button", { name: "Turn it on" }).click();
  await page.getByText(/is wrong/).waitFor();
  await page.getByLabel("Code that the app shows").fill(oneTimeCode(secret, began));
  await page.getByRole("button", { name: "Turn it on" }).click();
  await page.getByRole("heading", { name: "Recovery codes" }).waitFor();
  for (const violation of await violations(page)) faults.push(`recovery codes: ${violation}`);
  await page.screenshot({ path: join(shots, "recovery-codes.png"), fullPage: true });
  const recovery = await page.locator(".codes code").first().textContent();
  await page.getByRole("link", { name: "I have stored them" }).click();
  await page.getByText("10 recovery codes are left").waitFor();
  await page.screenshot({ path: join(shots, "account-second-factor.png"), fullPage: true });
  for (const code of [recovery, oneTimeCode(secret, began + 30_000)]) {
    await context.clearCookies();
    await page.goto(`${origin}/sign-in?next=/account`);
    await page.getByLabel("E-mail address").fill(person.email);
    await page.getByLabel("Password").fill(person.password);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("heading", { name: "One more step" }).waitFor();
    for (const violation of await violations(page)) faults.push(`code: ${violation}`);
    await page.screenshot({ path: join(shots, "sign-in-code.png"), fullPage: true });
    await page.getByLabel("Code").fill(code);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("9 recovery codes are left").waitFor();
  }
  await page.getByLabel("Current password").last().fill(person.password);
  await page.getByRole("button", { name: "Turn it off" }).click();
  await page.getByText("The second factor is off.").waitFor();
});

await journey("forms from elsewhere are refused", async (page) => {
  await signIn(page, consumer, "/applications");
  const cookies = await page.context().cookies();
  const cookie = cookies.map((one) => `${one.name}=${one.value}`).join("; ");
  const send = (headers, body) =>
    fetch(`${origin}/applications`, { method: "POST", redirect: "manual", headers: { cookie, "Content-Type": "application/x-www-form-urlencoded", ...headers }, body }).then((answer) => answer.status);
  expect((await send({ origin: "https://evil.example" }, "name=x")) === 403, "another origin is refused");
  expect((await send({}, "name=x")) === 403, "a form without its token is refused");
  expect((await send({}, "name=x&csrf=0000")) === 403, "a form with a wrong token is refused");
});

await journey("everything is reached with the keyboard", async (page) => {
  await signIn(page, consumer);
  await page.getByRole("heading", { name: "What needs you" }).waitFor();
  // The slash is listened to by the script, which runs when the page has been read to its end.
  await page.waitForLoadState("load");
  await page.keyboard.press("/");
  expect(await page.evaluate(() => document.activeElement.id === "search"), "the slash goes to the search");
  await page.keyboard.type("scheduling");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Catalogue" }).waitFor();
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.activeElement.className === "skip"), "the first stop skips to the content");
});

await journey("it works without script", async () => {
  const window = await openWindow(browser, origin, faults, { javaScriptEnabled: false });
  await signIn(window.page, consumer);
  await window.page.getByRole("main").getByRole("link", { name: "Clinic Scheduling" }).click();
  await window.page.getByRole("link", { name: /GET \/slots$/ }).click();
  await window.page.getByRole("link", { name: "Try it" }).click();
  await window.page.getByRole("button", { name: "Send" }).click();
  await window.page.getByText("200 OK").waitFor();
  await window.context.close();
});

await journey("signing out ends the session", async (page, context) => {
  await signIn(page, consumer);
  const kept = await context.cookies();
  await page.locator("details.account > summary").click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await context.addCookies(kept);
  await page.goto(`${origin}/account`);
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
});

await journey("what is looked for is found when it is there", async (page) => {
  await signIn(page, consumer);
  await page.getByRole("heading", { name: "What needs you" }).waitFor();
  expect((await violations(page)).length === 0, "the page is in order");
  await page.evaluate(() => document.querySelector("main").insertAdjacentHTML("beforeend", "<img src='/x.png'><p class='soft'>x</p>"));
  expect((await violations(page)).some((one) => one.startsWith("image-alt")), "a picture without words is a violation");
});

// Pages that differ only in what they are about are looked at twice at most.
function shape(url) {
  const { pathname, search } = new URL(url);
  const names = [...new URLSearchParams(search).keys()].sort().join("&");
  return pathname.replace(/[a-z]{3}_[0-9a-z]{20,}/gi, "ID").replace(/\/reference\/\d+/, "/reference/N").replace(/\d+\.\d+\.\d+/, "VERSION") + (names ? `?${names}` : "");
}

const looked = new Set();
for (const [role, tenant] of [["consumer", "valley-health"], ["tenant-admin", "north-clinic"], ["provider", "north-clinic"], ["reviewer", "north-clinic"], ["auditor", "north-clinic"], ["platform-admin", "north-clinic"]]) {
  const who = account(role, tenant);
  if (!who) continue;
  const { context, page, weights } = await openWindow(browser, origin, faults);
  await signIn(page, who);
  const [found, seen] = [[`${origin}/`], new Map()];
  while (found.length > 0 && result.pages < 400) {
    const url = found.shift();
    const kind = shape(url);
    if ((seen.get(kind) ?? 0) >= 1) continue;
    seen.set(kind, (seen.get(kind) ?? 0) + 1);
    await page.setViewportSize(WIDE);
    weights.clear();
    const answer = await page.goto(url);
    if (answer.status() >= 400) faults.push(`a link leads to ${answer.status()}: ${url}`);
    const bytes = [...weights.values()].reduce((sum, one) => sum + one, 0);
    if (bytes > result.heaviest.bytes) result.heaviest = { bytes, url };
    for (const link of await page.locator("a[href]:not([download])").evaluateAll((links) => links.map((link) => link.href))) {
      if (link.startsWith(origin) && !link.includes("#") && !link.includes("/assets/") && !link.includes(".csv")) found.push(link);
    }
    // Its links may lead elsewhere for this role, but it was looked at already.
    if (looked.has(kind)) continue;
    looked.add(kind);
    result.pages += 1;
    const name = `${role}${kind.replace(/[^a-z0-9]+/gi, "-")}-${seen.get(kind)}`;
    for (const [width, viewport] of [["wide", WIDE], ["narrow", NARROW]]) {
      await page.setViewportSize(viewport);
      for (const scheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme: scheme });
        for (const violation of await violations(page)) faults.push(`${width} ${scheme} ${url}: ${violation}`);
        await page.screenshot({ path: join(shots, `${name}-${width}-${scheme}.png`), fullPage: true });
      }
      const over = await overflow(page);
      if (over > 0) faults.push(`${width} ${url} is ${over} pixels too wide`);
    }
  }
  await context.close();
}

await browser.close();
console.log(JSON.stringify(result));
