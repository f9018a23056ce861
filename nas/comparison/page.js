"use strict";
// Draws the curves of a comparison; tables and pictures are in the page already.

const comparison = JSON.parse(document.getElementById("curves").textContent);

function drawCurves() {
  for (const [metric, { label, log, lines }] of Object.entries(comparison.metrics)) {
    const traces = lines.map(({ name, ours, elsewhere, x, y, text }, i) => ({
      x, y, text, name, mode: "lines+markers", hovertemplate: "%{x:.3f} bpp<br>%{text}", opacity: ours ? 1 : 0.85,
      line: {
        color: ours ? Charts.ink("--accent") : comparison.palette[i % comparison.palette.length],
        width: ours ? 3 : 1.5, dash: elsewhere ? "dash" : "solid",
      },
      marker: { size: ours ? 7 : 5 },
    }));
    const axis = { type: "log", dtick: "D2" };
    Charts.draw(`chart-${metric}`, traces, {
      xaxis: { title: { text: "rate of files [bit/pixel]" }, ...axis },
      yaxis: { title: { text: label }, ...(log ? axis : {}) }, legend: { orientation: "h", y: 1.14 },
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
