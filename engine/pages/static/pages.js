// Two things that HTML alone cannot do: copy a command, and follow a run that is being written. Pages work without either.
"use strict";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy).textContent;
  const said = button.parentElement.querySelector("[role=status]");
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = "Copied.";
  } catch {
    // no clipboard without a secure context: select it, so that one key copies it
    const range = document.createRange();
    range.selectNodeContents(document.getElementById(button.dataset.copy));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    said.textContent = "Selected: copy it with the keyboard.";
  }
});

// What stands for an element when the page is drawn anew: where it leads, what it is called, or its words.
const called = (one) => one.getAttribute("href") ?? one.getAttribute("aria-label") ?? (one.querySelector("summary") ?? one).textContent;

// Draw a part of the page anew, and leave the reader where they are: what is open, how far tables are scrolled, what has the keyboard's focus.
const redraw = (part, html) => {
  const all = (selector) => [...part.querySelectorAll(selector)];
  const open = new Set(all("details[open]").map(called));
  const scrolled = new Map(all(".wide").map((one) => [called(one), one.scrollLeft]));
  const reachable = () => all("a[href], summary, [tabindex]");
  const at = reachable().indexOf(document.activeElement);
  const held = at < 0 ? null : called(document.activeElement);
  part.innerHTML = html; // our own server's, escaped there; the policy of the page allows no script in it
  for (const one of all("details")) one.open = open.has(called(one));
  for (const one of all(".wide")) one.scrollLeft = scrolled.get(called(one)) ?? 0;
  if (held === null) return;
  const now = reachable();
  const away = (one) => Math.abs(now.indexOf(one) - at);
  const same = now.filter((one) => called(one) === held).sort((one, other) => away(one) - away(other));
  for (const one of [...same, now[Math.min(at, now.length - 1)]]) {
    one?.focus({ preventScroll: true }); // one in a table that is closed does not take it
    if (one === document.activeElement) return;
  }
};

const live = document.querySelector("[data-live]");
if (live) {
  const state = document.getElementById("state");
  let beat = `"${live.dataset.beat}"`;
  let waits = Number(live.dataset.wait) * 1000;
  const look = async () => {
    let again = true;
    try {
      const answer = await fetch(live.dataset.live, { headers: { "If-None-Match": beat }, cache: "no-store" });
      if (answer.status === 200) {
        beat = answer.headers.get("ETag");
        redraw(live, await answer.text());
        again = !beat.endsWith('-1"');
        state.textContent = again ? "Not finished: this page follows it." : "Finished.";
      } else if (answer.status !== 304) {
        state.textContent = `The server answered ${answer.status}: reload the page.`;
        again = false;
      } else {
        state.textContent = "Not finished: this page follows it.";
      }
    } catch {
      state.textContent = "The server does not answer; this page tries again.";
    }
    if (again) setTimeout(look, waits);
  };
  setTimeout(look, waits);
}
