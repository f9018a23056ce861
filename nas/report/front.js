"use strict";
// What is inside a budget, and which of it nothing beats. Knows nothing of the page.

const Fronts = {
  /** A figure by row; latencies are those of the device. */
  column(study, name, device) {
    const timed = study.latency[device];
    return (timed && timed[name]) || study.trials[name] || [];
  },

  /** Rows that may stand on a front: full results, and partly trained ones if wanted. */
  rows(study, partial) {
    const { state } = study.trials;
    return state.flatMap((s, row) => (s === "scored" || (partial && s === "complete") ? [row] : []));
  },

  /** Name -> limit to what it is held against, by row. */
  held(study, name, device) {
    const factor = study.held_factor[device] ?? 1;
    const timed = study.latency[device] && study.latency[device][name];
    return Fronts.column(study, name, device).map((value) => (timed ? value * factor : value));
  },

  inside(study, rows, device, limits) {
    const columns = Object.entries(limits).map(([name, most]) => [Fronts.held(study, name, device), most]);
    return rows.filter((row) => columns.every(([held, most]) => !held.length || held[row] <= most));
  },

  /** The row whose limit that is exceeded most is exceeded least. */
  nearest(study, rows, device, limits) {
    const columns = Object.entries(limits).map(([name, most]) => [Fronts.held(study, name, device), most]);
    const excess = (row) => Math.max(...columns.map(([held, most]) => (held[row] - most) / most));
    return rows.reduce((best, row) => (best === null || excess(row) < excess(best) ? row : best), null);
  },

  /** Rows that no other row beats, from the best in the first objective on; equal ones stay. */
  front(study, rows, device) {
    const columns = study.objectives.map((name) => {
      const sign = study.directions[name] === "maximize" ? -1 : 1;
      return Fronts.column(study, name, device).map((value) => (value === null ? NaN : sign * value));
    });
    const values = (row) => columns.map((column) => column[row]);
    const known = rows.filter((row) => values(row).every(Number.isFinite));
    const order = (a, b) => {
      for (const column of columns) if (column[a] !== column[b]) return column[a] - column[b];
      return study.trials.trial[a] - study.trials.trial[b];
    };
    const members = [];
    for (const row of known.sort(order)) {
      const beaten = members.some(
        (other) => columns.every((c) => c[other] <= c[row]) && columns.some((c) => c[other] < c[row]));
      if (!beaten) members.push(row);
    }
    return members;
  },

  /** Of rate-distortion points, those that no other one beats, by rate. */
  envelope(points, name) {
    const sign = Fronts.lessIsBetter(name) ? 1 : -1;
    const sorted = points.filter((p) => Number.isFinite(p[name]))
      .sort((a, b) => a.bpp_coded - b.bpp_coded || sign * (a[name] - b[name]));
    const best = [];
    for (const point of sorted) {
      if (!best.length || sign * point[name] < sign * best[best.length - 1][name]) best.push(point);
    }
    return best;
  },

  lessIsBetter: (name) => name.startsWith("lpips") || name.startsWith("bd_rate"),
};
