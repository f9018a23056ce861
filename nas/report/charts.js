"use strict";
// Plotly charts of what is shown. They read, and draw; nothing here changes what is chosen.

const PALETTE = ["#0b5fa5", "#b3362b", "#2e7d4f", "#8a5a00", "#6a3d9a", "#00798c"];
// Of trials whose weights are not their own alone; see evaluators/inherited.py.
const SYMBOLS = { inherited: "triangle-up", "fine-tuned": "diamond" };
const FEW = 1500; // points that SVG draws at once; of more, WebGL does

const Charts = {
  ink: (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim(),

  draw(id, traces, layout) {
    const ink = Charts.ink("--ink"), line = Charts.ink("--line");
    const axis = (given) => ({ gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, ...given });
    const whole = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 13 },
      margin: { l: 60, r: 15, t: 15, b: 50 }, hovermode: "closest",
      legend: { orientation: "h", y: 1.12 }, uirevision: layout.uirevision ?? id,
      ...layout, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
    };
    return Plotly.react(id, traces, whole, { responsive: true, displaylogo: false, scrollZoom: true });
  },

  above: { orientation: "h", yref: "container", y: 1, yanchor: "top" },

  /** As high as its bars need. */
  tall(id, bars) {
    const height = Math.max(180, 90 + bars);
    document.getElementById(id).style.height = `${height}px`;
    return height;
  },

  /** Trials by any two figures. `views`: {study, index, front, inside, outside} each. */
  front(views, state, label) {
    const traces = views.flatMap((view) => Charts._trials(view, state, views.length > 1));
    return Charts.draw("front-chart", traces, {
      xaxis: { title: { text: label(state.x) } }, yaxis: { title: { text: label(state.y) } },
      uirevision: `${state.x} ${state.y}`,
      coloraxis: { colorscale: "Viridis", colorbar: { title: { text: label(state.colour), side: "right" } }, showscale: state.colour !== "none" },
    });
  },

  _trials(view, state, several) {
    const { study, index } = view;
    const column = (name) => (name === "trial" ? study.trials.trial : Fronts.column(study, name, state.device));
    const [xs, ys] = [column(state.x), column(state.y)];
    const hue = state.colour && state.colour !== "none" ? column(state.colour) : null;
    const { weights } = study.trials;
    const shapes = (rows, marker) => (weights && !marker.symbol ? { symbol: rows.map((row) => SYMBOLS[weights[row]] ?? "circle") } : {});
    const known = (row) => Number.isFinite(xs[row]) && Number.isFinite(ys[row]);
    const trace = (name, rows, marker, more) => ({
      type: rows.length > FEW ? "scattergl" : "scatter", mode: "markers", name: several ? `${study.study}: ${name}` : name,
      x: rows.map((row) => xs[row]), y: rows.map((row) => ys[row]),
      customdata: rows.map((row) => [index, row]),
      text: rows.map((row) => [`trial ${study.trials.trial[row]}`, weights && weights[row]].filter(Boolean).join(", ")),
      hovertemplate: "%{text}<br>%{x}<br>%{y}<extra></extra>",
      marker: { ...marker, ...shapes(rows, marker), ...(hue ? { color: rows.map((row) => hue[row]), coloraxis: "coloraxis" } : {}) },
      showlegend: !hue, ...more,
    });
    const members = new Set(view.front);
    const dominated = view.inside.filter((row) => !members.has(row) && known(row));
    const front = view.front.filter(known);
    const colour = PALETTE[index % PALETTE.length];
    const staircase = study.objectives.length === 2 && [state.x, state.y].every((n) => study.objectives.includes(n));
    if (staircase) front.sort((a, b) => xs[a] - xs[b]);
    const sparse = Charts.ink("--dim");
    const traces = [
      trace("over the budget", view.outside.filter(known), { color: sparse, size: 5, symbol: "x", opacity: 0.25 }),
      trace("dominated", dominated, { color: colour, size: 6, opacity: 0.35 }),
      trace("front", front, { color: colour, size: 9 }, staircase
        ? { mode: "lines+markers", line: { shape: "hv", color: colour, width: 1.5 } } : {}),
    ];
    // A legend knows no colour of many: it gets the plain one.
    if (hue) traces.push(...traces.map(({ name, marker, mode }) => ({ name, mode, x: [null], y: [null],
      marker: { ...marker, color: colour, coloraxis: null } })));
    if (weights) traces.push(...Object.entries(SYMBOLS).filter(([name]) => weights.includes(name)).map(([name, symbol]) => (
      { type: "scatter", mode: "markers", name: `${name} weights`, x: [null], y: [null], marker: { color: colour, size: 8, symbol } })));
    const chosen = state.chosen.filter((one) => one.study === index);
    if (chosen.length) {
      const ring = { color: "rgba(0,0,0,0)", size: 16, line: { color: Charts.ink("--accent"), width: 2.5 } };
      traces.push(trace("chosen", chosen.map((one) => one.row), {}, { marker: ring, hoverinfo: "skip", showlegend: false }));
    }
    return traces;
  },

  /** Curves of the fronts, what they dominate dimmed, the envelope of all of them, and peers. */
  curves(id, views, distortion, label) {
    const traces = [];
    const points = [];
    const line = (curve) => curve.slice().sort((a, b) => a.bpp_coded - b.bpp_coded);
    for (const { study, index, front, inside } of views) {
      const members = new Set(front);
      const colour = PALETTE[index % PALETTE.length];
      const dim = { x: [], y: [], name: "dominated", mode: "lines", line: { color: colour, width: 1 }, opacity: 0.2, hoverinfo: "skip" };
      for (const row of inside) {
        const curve = study.rd[study.trials.trial[row]];
        if (!curve) continue;
        points.push(...curve);
        if (members.has(row)) {
          const sorted = line(curve);
          traces.push({
            x: sorted.map((p) => p.bpp_coded), y: sorted.map((p) => p[distortion]), mode: "lines+markers",
            name: `trial ${study.trials.trial[row]}`, marker: { size: 5 }, line: { width: 1.3 },
          });
        } else {
          for (const p of line(curve)) { dim.x.push(p.bpp_coded); dim.y.push(p[distortion]); }
          dim.x.push(null); dim.y.push(null);
        }
      }
      if (dim.x.length) traces.unshift(dim);
    }
    const best = Fronts.envelope(points, distortion);
    traces.push({ x: best.map((p) => p.bpp_coded), y: best.map((p) => p[distortion]), mode: "lines", name: "envelope",
      line: { color: Charts.ink("--ink"), width: 4, shape: "linear" }, opacity: 0.45 });
    const peers = Object.assign({}, ...views.map(({ study }) => study.peers));
    traces.push(...Charts.peers(peers, distortion));
    return Charts.draw(id, traces, {
      xaxis: { title: { text: label("bpp_coded") } }, yaxis: { title: { text: label(distortion) } }, uirevision: distortion,
      showlegend: traces.length < 30,
    });
  },

  peers: (peers, distortion) => Object.entries(peers).map(([name, curve]) => ({
    x: curve.map((p) => p.bpp_coded), y: curve.map((p) => p[distortion]), name, mode: "lines+markers",
    line: { dash: "dash", color: Charts.ink("--dim") }, marker: { symbol: "square" },
  })),

  /** What eats the budget: a bar a block, in order of execution. */
  blocks(chosen, device) {
    const names = [], traces = [];
    for (const { study, row, colour } of chosen) {
      const { blocks, trials, latency } = study;
      const stages = blocks.rows[trials.trial[row]];
      const taken = blocks.ms[device];
      if (!stages || !taken) continue;
      const labels = [], ms = [], text = [];
      for (const [stage, steps] of Object.entries(stages)) {
        let sum = 0;
        for (const [step, sign] of steps) {
          labels.push(`${stage} · ${blocks.names[step]}`);
          ms.push(taken[sign]); sum += taken[sign]; text.push(blocks.signatures[sign]);
        }
        labels.push(`${stage} · dispatch and coding`);
        ms.push(Math.max(0, latency[device][`${stage}_ms`][row] - sum));
        text.push("what is not hidden behind the network");
      }
      traces.push({ type: "bar", orientation: "h", y: labels, x: ms, text, textposition: "none",
        name: `trial ${trials.trial[row]}`, marker: { color: colour }, hovertemplate: "%{x:.2f} ms<br>%{text}<extra></extra>" });
      for (const name of labels) if (!names.includes(name)) names.push(name);
    }
    const height = Charts.tall("blocks-chart", 18 * names.length * Math.max(1, traces.length));
    return Charts.draw("blocks-chart", traces, {
      height, barmode: "group", xaxis: { title: { text: `milliseconds of an image on ${device}` } },
      yaxis: { categoryorder: "array", categoryarray: names.slice().reverse(), dtick: 1 }, margin: { l: 150, r: 15, t: 40, b: 45 }, legend: Charts.above,
    });
  },

  progress(views, over) {
    const traces = views.map(({ study, index }) => ({
      x: study.volume[over], y: study.volume.hypervolume, name: study.study, mode: "lines+markers",
      line: { shape: "hv", color: PALETTE[index % PALETTE.length] }, marker: { size: 4 },
    }));
    const title = over === "hours" ? "hours since the first trial began" : "results";
    return Charts.draw("progress-chart", traces, { uirevision: over,
      xaxis: { title: { text: title } }, yaxis: { title: { text: "hypervolume" } } });
  },

  importance(views) {
    const traces = views.flatMap(({ study }) => Object.entries(study.importance).map(([objective, shares]) => ({
      type: "bar", orientation: "h", name: views.length > 1 ? `${study.study}: ${objective}` : objective,
      x: Object.values(shares), y: Object.keys(shares),
    })));
    const names = new Set(traces.flatMap((trace) => trace.y));
    const height = Charts.tall("importance-chart", 24 * names.size);
    return Charts.draw("importance-chart", traces, { height, margin: { l: 150, r: 15, t: 40, b: 45 }, legend: Charts.above, barmode: "group",
      xaxis: { title: { text: "share of an objective's variance (fANOVA)" } }, yaxis: { autorange: "reversed", dtick: 1 } });
  },
};
