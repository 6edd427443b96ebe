// Draws the charts of the statistics; their data stands in the page.
"use strict";
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const shades = { succeeded: "accent", failed: "red", p50: "accent", p95: "amber", cost: "accent" };
  const written = (unit, digits = 2) => (value) => value === null || value === undefined ? "–" : unit === "$" ? `$${value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })}` : unit === "s" ? (value >= 120 ? `${Math.round(value / 60)} min` : `${Number(value.toFixed(1))} s`) : String(Math.round(value * 10) / 10);
  const plots = new Map();
  const options = (plot, chart) => {
    const text = written(chart.unit), line = colour("line"), muted = colour("muted");
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: muted, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    // So many digits that two lines of the grid never have the same label, and room for the longest.
    const labels = (_, values, axis, space, step) => values.map(written(chart.unit, Math.max(2, (String(step).split(".")[1] || "").length)));
    const room = (_, values) => Math.max(52, 16 + 7 * Math.max(0, ...(values || []).map((label) => label.length)));
    const days = (_, moments, axis, space, step) => moments.map((moment) => {
      const iso = new Date((moment - new Date(moment * 1000).getTimezoneOffset() * 60) * 1000).toISOString();
      return step >= 86400 || iso.slice(11, 16) === "00:00" ? iso.slice(0, 10) : iso.slice(11, 16);
    });
    const bars = chart.kind === "bars";
    return {
      width: plot.clientWidth || 400, height: 180, cursor: { y: false, points: { size: 6 } }, legend: { live: true },
      scales: { y: { range: (_, least, most) => [0, (chart.unit === "runs" ? Math.max(most, 1) : most || 1) * 1.1] } },
      axes: [{ ...axis, grid: { show: false }, space: 76, size: 32, values: days }, { ...axis, size: room, values: labels }],
      series: [{}, ...chart.labels.map((label) => ({
        label, stroke: colour(shades[label]), width: bars ? 0 : 1.6, value: (plot, value, at, place) => text(chart.over && at === 1 && value !== null ? value - plot.data[2][place] : value), points: { show: !bars, size: 4 }, spanGaps: true,
        ...(bars ? { fill: colour(shades[label]), paths: uPlot.paths.bars({ size: [0.7, 28] }) } : {}),
      }))],
    };
  };
  // Failures stand on top of successes: the outer bar is drawn first.
  const stacked = (chart) => {
    if (chart.labels.length < 2 || chart.kind !== "bars") return { chart, data: chart.data };
    const [at, good, bad] = chart.data;
    return { chart: { ...chart, over: true, labels: [chart.labels[1], chart.labels[0]] }, data: [at, good.map((value, place) => value + bad[place]), good] };
  };
  const draw = () => {
    const place = document.getElementById("chart-data");
    if (!place) return;
    const series = JSON.parse(place.dataset.series);
    for (const plot of document.querySelectorAll("[data-chart]")) {
      const { chart, data } = stacked(series[plot.dataset.chart]), known = plots.get(plot);
      if (known) { known.setData(data); continue; }
      const made = new uPlot(options(plot, chart), data, plot);
      plots.set(plot, made);
      new ResizeObserver(() => made.setSize({ width: plot.clientWidth, height: 180 })).observe(plot);
    }
    document.documentElement.dataset.charts = "drawn";
  };
  const again = () => { for (const [plot, made] of plots) { made.destroy(); plots.delete(plot); } draw(); };
  draw();
  document.addEventListener("theme", again);
  document.addEventListener("htmx:afterSettle", draw);
})();
