// Comfort only: every page works without it.
"use strict";

// "/" goes to the search field, unless somebody is typing.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    document.getElementById("search")?.focus();
  }
  if (event.key === "Escape") {
    for (const open of document.querySelectorAll("details.account[open], details.pop[open]")) {
      open.open = false;
      open.querySelector("summary").focus();
    }
  }
});

// A menu closes when something else is clicked.
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details.account[open], details.pop[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});

// On a narrow screen the navigation begins closed.
const side = document.querySelector("details.side");
if (side && matchMedia("(max-width: 860px)").matches) side.open = false;

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

// A file can be read into a text field.
for (const input of document.querySelectorAll("[data-into]")) {
  input.hidden = false;
  input.addEventListener("change", async () => {
    if (input.files[0]) document.getElementById(input.dataset.into).value = await input.files[0].text();
  });
}

// Numbers that are live are fetched again, while somebody may be looking and has not paused them.
for (const button of document.querySelectorAll("[data-live]")) {
  const { live, going, paused, lost } = button.dataset;
  const told = button.nextElementSibling;
  let goes = true;
  const say = () => {
    button.textContent = goes ? "Pause" : "Go on";
    told.textContent = goes ? going : paused;
  };
  const timer = setInterval(async () => {
    const region = document.getElementById(live);
    if (!goes || document.hidden || region.contains(document.activeElement) || !getSelection().isCollapsed) return;
    try {
      const answer = await fetch(location.href, { headers: { "Caduceus-Open-Page": "1" } });
      if (!answer.ok || answer.redirected) throw new Error("the session has ended");
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(live);
      if (goes) region.replaceWith(fresh);
    } catch {
      clearInterval(timer);
      button.hidden = true;
      told.textContent = lost;
    }
  }, 5000);
  button.addEventListener("click", () => {
    goes = !goes;
    say();
  });
  button.hidden = false;
  say();
}

// A form that is sent twice is sent once.
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

document.querySelector("#result")?.scrollIntoView({ block: "start" });
