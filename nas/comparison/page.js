"use strict";
// Draws the curves of a comparison; tables and pictures are in the page already.

const comparison = JSON.parse(document.getElementById("curves").textContent);

function drawCurves() {
  for (const [metric, label] of Object.entries(comparison.labels)) {
    const traces = comparison.codecs.map(({ name, ours, elsewhere, curve }, i) => {
      const points = curve.filter((point) => metric in point).sort((a, b) => a.bpp - b.bpp);
      const colour = comparison.palette[i % comparison.palette.length];
      return {
        x: points.map((point) => point.bpp), y: points.map((point) => point[metric]), name, mode: "lines+markers",
        text: points.map(({ quality }) => (quality === undefined || quality === null ? "" : `quality ${quality}`)),
        hovertemplate: "%{x:.3f} bpp<br>%{y:.4f}<br>%{text}", opacity: ours ? 1 : 0.85,
        line: { color: ours ? Charts.ink("--accent") : colour, width: ours ? 3 : 1.5, dash: elsewhere ? "dash" : "solid" },
        marker: { size: ours ? 7 : 5 },
      };
    });
    Charts.draw(`chart-${metric}`, traces, {
      xaxis: { title: { text: "rate of files [bit/pixel]" }, type: "log", dtick: "D2" },
      yaxis: { title: { text: label } }, legend: { orientation: "h", y: 1.14 },
    });
  }
}

document.getElementById("theme").addEventListener("click", () => {
  const { dataset } = document.documentElement;
  dataset.theme = dataset.theme === "dark" ? "light" : "dark";
  drawCurves();
});
if (matchMedia("(prefers-color-scheme: dark)").matches) document.documentElement.dataset.theme = "dark";
drawCurves();
document.getElementById("state").textContent = document.getElementById("state").dataset.text;
