"use strict";
// Tables, cards and pictures. Whatever comes from files or names is set as text.

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return node;
}

/** A figure as the terminal's tables show it: the same rule as nas/display/tables.py. */
function shown(name, value, { digits, integers }) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number") return String(value);
  if (integers.includes(name)) return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  if (name.endsWith("_ms") || name.endsWith("_ms_upper")) return value.toFixed(1);
  if (Math.abs(value) >= 1e-3 || value === 0) return value.toFixed(digits[name] ?? 2);
  if (Math.abs(value) >= 1e-4) return String(Number(value.toPrecision(2)));
  const [mantissa, power] = value.toExponential(1).split("e-");
  return `${Number(mantissa)}e-${power.padStart(2, "0")}`;
}

const Details = {
  table(id, heads, rows) {
    const table = document.getElementById(id);
    table.replaceChildren(el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", {}, head)))), el("tbody", {}, ...rows));
  },

  frontTable(views, state, format, choose) {
    const several = views.length > 1;
    const objectives = [...new Set(views.flatMap((view) => view.study.objectives))];
    const usual = ["bpp_coded", "psnr", "lpips", ...views[0].study.stages.map((s) => `${s}_ms`), "parameters", "kmacs_per_pixel"];
    const names = [...objectives, ...usual.filter((n) => !objectives.includes(n))]
      .filter((name) => views.some(({ study }) => Fronts.column(study, name, state.device).some((x) => x !== null)));
    const rows = views.flatMap(({ study, index, front }) => front.map((row) => {
      const place = state.chosen.findIndex((one) => one.study === index && one.row === row);
      const trial = study.trials.trial[row];
      const cells = names.map((name) => {
        const value = Fronts.column(study, name, state.device)[row];
        return el("td", { "data-name": name, "data-value": value }, shown(name, value, format));
      });
      const pick = () => choose(index, row);
      return el("tr", {
        tabindex: 0, "data-trial": trial, "aria-selected": place >= 0, onclick: pick,
        class: place < 0 ? null : place ? "chosen second" : "chosen",
        onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(); } },
      }, el("td", {}, several ? `${study.study} ${trial}` : trial), ...cells);
    }));
    Details.table("front-table", ["trial", ...names], rows);
  },

  cards(chosen, state, format, label) {
    document.getElementById("cards").replaceChildren(...chosen.map(({ study, row, second }) => {
      const names = [...new Set([...study.objectives, ...study.stages.map((s) => `${s}_ms`), ...study.prices, ...study.metrics])];
      const pairs = names.flatMap((name) => {
        const value = Fronts.column(study, name, state.device)[row];
        return value === null || value === undefined ? [] : [el("dt", {}, label(name)), el("dd", {}, shown(name, value, format))];
      });
      const kind = (study.provenance[state.device] || {}).kind;
      const mark = kind === "analytic" ? el("p", { class: "analytic" }, `latencies on ${state.device} are analytic, not measured on a device`) : "";
      return el("article", { class: second ? "card second" : "card", "data-trial": study.trials.trial[row] },
        el("h3", {}, `${study.study} trial ${study.trials.trial[row]}`),
        el("p", { class: "dim" }, `architecture ${study.trials.key[row]}`),
        study.trials.weights ? el("p", { class: "dim weights" }, `weights ${study.trials.weights[row]}`) : "", el("dl", {}, ...pairs), mark);
    }));
  },

  choices(chosen) {
    const names = [...new Set(chosen.flatMap(({ study }) => study.choices.names))];
    const value = ({ study, row }, name) => {
      const column = study.choices.names.indexOf(name);
      const option = column < 0 ? null : study.choices.rows[row][column];
      return option === null ? "–" : String(study.choices.options[column][option]);
    };
    const rows = names.map((name) => {
      const values = chosen.map((one) => value(one, name));
      const differs = new Set(values).size > 1;
      return el("tr", {}, el("td", {}, name), ...values.map((x) => el("td", { class: differs ? "differs" : null }, x)));
    });
    Details.table("choices", ["choice", ...chosen.map(({ study, row }) => `trial ${study.trials.trial[row]}`)], rows);
  },

  /** Original and reconstruction, which stand beside each other in one picture, under a divider. */
  pictures(chosen) {
    document.getElementById("pictures").replaceChildren(...chosen.flatMap(({ study, row }) => {
      const trial = study.trials.trial[row];
      const source = study.pictures[trial];
      if (!source) return [];
      if (!source.startsWith("data:image/png;base64,")) return [el("p", { class: "dim" }, `trial ${trial}: original and reconstruction are in ${source}`)];
      const half = (name) => { const node = el("div", { class: `half ${name}` }); node.style.backgroundImage = `url("${source}")`; return node; };
      const [decoded, bar] = [half("decoded"), el("div", { class: "bar" })];
      const move = (share) => { decoded.style.clipPath = `inset(0 0 0 ${share}%)`; bar.style.left = `${share}%`; };
      const input = el("input", { type: "range", min: 0, max: 100, value: 50, step: 0.5, "aria-label": `divider of trial ${trial}: original on the left`, oninput: (event) => move(Number(event.target.value)) });
      const pair = el("div", { class: "pair" }, half("original"), decoded, bar);
      const drag = (event) => {
        if (!event.buttons && event.type !== "pointerdown") return;
        const box = pair.getBoundingClientRect();
        input.value = String(Math.min(100, Math.max(0, (100 * (event.clientX - box.left)) / box.width)));
        move(Number(input.value));
      };
      pair.addEventListener("pointerdown", drag); pair.addEventListener("pointermove", drag);
      move(50);
      return [el("figure", { class: "divider" }, pair, input, el("figcaption", { class: "dim" }, `trial ${trial}: original | reconstruction`))];
    }));
  },

  failed(views) {
    const rows = views.flatMap(({ study }) => study.trials.trial.flatMap((trial, row) => (study.errors[trial]
      ? [el("tr", {}, el("td", {}, `${study.study} ${trial}`), el("td", { class: "text" }, study.trials.state[row]), el("td", { class: "text" }, study.errors[trial]))] : [])));
    Details.table("failed", rows.length ? ["trial", "ended", "why"] : ["none"], rows);
  },

  provenance(views) {
    const names = ["kind", "held_against", "margin_percent", "precision", "chip", "os_build", "date"];
    const rows = views.flatMap(({ study }) => [
      ...Object.entries(study.provenance).map(([device, known]) => el("tr", { class: known.kind === "analytic" ? "analytic" : null },
        el("td", {}, `${study.study}: ${device}`), ...names.map((name) => el("td", { class: "text" }, known[name] ?? "")))),
      ...Object.entries(study.unpriced).map(([device, why]) => el("tr", { class: "dim" }, el("td", {}, `${study.study}: ${device}`), el("td", { class: "text", colspan: names.length }, why))),
    ]);
    Details.table("provenance", ["latencies", "kind", "a budget is held against", "margin %", "precision", "chip", "system", "date"], rows);
    document.getElementById("experiments").replaceChildren(...views.map(({ study }) => {
      const { experiment, ...rest } = study.about;
      return el("details", {}, el("summary", {}, `${study.study}: experiment, versions, machine`),
        el("pre", {}, experiment ?? ""), el("pre", {}, JSON.stringify(rest, null, 1)));
    }));
  },
};
