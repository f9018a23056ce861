"use strict";
// The page's state, its controls, and what is drawn anew when one of them moves.

const byId = (id) => document.getElementById(id);
let doc = null;
const state = {
  hidden: new Set(), device: null, limits: {}, x: null, y: null, colour: "none", partial: false,
  chosen: [], over: "results", distortion: null,
};

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const label = (name) => doc.labels[name] ?? name;
const studies = () => doc.studies.map((study, index) => ({ study, index })).filter(({ index }) => !state.hidden.has(index));
const devices = () => [...new Set(studies().flatMap(({ study }) => Object.keys(study.latency)))];
const stages = () => [...new Set(studies().flatMap(({ study }) => study.stages.map((stage) => `${stage}_ms`)))];

/** The limits that studies were searched under: the device's own, else those of their first one. */
function ownLimits() {
  const limits = {};
  for (const { study } of studies()) {
    const own = { ...(study.budget[state.device] ?? Object.values(study.budget)[0]), ...study.limits };
    for (const [name, most] of Object.entries(own)) limits[name] = Math.max(limits[name] ?? most, most);
  }
  return limits;
}

function views() {
  return studies().map(({ study, index }) => {
    const rows = Fronts.rows(study, state.partial);
    const inside = Fronts.inside(study, rows, state.device, state.limits);
    const kept = new Set(inside);
    const full = inside.filter((row) => study.trials.state[row] === "scored");
    return { study, index, rows, inside, outside: rows.filter((row) => !kept.has(row)), front: Fronts.front(study, full, state.device) };
  });
}

function draw() {
  const now = views();
  byId("state").textContent = summary(now);
  byId("verdict").textContent = now.map(verdict).join(" ");
  Charts.front(now, state, label);
  const clicked = byId("front-chart");
  if (!clicked.dataset.listens) {
    clicked.dataset.listens = "yes";
    clicked.on("plotly_click", (event) => { const [index, row] = event.points[0].customdata; choose(index, row); });
  }
  Details.frontTable(now, state, doc, choose);
  drawChosen();
  const curves = now.some(({ study }) => Object.keys(study.rd).length);
  byId("rd-chart").closest("section").hidden = !curves;
  if (curves) Charts.curves("rd-chart", now, state.distortion, label);
  Charts.progress(now, state.over);
  const known = now.some(({ study }) => Object.keys(study.importance).length);
  byId("importance-chart").closest("section").hidden = !known;
  if (known) Charts.importance(now);
  Details.failed(now);
  Details.provenance(now);
}

function drawChosen() {
  const chosen = state.chosen.filter((one) => !state.hidden.has(one.study))
    .map((one, i) => ({ study: doc.studies[one.study], row: one.row, second: i > 0, colour: Charts.ink(i ? "--second" : "--accent") }));
  byId("chosen").hidden = !chosen.length;
  if (!chosen.length) return;
  Details.cards(chosen, state, doc, label);
  Details.choices(chosen);
  Charts.blocks(chosen, state.device);
  const own = chosen.map(({ study, row }) => ({ study, index: doc.studies.indexOf(study), front: [row], inside: [row] }));
  const curves = own.filter(({ study, front }) => study.rd[study.trials.trial[front[0]]]);
  byId("chosen-rd").hidden = !curves.length;
  if (curves.length) Charts.curves("chosen-rd", curves, state.distortion, label);
  Details.pictures(chosen);
}

function choose(index, row) {
  const at = state.chosen.findIndex((one) => one.study === index && one.row === row);
  if (at >= 0) state.chosen.splice(at, 1);
  else state.chosen = [...state.chosen.slice(-1), { study: index, row }];
  draw();
}

function summary(now) {
  const counts = now.map(({ study }) => study.trials.trial.length).reduce((a, b) => a + b, 0);
  const running = now.map(({ study }) => study.counts.running).reduce((a, b) => a + b, 0);
  return `${counts} trials have ended${running ? `, ${running} are running` : ""}; written ${doc.written}`;
}

function verdict({ study, rows, inside, front }) {
  const full = rows.filter((row) => study.trials.state[row] === "scored");
  if (!full.length) return `${study.study}: no trial is complete.`;
  const kind = (study.provenance[state.device] ?? {}).kind;
  const mark = kind === "analytic" ? ` Latencies on ${state.device} are analytic, not measured on a device.` : "";
  let text = `${study.study}: ${inside.length} of ${rows.length} trained ones are inside, ${front.length} on the front.${mark}`;
  if (!front.length) {
    const row = Fronts.nearest(study, full, state.device, state.limits);
    const held = Object.entries(state.limits).map(([name, most]) => `${name} ${Fronts.held(study, name, state.device)[row].toFixed(1)} of ${most}`);
    text += ` The nearest is trial ${study.trials.trial[row]}: ${held.join(", ")}.`;
  }
  if (study.outside) text += ` ${study.outside} of ${study.proposals.proposed} proposals were over the study's own budget: beyond it this front knows nothing.`;
  return text;
}

function options(id, names, chosen) {
  byId(id).replaceChildren(...names.map((name) => {
    const option = el("option", { value: name }, name === "none" ? "none" : label(name));
    option.selected = name === chosen;
    return option;
  }));
}

function figures() {
  const names = studies().flatMap(({ study }) => [...study.objectives, ...stages(), ...study.metrics, ...study.prices]);
  return [...new Set(["trial", ...names, "seconds"])];
}

function sliders() {
  const limited = new Set([...stages(), ...Object.keys(ownLimits())]);
  byId("sliders").replaceChildren(...[...limited].map((name) => {
    const values = studies().flatMap(({ study }) => Fronts.held(study, name, state.device)).filter(Number.isFinite);
    const most = state.limits[name];
    const high = Math.ceil(values.reduce((a, b) => Math.max(a, b), most ?? 0));
    const low = Math.floor(values.reduce((a, b) => Math.min(a, b), high));
    const both = (kind, more) => el("input", { type: kind, id: `${kind}-${name}`, "aria-label": `limit of ${label(name)}`,
      min: kind === "range" ? low : 0, max: kind === "range" ? high : null, step: kind === "range" ? (high - low) / 400 || 1 : "any", value: most ?? high, ...more });
    const range = both("range"), number = both("number");
    const set = (value) => { state.limits = { ...state.limits, [name]: value }; draw(); };
    range.addEventListener("input", () => { number.value = String(Number(Number(range.value).toFixed(1))); set(Number(number.value)); });
    number.addEventListener("input", () => { if (number.value && Number(number.value) > 0) { range.value = number.value; set(Number(number.value)); } });
    return el("label", {}, label(name), range, number);
  }));
}

function controls() {
  byId("studies").hidden = doc.studies.length < 2;
  byId("studies").replaceChildren(...doc.studies.map((study, index) => {
    const box = el("input", { type: "checkbox", onchange: () => {
      if (box.checked) state.hidden.delete(index); else state.hidden.add(index);
      if (studies().length) { sliders(); draw(); } else { state.hidden.delete(index); box.checked = true; }
    } });
    box.checked = !state.hidden.has(index);
    return el("label", {}, box, ` ${study.study} `);
  }));
  const names = figures();
  options("device", devices(), state.device);
  byId("device").closest("label").hidden = !devices().length;
  options("x", names, state.x); options("y", names, state.y); options("colour", ["none", ...names], state.colour);
  options("distortion", distortions(), state.distortion);
  sliders();
}

function distortions() {
  const points = doc.studies.flatMap((study) => Object.values(study.rd).slice(0, 1).flatMap((curve) => curve.slice(0, 1)));
  return [...new Set(points.flatMap((p) => Object.keys(p)))].filter((n) => n !== "level" && !n.startsWith("bpp"));
}

function defaults() {
  const { objectives } = doc.studies[0];
  state.device = Object.keys(doc.studies[0].latency)[0] ?? null;
  state.limits = ownLimits();
  [state.y, state.x] = objectives.length > 1 ? objectives : [objectives[0], "trial"];
  state.distortion = distortions().includes("lpips") ? "lpips" : distortions()[0];
}

function listen() {
  const bind = (id, name) => byId(id).addEventListener("change", (event) => { state[name] = event.target.value; draw(); });
  for (const name of ["x", "y", "colour", "over", "distortion"]) bind(name, name);
  byId("partial").addEventListener("change", (event) => { state.partial = event.target.checked; draw(); });
  byId("device").addEventListener("change", (event) => { state.device = event.target.value; state.limits = ownLimits(); sliders(); draw(); });
  byId("reset").addEventListener("click", () => { state.limits = ownLimits(); sliders(); draw(); });
  byId("theme").addEventListener("click", () => {
    const { dataset } = document.documentElement;
    dataset.theme = dataset.theme === "dark" ? "light" : "dark";
    draw();
  });
}

/** Takes in a newer document and keeps what is chosen, by trial. */
function renew(newer) {
  const kept = state.chosen.map(({ study, row }) => [doc.studies[study].study, doc.studies[study].trials.trial[row]]);
  doc = newer;
  state.chosen = kept.flatMap(([name, trial]) => {
    const study = doc.studies.findIndex((one) => one.study === name);
    const row = study < 0 ? -1 : doc.studies[study].trials.trial.indexOf(trial);
    return row < 0 ? [] : [{ study, row }];
  });
  if (state.device === null || state.x === null) defaults();
  controls();
  draw();
}

async function follow(seconds) {
  let tag = "";
  for (;;) {
    await new Promise((wake) => { setTimeout(wake, 1000 * seconds); });
    try {
      const answer = await fetch("document", { headers: tag ? { "If-None-Match": tag } : {} });
      if (answer.status === 200) { tag = answer.headers.get("ETag") ?? ""; renew(await unpacked(await answer.text())); }
    } catch { byId("state").textContent = "the server is gone; this is what it said last"; }
  }
}

(async () => {
  if (matchMedia("(prefers-color-scheme: dark)").matches) document.documentElement.dataset.theme = "dark";
  doc = await unpacked(byId("document").textContent);
  defaults(); controls(); listen(); draw();
  const seconds = Number(document.body.dataset.liveSeconds);
  if (seconds > 0) follow(seconds);
})();
