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
        const open = [...live.querySelectorAll("details")].map((one) => one.open);
        const scrolled = [...live.querySelectorAll(".wide")].map((one) => one.scrollLeft);
        beat = answer.headers.get("ETag");
        live.innerHTML = await answer.text(); // our own server's, escaped there; the policy of the page allows no script in it
        [...live.querySelectorAll("details")].forEach((one, at) => { one.open = open[at] ?? false; });
        [...live.querySelectorAll(".wide")].forEach((one, at) => { one.scrollLeft = scrolled[at] ?? 0; });
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
