// A crystal on a canvas: spheres, half bonds and cell edges, drawn from back to front without perspective.
"use strict";

// Atoms closer than this times the sum of their covalent radii are joined.
const BOND = 1.2;
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const plus = (a, b, k = 1) => [a[0] + k * b[0], a[1] + k * b[1], a[2] + k * b[2]];
const times = (rows, v) => rows.map((row) => dot(row, v));

function place(cell, scaled) {
  return [0, 1, 2].map((k) => scaled[0] * cell[0][k] + scaled[1] * cell[1][k] + scaled[2] * cell[2][k]);
}

function* grid(low, high) {
  for (let x = low[0]; x <= high[0]; x++)
    for (let y = low[1]; y <= high[1]; y++) for (let z = low[2]; z <= high[2]; z++) yield [x, y, z];
}

// Every bond of every atom of one cell, as vectors; periodic images are searched as far as the cell is thin. Beside a
// nonmetal metals are not joined to each other: their radii are too large for the ions that they are.
function findBonds(structure, elements) {
  const { cell, symbols, scaled } = structure;
  const ionic = symbols.some((s) => !elements[s].metal);
  const reach = 2 * BOND * Math.max(...symbols.map((s) => elements[s].radius));
  const volume = Math.abs(dot(cell[0], cross(cell[1], cell[2])));
  const images = [0, 1, 2].map((k) => {
    const face = cross(cell[(k + 1) % 3], cell[(k + 2) % 3]);
    return Math.ceil((reach * Math.hypot(...face)) / volume) + 1;
  });
  const shifts = [...grid(images.map((n) => -n), images)].map((shift) => place(cell, shift));
  const places = scaled.map((s) => place(cell, s));
  return places.map((from, i) => {
    const found = [];
    places.forEach((to, j) => {
      if (ionic && elements[symbols[i]].metal && elements[symbols[j]].metal) return;
      const limit = BOND * (elements[symbols[i]].radius + elements[symbols[j]].radius);
      const apart = plus(to, from, -1);
      for (const shift of shifts) {
        const vector = plus(apart, shift);
        const length = Math.hypot(...vector);
        if (length < limit && length > 1e-3) found.push({ vector, length });
      }
    });
    return found;
  });
}

function createViewer(canvas, elements) {
  const context = canvas.getContext("2d");
  let turn = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
  let zoom = 1;
  let scene = null;

  function show(structure, repeat) {
    const bonds = findBonds(structure, elements);
    const { cell, symbols, scaled } = structure;
    const middle = place(cell, [repeat / 2, repeat / 2, repeat / 2]);
    const atoms = [];
    scaled.forEach((s, i) => {
      // Atoms on a face are drawn on the opposite one too.
      const last = s.map((value) => (value < 1e-3 ? repeat : repeat - 1));
      for (const shift of grid([0, 0, 0], last)) {
        atoms.push({ at: plus(place(cell, plus(s, shift)), middle, -1), bonds: bonds[i], ...elements[symbols[i]] });
      }
    });
    const edges = [];
    for (const corner of grid([0, 0, 0], [1, 1, 1])) {
      for (let k = 0; k < 3; k++) {
        if (corner[k]) continue;
        const start = plus(place(cell, corner.map((c) => c * repeat)), middle, -1);
        edges.push({ start, step: cell[k].map((c) => (c * repeat) / 8), name: corner.some(Boolean) ? "" : "abc"[k] });
      }
    }
    const corners = [...grid([0, 0, 0], [1, 1, 1])].map((c) => plus(place(cell, c.map((x) => x * repeat)), middle, -1));
    scene = { atoms, edges, radius: Math.max(...corners.map((c) => Math.hypot(...c))) + 1 };
    canvas.dataset.atoms = atoms.length;
    canvas.dataset.bonds = bonds.reduce((sum, list) => sum + list.length, 0);
    draw();
  }

  function stroke(from, to, width, colour) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.beginPath();
    context.moveTo(from[0], from[1]);
    context.lineTo(to[0], to[1]);
    context.stroke();
  }

  function ball([x, y], r, [red, green, blue]) {
    const shade = (k) => `rgb(${[red, green, blue].map((c) => Math.min(255, Math.round(c * k + (k > 1 ? 60 : 0)))).join()})`;
    const light = context.createRadialGradient(x - r / 3, y - r / 3, r / 10, x, y, r);
    light.addColorStop(0, shade(1.15));
    light.addColorStop(0.5, shade(0.95));
    light.addColorStop(1, shade(0.5));
    context.fillStyle = light;
    context.beginPath();
    context.arc(x, y, r, 0, 2 * Math.PI);
    context.fill();
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!scene || !width) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const scale = (zoom * 0.5 * Math.min(width, height)) / scene.radius;
    const pixel = (p) => [width / 2 + scale * p[0], height / 2 - scale * p[1]];
    const style = getComputedStyle(canvas);
    const ink = style.color;
    const jobs = [];
    for (const { start, step, name } of scene.edges) {
      for (let k = 0; k < 8; k++) {
        const from = times(turn, plus(start, step, k));
        const to = times(turn, plus(start, step, k + 1));
        jobs.push({ depth: (from[2] + to[2]) / 2, run: () => stroke(pixel(from), pixel(to), 1.2, ink) });
      }
      if (name) {
        // Beyond the atom at the end of the edge.
        const at = times(turn, plus(start, step, 8 + 1.1 / Math.hypot(...step)));
        const write = () => {
          context.fillStyle = ink;
          context.font = `italic 14px ${style.fontFamily}`;
          context.fillText(name, pixel(at)[0] - 4, pixel(at)[1] + 4);
        };
        jobs.push({ depth: Infinity, run: write });
      }
    }
    for (const atom of scene.atoms) {
      const at = times(turn, atom.at);
      const radius = 0.38 * atom.radius;
      jobs.push({ depth: at[2], run: () => ball(pixel(at), scale * radius, atom.colour) });
      const colour = `rgb(${atom.colour.map((c) => Math.round(0.8 * c)).join()})`;
      for (const { vector, length } of atom.bonds) {
        const along = times(turn, vector);
        const from = plus(at, along, (0.9 * radius) / length);
        const to = plus(at, along, 0.5);
        jobs.push({ depth: (from[2] + to[2]) / 2, run: () => stroke(pixel(from), pixel(to), 0.16 * scale, colour) });
      }
    }
    jobs.sort((a, b) => a.depth - b.depth);
    for (const job of jobs) job.run();
  }

  function rotate(right, down) {
    const [cx, sx, cy, sy] = [Math.cos(down), Math.sin(down), Math.cos(right), Math.sin(right)];
    const about = [[cy, 0, sy], [sx * sy, cx, -sx * cy], [-cx * sy, sx, cx * cy]];
    const columns = [0, 1, 2].map((k) => turn.map((row) => row[k]));
    turn = about.map((row) => columns.map((column) => dot(row, column)));
    draw();
  }

  function magnify(factor) {
    zoom = Math.min(12, Math.max(0.2, zoom * factor));
    draw();
  }

  function reset() {
    turn = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
    zoom = 1;
    rotate(0, -Math.PI / 2);
    rotate(-0.4, 0.3);
  }

  const held = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    if (held.size === 1) rotate((now[0] - before[0]) / 120, (now[1] - before[1]) / 120);
    else {
      const other = [...held].find(([id]) => id !== event.pointerId)[1];
      const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      magnify(apart(now) / apart(before));
    }
    held.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => held.delete(event.pointerId));
  // The wheel scrolls the page until the picture was clicked on.
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas) return;
    event.preventDefault();
    magnify(Math.exp(-event.deltaY / 500));
  }, { passive: false });
  const keys = {
    ArrowLeft: () => rotate(-0.1, 0), ArrowRight: () => rotate(0.1, 0),
    ArrowUp: () => rotate(0, -0.1), ArrowDown: () => rotate(0, 0.1),
    "+": () => magnify(1.15), "=": () => magnify(1.15), "-": () => magnify(1 / 1.15), 0: reset,
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  window.addEventListener("resize", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  reset();
  return { show, reset, magnify };
}
