// Thresholds of an evaluation, worked out here: precision, recall and coverage of all images and of each class.
// And the confusion matrix by arrow keys, so that a keyboard need not pass every number of it.
"use strict";
const MOST_IMAGES = 200000; // more take no part: what comes first is a fair sample
const EVERY_MS = 16;

const shown = (part, of) => of ? (100 * part / of).toFixed(1) + " %" : "–";
const counted = count => count.toLocaleString("en");

async function scoresOf(address) {
  const found = { true: [], given: [], score: [], total: 0 };
  for (let start = 0; start !== null && start < MOST_IMAGES;) {
    const answer = await fetch(address + "?start=" + start);
    if (!answer.ok) throw new Error(answer.statusText);
    const page = await answer.json();
    for (const name of ["true", "given", "score"]) found[name] = found[name].concat(page[name]);
    found.total = page.total;
    start = page.next;
  }
  return found;
}

// images by class: all of it, given as it, accepted as it, accepted and right
function count(scores, thresholds, classes) {
  const all = new Uint32Array(classes), given = new Uint32Array(classes), taken = new Uint32Array(classes), right = new Uint32Array(classes);
  for (let n = 0; n < scores.score.length; n++) {
    const said = scores.given[n];
    all[scores.true[n]]++;
    given[said]++;
    if (scores.score[n] >= thresholds[said]) { taken[said]++; if (said === scores.true[n]) right[said]++; }
  }
  return { all, given, taken, right };
}

class Thresholds {
  constructor(form, scores) {
    this.form = form;
    this.scores = scores;
    this.rows = new Map([...document.querySelectorAll("[data-classes] [data-class]")].map(row => [Number(row.dataset.class), row]));
    this.classes = Math.max(...this.rows.keys()) + 1;
    this.own = form.querySelector("[data-own]");
    form.addEventListener("input", event => { if (event.target.type === "range") this.later(); });
    form.addEventListener("submit", event => event.preventDefault());
    form.addEventListener("reset", () => { this.own.replaceChildren(); setTimeout(() => this.show()); });
    form.querySelector("[data-add]").addEventListener("change", event => {
      if (event.target.value) this.add(Number(event.target.value), null).focus();
      event.target.value = "";
      this.show();
    });
    form.querySelector("[data-model]")?.addEventListener("click", () => {
      for (const [place, row] of this.rows) if (row.dataset.threshold) this.add(place, Math.ceil(1000 * row.dataset.threshold));
      this.show();
    });
  }
  // the slider of one class; where it is there already, it is set
  add(place, value) {
    const id = "t-" + place;
    let input = document.getElementById(id);
    if (!input) {
      const box = document.createElement("div"), label = document.createElement("label"), output = document.createElement("output"), away = document.createElement("button");
      input = document.createElement("input");
      box.className = "slider";
      const name = this.rows.get(place).dataset.name;
      Object.assign(label, { htmlFor: id, textContent: name });
      Object.assign(input, { id, type: "range", min: 0, max: 1000, step: 1, value: this.form.querySelector("[data-all]").value });
      input.dataset.place = place;
      output.htmlFor = id;
      Object.assign(away, { type: "button", className: "quiet-button", textContent: "Remove" });
      away.setAttribute("aria-label", "Remove the threshold of " + name);
      away.addEventListener("click", () => { box.remove(); this.form.querySelector("[data-add]").focus(); this.show(); });
      box.append(label, input, output, away);
      this.own.append(box);
    }
    if (value !== null) input.value = value;
    return input;
  }
  later() {
    if (this.waiting) return;
    this.waiting = setTimeout(() => { this.waiting = null; this.show(); }, EVERY_MS);
  }
  show() {
    const all = this.form.querySelector("[data-all]");
    const thresholds = new Float64Array(this.classes).fill(Number(all.value));
    for (const input of this.own.querySelectorAll("input")) thresholds[Number(input.dataset.place)] = Number(input.value);
    for (const output of this.form.querySelectorAll("output")) output.textContent = (document.getElementById(output.htmlFor.value).value / 1000).toFixed(3);
    const found = count(this.scores, thresholds, this.classes);
    const images = this.scores.score.length, sum = array => array.reduce((a, b) => a + b, 0);
    const taken = sum(found.taken), right = sum(found.right);
    let f1 = 0, present = 0;
    for (const [place, row] of this.rows) {
      const cell = name => row.querySelector("[data-figure=" + name + "]");
      cell("precision").textContent = shown(found.right[place], found.taken[place]);
      cell("recall").textContent = shown(found.right[place], found.all[place]);
      cell("coverage").textContent = shown(found.taken[place], found.given[place]);
      if (found.all[place]) { present++; f1 += 2 * found.right[place] / (found.all[place] + found.taken[place]); }
    }
    const texts = {
      precision: shown(right, taken), recall: shown(right, images), coverage: shown(taken, images), f1: shown(f1, present),
      wrong: counted(taken - right), left: counted(images - taken),
    };
    for (const [name, text] of Object.entries(texts)) document.querySelector("[data-figures] [data-figure=" + name + "]").textContent = text;
    const part = images < this.scores.total ? " A random sample of " + counted(images) + " of " + counted(this.scores.total) + " images." : "";
    document.querySelector("[data-said]").textContent = counted(taken) + " of " + counted(images) + " images accepted, " + counted(right) + " of them right." + part;
  }
}

// one number of the matrix can be reached by Tab; the arrow keys, Home and End go on from there
function arrows(table) {
  const rows = [...table.tBodies[0].rows].map(row => [...row.cells].map(cell => cell.querySelector("a")));
  const links = rows.flat().filter(Boolean);
  links.forEach((link, n) => { link.tabIndex = n ? -1 : 0; });
  const go = link => {
    if (!link) return;
    links.forEach(other => { other.tabIndex = -1; });
    link.tabIndex = 0;
    link.focus();
  };
  table.addEventListener("focusin", event => { if (links.includes(event.target)) { links.forEach(other => { other.tabIndex = -1; }); event.target.tabIndex = 0; } });
  table.addEventListener("keydown", event => {
    const at = event.target.closest("td");
    if (!at || !links.includes(event.target)) return;
    const x = at.cellIndex, y = at.parentNode.rowIndex - 1;
    const column = rows.map(row => row[x]);
    const moves = {
      ArrowRight: () => rows[y].slice(x + 1).find(Boolean), ArrowLeft: () => rows[y].slice(0, x).reverse().find(Boolean),
      ArrowDown: () => column.slice(y + 1).find(Boolean), ArrowUp: () => column.slice(0, y).reverse().find(Boolean),
      Home: () => rows[y].find(Boolean), End: () => rows[y].findLast(Boolean),
    };
    if (moves[event.key]) { event.preventDefault(); go(moves[event.key]()); }
  });
}

document.querySelectorAll("[data-matrix]").forEach(arrows);
document.querySelectorAll("[data-thresholds]").forEach(async form => {
  try { new Thresholds(form, await scoresOf(form.dataset.thresholds)).show(); }
  catch (error) { document.querySelector("[data-said]").textContent = "The scores could not be read (" + error.message + "). Load the page again."; }
});
