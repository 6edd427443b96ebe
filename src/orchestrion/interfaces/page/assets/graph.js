// Draws the plan's graph. Its data stands in the page; when it changes, the drawing follows without moving what stays.
"use strict";
(() => {
  const frame = document.getElementById("graph");
  const data = () => JSON.parse(document.getElementById("graph-data").dataset.picture);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const tones = {
    in_progress: "accent", review: "amber", blocked: "amber", retrying: "amber", failed: "red",
    completed: "green", ready: "muted", pending: "line-strong", cancelled: "line-strong",
  };
  // A box is as high as its label needs, which breaks between words.
  const pen = document.createElement("canvas").getContext("2d");
  const height = (node) => {
    pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    return Math.max(46, 16 + 14 * Math.ceil(pen.measureText(node.data("label")).width / 145));
  };
  const style = () => [
    { selector: "node", style: {
      shape: "round-rectangle", width: 190, height, label: "data(label)", "text-wrap": "wrap", "text-max-width": 172,
      "text-valign": "center", "text-halign": "center", "font-size": 12, "font-family": getComputedStyle(document.body).fontFamily,
      color: colour("ink"), "background-color": colour("surface"), "border-width": 1, "border-color": colour("line-strong") } },
    ...Object.entries(tones).map(([state, tone]) => ({ selector: `node[state = "${state}"]`, style: { "border-color": colour(tone) } })),
    { selector: 'node[state = "completed"], node[state = "cancelled"]', style: { color: colour("muted"), "border-width": 1, "background-color": colour("sunken") } },
    { selector: "node[?critical]", style: { "border-width": 2 } },
    { selector: "node[?run]", style: { "background-color": colour("accent-soft"), "border-width": 2, "border-color": colour("accent") } },
    { selector: "node[?found]", style: { "outline-width": 3, "outline-color": colour("accent"), "outline-offset": 2 } },
    { selector: "edge", style: {
      width: 1.2, "line-color": colour("line-strong"), "target-arrow-color": colour("line-strong"), "target-arrow-shape": "triangle",
      "arrow-scale": 0.8, "curve-style": "bezier" } },
    { selector: 'edge[kind = "child"], edge[kind = "soft"], edge[state = "waived"]', style: { "line-style": "dashed" } },
    { selector: 'edge[state = "dead"]', style: { "line-color": colour("red"), "target-arrow-color": colour("red") } },
    { selector: "edge[?critical]", style: { width: 2.4, "line-color": colour("accent"), "target-arrow-color": colour("accent") } },
  ];
  // A word that is longer than a line may break: the drawing breaks at spaces, those without a width too.
  const breakable = (label) => label.replace(/\S{25,}/g, (word) => word.replace(/.{14}/gu, "$&\u200b"));
  const drawn = (node) => ({ ...node, label: breakable(node.label) });
  const elements = (picture) => [
    ...picture.nodes.map((node) => ({ group: "nodes", data: drawn(node) })),
    ...picture.edges.map((edge) => ({ group: "edges", data: { ...edge, id: `${edge.from}>${edge.to}>${edge.kind}`, source: edge.from, target: edge.to } })),
  ];
  const layout = { name: "dagre", rankDir: "LR", nodeSep: 14, rankSep: 46, edgeSep: 8, fit: false, animate: false };
  let shown = "";
  const fit = () => {
    cy.fit(undefined, 24);
    if (cy.zoom() > 1) { cy.zoom(1); cy.center(); }
    // Whoever looked for something sees it as it can be read.
    const found = cy.nodes("[?found]");
    if (found.nonempty() && cy.zoom() < 0.55) { cy.zoom(0.55); cy.center(found[0]); }
  };
  const cy = cytoscape({ container: frame, style: style(), boxSelectionEnabled: false, autoungrabify: true, minZoom: 0.02, maxZoom: 2.5 });
  const draw = () => {
    const picture = data(), shape = JSON.stringify([picture.nodes.map((n) => n.id), picture.edges.map((e) => [e.from, e.to])]);
    if (shape !== shown) {
      cy.elements().remove();
      cy.add(elements(picture));
      cy.layout(layout).run();
      fit();
      frame.dataset.zoom = cy.zoom();
      frame.dataset.seen = cy.nodes().filter((node) => { const box = node.renderedBoundingBox(); return box.x1 >= -1 && box.y1 >= -1 && box.x2 <= cy.width() + 1 && box.y2 <= cy.height() + 1; }).length;
      shown = shape;
      return;
    }
    cy.batch(() => picture.nodes.forEach((node) => cy.getElementById(node.id).data(drawn(node))));
  };
  draw();
  frame.dataset.drawn = "yes";
  cy.on("tap", "node", (event) => location.assign(`/tasks/${event.target.id()}`));
  cy.on("mouseover", "node", () => { frame.classList.add("pointing"); });
  cy.on("mouseout", "node", () => { frame.classList.remove("pointing"); });
  const middle = () => ({ x: cy.width() / 2, y: cy.height() / 2 });
  const zoom = (factor) => cy.zoom({ level: cy.zoom() * factor, renderedPosition: middle() });
  const ZOOMS = { fit: () => cy.fit(undefined, 24), in: () => zoom(1.4), out: () => zoom(1 / 1.4) };
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("[data-zoom]");
    if (!button) return;
    ZOOMS[button.dataset.zoom]();
    frame.dataset.zoom = cy.zoom();
  });
  document.addEventListener("theme", () => cy.style(style()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => cy.style(style()));
  document.addEventListener("htmx:afterSettle", draw);
})();
