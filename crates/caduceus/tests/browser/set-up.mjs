// The first page of an empty installation.
//
// node set-up.mjs ORIGIN TOKEN FOLDER: screenshots go to FOLDER. The last line on standard output is one JSON object: {problem?, faults}.

import { join } from "node:path";
import { folder, openBrowser, openWindow, overflow, violations, NARROW } from "./browser.mjs";

const [origin, token, shotsFolder] = process.argv.slice(2);
const shots = folder(shotsFolder);
const faults = [];
const result = { faults };
const browser = await openBrowser();
const { page } = await openWindow(browser, origin, faults);
try {
  await page.goto(origin);
  await page.getByRole("heading", { name: "Set up this installation" }).waitFor();
  for (const violation of await violations(page)) faults.push(`set-up: ${violation}`);
  await page.screenshot({ path: join(shots, "set-up.png"), fullPage: true });
  const fill = async (label, text) => page.getByLabel(label, { exact: true }).fill(text);
  const send = async (given) => {
    await fill("One-time token", given);
    await fill("Password", "four words in a row");
    await fill("The same password again", "four words in a row");
    await page.getByRole("button", { name: "Set up" }).click();
  };
  await fill("Your organisation", "County Hospital");
  await fill("Its short name", "County Hospital");
  await fill("Your name", "Ada");
  await fill("Your e-mail address", "ada@county.example");
  await send("not the token");
  await page.getByText(/^The short name of the organisation must be/).waitFor();
  await fill("Its short name", "county-hospital");
  await send("not the token");
  await page.getByText("This is not the token").waitFor();
  await page.setViewportSize(NARROW);
  if ((await overflow(page)) > 0) faults.push("set-up: wider than a telephone");
  for (const violation of await violations(page)) faults.push(`set-up, refused: ${violation}`);
  await page.screenshot({ path: join(shots, "set-up-refused-narrow.png"), fullPage: true });
  await send(token);
  await page.getByLabel("E-mail address").fill("ada@county.example");
  await page.getByLabel("Password").fill("four words in a row");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: /Ada/ }).waitFor();
  await page.goto(`${origin}/set-up`);
  await page.waitForURL((url) => url.pathname !== "/set-up");
} catch (error) {
  await page.screenshot({ path: join(shots, "failed-set-up.png"), fullPage: true });
  result.problem = `${error.message.slice(0, 600)} at ${page.url()}`;
}
await browser.close();
console.log(JSON.stringify(result));
