// What a browser must do itself: send files in pieces, listen to a job, say what went wrong. The rest is htmx.
"use strict";
const PIECE = 8 * 1024 * 1024, AT_ONCE = 4, TRIES = 5;
const IMAGE = /\.(jpe?g|png|tiff?|bmp)$/i;

function notice(text, good) {
  const box = document.getElementById("notice");
  box.textContent = text;
  box.classList.toggle("good", Boolean(good));
  box.hidden = false;
  clearTimeout(box.timer);
  box.timer = setTimeout(() => { box.hidden = true; }, 12000);
}

function span(seconds) {
  return seconds < 90 ? Math.ceil(seconds) + " s" : seconds < 5400 ? Math.round(seconds / 60) + " min" : (seconds / 3600).toFixed(1) + " h";
}

function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < 4) { count /= 1000; unit++; }
  return (unit && count < 100 ? count.toFixed(1) : Math.round(count)) + " " + units[unit];
}

async function said(answer) {
  try { const found = await answer.clone().json(); return (found.detail || answer.statusText) + (found.hint ? " (" + found.hint + ")" : ""); }
  catch { return (await answer.text()) || answer.statusText; }
}

async function ask(address, options) {
  const headers = { "HX-Request": "true", ...(options.headers || {}) };
  const answer = await fetch(address, { ...options, headers });
  if (!answer.ok) { const error = new Error(await said(answer)); error.status = answer.status; error.answer = answer; throw error; }
  return answer;
}

async function go(answer) {
  const to = answer.headers.get("HX-Redirect") || (await answer.json()).location;
  window.location.assign(to);
}

// --- choosing files
async function entriesOf(items) {
  const found = [];
  async function walk(entry, path) {
    if (entry.isFile) {
      found.push({ name: path + entry.name, file: await new Promise((good, bad) => entry.file(good, bad)) });
    } else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((good, bad) => reader.readEntries(good, bad));
        if (!some.length) break;
        for (const inner of some) await walk(inner, path + entry.name + "/");
      }
    }
  }
  const entries = [...items].map(item => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
  for (const entry of entries) await walk(entry, "");
  return found;
}

function choose(drop, found) {
  const chosen = drop.chosen = found.filter(entry => !/(^|\/)\./.test(entry.name));
  const total = chosen.reduce((sum, entry) => sum + entry.file.size, 0);
  const first = chosen.slice(0, 3).map(entry => entry.name).join(", ");
  drop.querySelector("[data-chosen]").textContent = chosen.length
    ? chosen.length.toLocaleString("en") + (chosen.length === 1 ? " file, " : " files, ") + bytes(total) + ": " + first + (chosen.length > 3 ? ", …" : "")
    : "Nothing chosen yet.";
}

// --- sending them
class Sending {
  constructor(drop) {
    this.box = drop.nextElementSibling;
    this.bar = this.box.querySelector("progress");
    this.line = this.box.querySelector("[data-sent]");
    this.total = drop.chosen.reduce((sum, entry) => sum + entry.file.size, 0) || 1;
    this.done = 0; this.began = performance.now(); this.at = 0;
    this.box.hidden = false;
  }
  add(count, fresh) {
    this.done += count;
    if (fresh) this.at += count;
    this.bar.value = this.done / this.total;
    const seconds = (performance.now() - this.began) / 1000;
    const left = this.at && seconds > 1 ? ", about " + span((this.total - this.done) * seconds / this.at) + " left" : "";
    this.line.textContent = "Sent " + bytes(this.done) + " of " + bytes(this.total) + left;
  }
}

async function inParallel(entries, work) {
  const queue = entries.slice();
  await Promise.all(Array.from({ length: AT_ONCE }, async () => { while (queue.length) await work(queue.shift()); }));
}

async function sendFile(id, entry, here, sending) {
  const address = "/api/v1/uploads/" + id + "/files/" + entry.name.split("/").map(encodeURIComponent).join("/");
  sending.add(here, false);
  let failures = 0;
  while (here < entry.file.size || here === 0) {
    const piece = entry.file.slice(here, here + PIECE);
    try {
      const answer = await ask(address + "?offset=" + here + "&size=" + entry.file.size, { method: "PUT", body: piece });
      here = (await answer.json()).size;
      sending.add(piece.size, true);
      failures = 0;
      if (!entry.file.size) return;
    } catch (error) {
      if (error.status === 409) {
        const known = await error.answer.clone().json().catch(() => ({}));
        if (Number.isInteger(known.size)) { sending.add(known.size - here, false); here = known.size; if (here >= entry.file.size) return; continue; }
      }
      if (error.status && error.status < 500 || ++failures > TRIES) throw error;
      await new Promise(wait => setTimeout(wait, 500 * 2 ** failures)); // the line is down: wait, then go on
    }
  }
}

async function upload(drop, purpose) {
  const sending = new Sending(drop);
  const key = "upload " + purpose + " " + drop.chosen.length + " " + sending.total + " " + drop.chosen[0].name;
  let id = localStorage.getItem(key), here = {};
  if (id) {
    try { here = (await (await ask("/api/v1/uploads/" + id, {})).json()).files; } catch { id = null; }
  }
  if (!id) {
    const body = JSON.stringify({ purpose });
    const answer = await ask("/api/v1/uploads", { method: "POST", body, headers: { "Content-Type": "application/json" } });
    id = (await answer.json()).id;
    localStorage.setItem(key, id);
  }
  await inParallel(drop.chosen, async entry => {
    const known = here[entry.name] || 0;
    if (known === entry.file.size && entry.name in here) sending.add(known, false);
    else await sendFile(id, entry, known, sending);
  });
  localStorage.removeItem(key);
  return id;
}

// Images are tried in memory; false where it is a run (or a zip with one), or more than is held there: those are tried as a job.
async function triedInMemory(form, drop, fields) {
  if (drop.chosen.some(entry => !IMAGE.test(entry.name) && !/\.zip$/i.test(entry.name))) return false;
  const total = drop.chosen.reduce((sum, entry) => sum + entry.file.size, 0);
  if (total > Number(form.dataset.tryBytes) || drop.chosen.length > Number(form.dataset.tryImages)) return false;
  const begun = await (await ask(form.dataset.try, { method: "POST", body: fields })).json();
  const sending = new Sending(drop);
  try {
    await inParallel(drop.chosen, async entry => {
      await ask(form.dataset.try + "/" + begun.id + "?name=" + encodeURIComponent(entry.name), { method: "POST", body: entry.file });
      sending.add(entry.file.size, true);
    });
  } catch (error) {
    if (error.status !== 409) throw error;
    return false;
  }
  window.location.assign(begun.location);
  return true;
}

function prepareDrop(drop) {
  drop.chosen = [];
  for (const input of drop.querySelectorAll("[data-files]")) {
    input.addEventListener("change", () => choose(drop, [...input.files].map(file => ({ name: file.webkitRelativePath || file.name, file }))));
  }
  drop.addEventListener("dragover", event => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async event => {
    event.preventDefault();
    drop.classList.remove("over");
    choose(drop, await entriesOf(event.dataTransfer.items));
  });
}

async function sendForm(form, drops, fields) {
  const [first] = drops, trying = fields.get("keep") === "no";
  if (trying && form.dataset.try && first.chosen.length && await triedInMemory(form, first, fields)) return;
  for (const drop of drops) {
    if (drop.chosen.length) fields.set(drop.dataset.drop, await upload(drop, trying ? "try" : form.dataset.upload));
  }
  await go(await ask(form.getAttribute("action"), { method: "POST", body: fields }));
}

function prepare(form) {
  const drops = [...form.querySelectorAll("[data-drop]")], [first] = drops;
  drops.forEach(prepareDrop);
  form.addEventListener("submit", async event => {
    event.preventDefault();
    const elsewhere = ["folder", "address"].filter(name => form.elements[name] && form.elements[name].value.trim());
    if (!first.chosen.length && !elsewhere.length) { notice("Choose files first."); return; }
    if (elsewhere.length + (first.chosen.length ? 1 : 0) > 1) { notice("Choose one source: files, a folder on the server, or an address."); return; }
    const button = form.querySelector("button[type=submit]");
    button.disabled = true;
    const fields = new URLSearchParams([...new FormData(form)].filter(([, value]) => typeof value === "string"));
    if (!fields.get("title") && first.chosen.length) fields.set("title", first.chosen[0].name.split("/")[0] + (first.chosen.length > 1 && !first.chosen[0].name.includes("/") ? " and " + (first.chosen.length - 1) + " more" : ""));
    try {
      await sendForm(form, drops, fields);
    } catch (error) {
      notice(error.message || "The line was cut. Press the button again: the upload goes on where it was.");
      button.disabled = false;
    }
  });
}

// --- listening to a job
function listen(box) {
  if (box.listening) return;
  box.listening = true;
  const events = new EventSource("/api/v1/jobs/" + box.dataset.job + "/events");
  let shown = 0;
  events.addEventListener("job", event => {
    const job = JSON.parse(event.data);
    if (!document.contains(box)) { events.close(); return; }
    const bar = box.querySelector("[data-bar]"), step = box.querySelector("[data-step]");
    if (job.progress && bar) {
      const { step: name, done, total, seconds_left: left } = job.progress;
      if (total) { bar.max = total; bar.value = done; } else bar.removeAttribute("value");
      step.textContent = name + (total ? ": " + done.toLocaleString("en") + " of " + total.toLocaleString("en") : "") + (left !== null ? ", about " + span(left) + " left" : "");
    }
    const ended = ["done", "failed", "cancelled"].includes(job.state);
    if (box.hasAttribute("data-reload")) { if (ended) { events.close(); window.location.reload(); } return; }
    if (ended || job.state !== box.dataset.state || Date.now() - shown > 3000) {
      shown = Date.now();
      if (ended || job.state !== box.dataset.state || job.kind === "train") {
        events.close();
        htmx.ajax("GET", "/jobs/" + job.id, { target: "#job", swap: "outerHTML" });
      }
    }
  });
}

function ready() {
  document.querySelectorAll("[data-job]").forEach(listen);
}

document.querySelectorAll("form[data-upload]").forEach(prepare);
document.querySelectorAll("form[data-table]").forEach(form => {
  const input = form.querySelector("input");
  input.addEventListener("change", async () => {
    try {
      const answer = await ask(form.dataset.table + "?name=" + encodeURIComponent(input.files[0].name), { method: "PUT", body: input.files[0] });
      const found = await answer.json();
      notice(found.message, true);
      if (form.dataset.into) htmx.ajax("GET", form.dataset.table, { target: form.dataset.into, swap: "outerHTML" });
      else if (found.attached) setTimeout(() => window.location.reload(), 2500); // the page shows what was attached
    } catch (error) { notice(error.message); }
    input.value = "";
  });
});
const wanted = new URLSearchParams(window.location.search).get("model"), select = document.getElementById("model");
if (wanted && select && [...select.options].some(option => option.value === wanted)) select.value = wanted;
ready();
document.addEventListener("htmx:afterSettle", ready);
document.addEventListener("htmx:responseError", event => notice(event.detail.xhr.responseText || "The server refused."));
document.addEventListener("htmx:sendError", () => notice("The server does not answer. What was begun goes on; try again in a moment."));
